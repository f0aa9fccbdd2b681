"""The picture of a preview: a row per place, the histograms of the grey values, and the notes."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from ..report import pictures
from ..report.drawn_text import drawable
from ..report.histogram import Band, Mark, histogram_picture
from ..report.pictures import Rgb
from ..volume.intensity import Intensity
from .places import Place

MOST_CHANNELS: Final = 4
"""Channels with a picture and a histogram each; of more channels, the first are shown."""
_HEADING_PX, _NOTE_PX, _SIDE_PX = 17, 14, 16
_WHOLE_PX: Final = 640
"""Longer side of a whole image: its details are shown below it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """One place: grey values as stored (c, y, x), and scores (class, y, x)."""

    place: Place
    raw_cyx: NDArray[Any]
    scores_cyx: NDArray[np.float32]

    def detail(self, place: Place) -> Scene:
        """Return a part of a whole flat image."""
        part = (slice(None), *place.box.slices[1:])
        return Scene(place=place, raw_cyx=self.raw_cyx[part], scores_cyx=self.scores_cyx[part])


@dataclass(frozen=True, slots=True, kw_only=True)
class Sheet:
    """Everything that the picture shows."""

    scenes: tuple[Scene, ...]
    class_names: tuple[str, ...]
    has_classes: bool = True
    """Whether scores are those of classes, of which each voxel has one."""
    intensity: Intensity
    spatial_axes: str
    channels: tuple[int, ...]
    """Number of each channel in the volume."""
    normalisation: str
    """In words."""
    input_percentiles: Mapping[str, Sequence[float]] | None
    """Of the network's input in training, per channel, if the weights state them."""
    um_per_voxel: float | None
    """Along x."""
    heading: tuple[str, ...]
    notes: tuple[str, ...]


def draw(sheet: Sheet) -> Rgb:
    """Return the picture of a preview."""
    rows = [_row(sheet, scene) for scene in sheet.scenes]
    width = max(row.shape[1] for row in rows)
    parts = [
        _lines(sheet.heading, width=width, size=_HEADING_PX),
        *(_padded(row, width=width) for row in rows),
        _legend(sheet, width=width),
        *_histograms(sheet, width=width),
    ]
    if sheet.notes:
        parts.append(_lines([f"note: {note}" for note in sheet.notes], width=width, size=_NOTE_PX))
    return np.concatenate(parts)


def _row(sheet: Sheet, scene: Scene) -> Rgb:
    raw, scores = scene.raw_cyx, scene.scores_cyx
    at = ", ".join(
        f"{axis} {start}"
        for axis, start in zip("zyx", scene.place.box.start, strict=True)
        if axis in sheet.spatial_axes
    )
    titled = [
        *((f"{name}, {scene.place.name}", picture) for name, picture in _raw(sheet, raw)),
        (
            "scores" if scene.place.is_whole else f"scores at {at}",
            pictures.scores_picture(scores)
            if sheet.has_classes
            else pictures.channels_picture(scores),
        ),
    ]
    if sheet.has_classes:
        titled.append(("overlay", pictures.overlay_picture(raw, np.argmax(scores, axis=0))))
    um, size = sheet.um_per_voxel, max(raw.shape[1:])
    if scene.place.is_whole and size > _WHOLE_PX:
        titled = [(title, _reduced(picture)) for title, picture in titled]
        um_per_px = None if um is None else um * size / _WHOLE_PX
    else:
        um_per_px = None if um is None else pictures.displayed_um(um, size=size)
    return pictures.panel(titled, columns=len(titled), um_per_px=um_per_px)


def _reduced(picture: Rgb) -> Rgb:
    """Return the picture with a longer side of ``_WHOLE_PX``; pixels are means."""
    height, width = picture.shape[:2]
    return pictures.smaller(picture, width=max(1, round(width * _WHOLE_PX / max(height, width))))


def _legend(sheet: Sheet, *, width: int) -> Rgb:
    """Return the classes and their colours, or which channel has which colour."""
    if sheet.has_classes:
        return pictures.legend_strip(pictures.Legend(class_names=sheet.class_names), width=width)
    return _lines(
        [f"scores: {pictures.channels_text(sheet.class_names)}"], width=width, size=_NOTE_PX
    )


def _raw(sheet: Sheet, raw_cyx: NDArray[Any]) -> list[tuple[str, Rgb]]:
    """Return one picture of a grey or an RGB image, else one per channel."""
    is_rgb = len(raw_cyx) == 3 and raw_cyx.dtype == np.uint8
    if is_rgb or len(raw_cyx) == 1:
        shown = raw_cyx if is_rgb else raw_cyx[0]
        return [("raw", pictures.grey_picture(shown))]
    return [
        (f"channel {number}", pictures.grey_picture(channel))
        for number, channel in zip(sheet.channels, raw_cyx[:MOST_CHANNELS], strict=False)
    ]


def _histograms(sheet: Sheet, *, width: int) -> list[Rgb]:
    """Return rows of histograms of the grey values of all places together, one per channel."""
    count = min(len(sheet.channels), MOST_CHANNELS)
    across = count if count <= 3 else 2
    cells = [_histogram(sheet, n, width=width // across) for n in range(count)]
    rows = [cells[first : first + across] for first in range(0, count, across)]
    return [_padded(np.concatenate(row, axis=1), width=width) for row in rows]


def _histogram(sheet: Sheet, channel: int, *, width: int) -> Rgb:
    first = sheet.scenes[0]
    shown = [first] if first.place.is_whole else sheet.scenes
    values = np.concatenate([scene.raw_cyx[channel].ravel() for scene in shown])
    offset, scale = (
        numbers[min(channel, len(numbers) - 1)]
        for numbers in (sheet.intensity.offset, sheet.intensity.scale)
    )

    def grey(x: float) -> float:
        return offset + x / scale

    marks = [Mark(grey(x), f"{grey(x):.4g} -> {x}") for x in (0, 1)]
    band = None
    if sheet.input_percentiles is not None:
        low, middle, high = (grey(sheet.input_percentiles[p][channel]) for p in ("1", "50", "99"))
        band = Band(low, middle, high, "training: 1, 50, 99 %")
    name = f"grey values of channel {sheet.channels[channel]}"
    if len(sheet.channels) == 1:
        name = f"grey values of the {'image' if first.place.is_whole else 'boxes'}"
    title = f"{name}; normalisation {sheet.normalisation}"
    return histogram_picture(values, title=title, marks=marks, band=band, width=width)


def _lines(lines: Sequence[str], *, width: int, size: int) -> Rgb:
    """Return lines of text on white, wrapped at the width."""
    font = ImageFont.load_default(size)
    letters = int((width - 2 * _SIDE_PX) / font.getlength("n"))
    wrapped = [part for line in lines for part in textwrap.wrap(drawable(line), letters)]
    strip = Image.new("RGB", (width, len(wrapped) * (size + 6) + 10), "white")
    drawing = ImageDraw.Draw(strip)
    for number, line in enumerate(wrapped):
        drawing.text((_SIDE_PX, 5 + number * (size + 6)), line, font=font, fill=(32, 38, 46))
    return np.asarray(strip)


def _padded(picture: Rgb, *, width: int) -> Rgb:
    return np.pad(picture, ((0, 0), (0, width - picture.shape[1]), (0, 0)), constant_values=255)
