"""Pictures: slices as grey values, scores, classes and overlays, side by side with a legend.

All pictures are uint8 arrays (y, x, 3) until ``png_bytes``. Slices of more than ``DISPLAY_PX`` are
reduced: grey values and scores by their mean, classes by the nearest voxel, so that no new class
appears. Text inside a picture is ASCII and µ, because Pillow's font has no other characters.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont, UnidentifiedImageError
from PIL.PngImagePlugin import PngInfo

from ..base.errors import GeometryError
from .drawn_text import draw_middle, drawable, width_of

Rgb: TypeAlias = NDArray[np.uint8]
Colour: TypeAlias = tuple[int, int, int]

DISPLAY_PX = 1024
CLASS_COLOURS: tuple[Colour, ...] = (  # Okabe and Ito (2008): for colour-blind readers
    (30, 34, 42),
    (230, 159, 0),
    (86, 180, 233),
    (0, 158, 115),
    (204, 121, 167),
    (240, 228, 66),
    (0, 114, 178),
    (213, 94, 0),
)
_INK: Colour = (32, 38, 46)
_MARGIN_PX = 16
_TITLE_PX = 18
_SHOWN_PX = 420
"""Smaller pictures are enlarged to about this size."""
_BAR_PX = 32
_SCALE_BARS_UM = tuple(digit * 10.0**power for power in range(-3, 6) for digit in (1, 2, 5))


@dataclass(frozen=True, slots=True, kw_only=True)
class Legend:
    """Names of the classes, shown beside their colours, in the order of the classes."""

    class_names: tuple[str, ...]


def grey_picture(image: NDArray[Any]) -> Rgb:
    """Return a slice (y, x) or (c, y, x) as grey, stretched between its 0.5 and 99.5 percentile.

    Three channels of uint8 are shown as red, green and blue; of other channels the mean is shown.
    A flat slice is mid-grey; NaN is black.
    """
    if image.ndim == 3 and image.shape[0] == 3 and image.dtype == np.uint8:
        return fitted(np.ascontiguousarray(np.moveaxis(image, 0, -1)))
    image_yx = np.asarray(image, np.float32)
    if image.ndim == 3:
        image_yx = image_yx.mean(axis=0)
    _require_slice(image_yx)
    return fitted(_as_rgb(_stretched(image_yx) * 255))


def scores_picture(scores_cyx: NDArray[Any]) -> Rgb:
    """Return scores (classes, y, x) from 0 to 1 as a mix of the classes' colours.

    Certain voxels have a full colour, uncertain ones a mixed colour.
    """
    if scores_cyx.ndim != 3:
        raise GeometryError(f"scores of shape {scores_cyx.shape}: expected axes c, y, x")
    weights = np.nan_to_num(np.asarray(scores_cyx, np.float32)).clip(0, 1)
    mixed = np.tensordot(weights, _palette(len(weights)).astype(np.float32), axes=(0, 0))
    return fitted(np.rint(mixed).clip(0, 255).astype(np.uint8))


def channels_picture(scores_cyx: NDArray[Any]) -> Rgb:
    """Return scores (channel, y, x) from 0 to 1 that are not classes, in :func:`channel_colours`.

    One channel is grey; of several, the first three are red, green and blue.
    """
    if scores_cyx.ndim != 3:
        raise GeometryError(f"scores of shape {scores_cyx.shape}: expected axes c, y, x")
    shown = np.nan_to_num(np.asarray(scores_cyx[:3], np.float32)).clip(0, 1)
    colours = np.array(channel_colours(len(shown)), np.float32)
    mixed = np.tensordot(shown, colours, axes=(0, 0))
    return fitted(np.rint(mixed).clip(0, 255).astype(np.uint8))


def channel_colours(channels: int) -> tuple[Colour, ...]:
    """Return the colours of the channels that :func:`channels_picture` shows."""
    if channels == 1:
        return ((255, 255, 255),)
    return ((255, 0, 0), (0, 255, 0), (0, 0, 255))[:channels]


def channels_text(names: Sequence[str]) -> str:
    """Return which channel has which colour.

    >>> channels_text(["affinity -1,0", "affinity 0,-1"]), channels_text(["distance"])
    ('red: affinity -1,0, green: affinity 0,-1', 'white: distance')
    """
    colours = ("white",) if len(names) == 1 else ("red", "green", "blue")
    return ", ".join(f"{colour}: {name}" for colour, name in zip(colours, names, strict=False))


def classes_picture(classes_yx: NDArray[Any]) -> Rgb:
    """Return classes (y, x) in their colours, which repeat (all but class 0's) from class 8 on."""
    _require_slice(classes_yx)
    return _coloured(nearest(classes_yx, _display_shape(classes_yx.shape)))


def overlay_picture(image: NDArray[Any], classes_yx: NDArray[Any]) -> Rgb:
    """Return the image, (y, x) or (c, y, x), under half-transparent classes; class 0 is clear."""
    _require_slice(classes_yx)
    if image.shape[-2:] != classes_yx.shape:
        raise GeometryError(
            f"image {image.shape[-2:]} and classes {classes_yx.shape}: expected one shape"
        )
    below = grey_picture(image)
    labels = nearest(classes_yx, below.shape[:2])
    blended = np.rint(0.45 * below + 0.55 * _coloured(labels)).astype(np.uint8)
    return np.where((labels != 0)[..., None], blended, below)


def panel(
    titled: Sequence[tuple[str, Rgb]],
    *,
    columns: int | None = None,
    legend: Legend | None = None,
    um_per_px: float | None = None,
) -> Rgb:
    """Return pictures side by side on white: titles above, a scale bar in each, the legend below.

    titled: (title, picture) pairs, all of one shape. columns: pictures per row; by default
    all, or two rows for more than three. um_per_px: width of a displayed pixel (see
    ``displayed_um``).
    Raises GeometryError without pictures, or for pictures of different shapes.
    """
    shapes = {picture.shape for _, picture in titled}
    if len(shapes) != 1:
        raise GeometryError(
            f"pictures of shapes {shapes or 0}: expected one or more pictures of one shape"
        )
    cells = [_titled(*enlarged(p), title=title, um_per_px=um_per_px) for title, p in titled]
    across = columns or (len(cells) if len(cells) <= 3 else -(-len(cells) // 2))
    height, width = cells[0].shape[:2]
    down = -(-len(cells) // across)
    sheet = np.full((down * height + _MARGIN_PX, across * width + _MARGIN_PX, 3), 255, np.uint8)
    for n, cell in enumerate(cells):
        row, column = divmod(n, across)
        sheet[row * height :, column * width :][:height, :width] = cell
    if legend is None:
        return sheet
    return np.concatenate([sheet, legend_strip(legend, width=sheet.shape[1])])


def legend_strip(legend: Legend, *, width: int) -> Rgb:
    """Return a white strip of ``width`` with a coloured square and a name per class."""
    font = ImageFont.load_default(15)
    places, x, y = [], _MARGIN_PX, 0
    for name in map(drawable, legend.class_names):
        wide = 22 + int(font.getlength(name)) + 28
        if x + wide > width and x > _MARGIN_PX:
            x, y = _MARGIN_PX, y + 26
        places.append((x, y, name))
        x += wide
    strip = Image.new("RGB", (width, y + 26 + _MARGIN_PX // 2), "white")
    draw = ImageDraw.Draw(strip)
    for (x, y, name), colour in zip(places, _palette(len(places)).tolist(), strict=True):
        draw.rectangle((x, y + 2, x + 14, y + 16), fill=tuple(colour), outline=_INK)
        draw.text((x + 22, y), name, font=font, fill=_INK)
    return np.asarray(strip)


def displayed_um(voxel_um: float, *, size: int) -> float:
    """Return the width in µm of a displayed pixel of a slice whose longer side has ``size`` voxels.

    >>> displayed_um(0.1, size=4096)
    0.4
    """
    return voxel_um * max(1.0, size / DISPLAY_PX)


def fitted(picture: Rgb) -> Rgb:
    """Return ``picture`` with its longer side at most ``DISPLAY_PX``; pixels are means."""
    shape = _display_shape(picture.shape)
    if shape == picture.shape[:2]:
        return picture
    return np.asarray(Image.fromarray(picture).resize(shape[::-1], Image.Resampling.BOX))


def png_bytes(picture: Rgb, *, software: str | None = None) -> bytes:
    """Return the picture as a PNG file. software: the program that made it, stated in the file."""
    file, stated = io.BytesIO(), PngInfo()
    if software is not None:
        stated.add_text("Software", software)
    Image.fromarray(picture).save(file, format="PNG", optimize=True, pnginfo=stated)
    return file.getvalue()


def software_of(path: Path) -> str | None:
    """Return the program that a PNG file states, None for any other file. Raises OSError."""
    try:
        with Image.open(path) as image:
            stated = image.info.get("Software")
    except UnidentifiedImageError:
        return None
    return stated if isinstance(stated, str) else None


def read_picture(path: Path) -> Rgb:
    """Return a PNG file as a picture. Raises OSError."""
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))


def smaller(picture: Rgb, *, width: int) -> Rgb:
    """Return ``picture`` at most ``width`` wide; pixels are means."""
    if picture.shape[1] <= width:
        return picture
    height = max(1, round(picture.shape[0] * width / picture.shape[1]))
    return np.asarray(Image.fromarray(picture).resize((width, height), Image.Resampling.BOX))


def scale_bar_um(width_um: float) -> float:
    """Return the longest of 1, 2, 5, 10, … µm that takes at most a quarter of ``width_um``.

    >>> scale_bar_um(25.6)
    5.0
    """
    return max((bar for bar in _SCALE_BARS_UM if bar <= width_um / 4), default=_SCALE_BARS_UM[0])


def scale_bar_text(um_per_px: float, *, width: int) -> str:
    """Return the length of the scale bar of a picture of this width.

    >>> scale_bar_text(0.1, width=256), scale_bar_text(0.004, width=250)
    ('5 µm', '200 nm')
    """
    length_um = scale_bar_um(width * um_per_px)
    return f"{length_um * 1000:g} nm" if length_um < 1 else f"{length_um:g} µm"


def enlarged(picture: Rgb) -> tuple[Rgb, int]:
    """Return a small picture enlarged to some 420 pixels, and by how much; others unchanged."""
    zoom = max(1, round(_SHOWN_PX / max(picture.shape[:2])))
    return np.kron(picture, np.ones((zoom, zoom, 1), np.uint8)), zoom


def with_scale_bar(picture: Rgb, *, um_per_px: float) -> Rgb:
    """Return the picture with a scale bar in its lower right corner, where it is large enough."""
    height, width = picture.shape[:2]
    sheet = Image.fromarray(picture)
    if height >= 3 * _BAR_PX:
        _draw_scale_bar(
            ImageDraw.Draw(sheet), (width, height), um_per_px=um_per_px, width=width,
            scale=1.5 * max(1.0, width / _SHOWN_PX),
        )  # fmt: skip
    return np.asarray(sheet)


def _titled(picture: Rgb, zoom: int, *, title: str, um_per_px: float | None) -> Rgb:
    """Return ``picture`` with a margin left and above, its title, and a scale bar inside."""
    height, width = picture.shape[:2]
    top = _MARGIN_PX + _TITLE_PX + 8
    sheet = Image.new("RGB", (width + _MARGIN_PX, height + top), "white")
    draw = ImageDraw.Draw(sheet)
    text, font = _shortened(drawable(title), width=width)
    draw.text((_MARGIN_PX, _MARGIN_PX - 4), text, font=font, fill=_INK)
    sheet.paste(Image.fromarray(picture), (_MARGIN_PX, top))
    if um_per_px is not None:
        corner = (_MARGIN_PX + width, top + height)
        _draw_scale_bar(draw, corner, um_per_px=um_per_px / zoom, width=width)
    return np.asarray(sheet)


def _draw_scale_bar(
    draw: ImageDraw.ImageDraw,
    corner: tuple[int, int],
    *,
    um_per_px: float,
    width: int,
    scale: float = 1.0,
) -> None:
    """Draw a white bar on a dark ground into the lower right ``corner`` of a picture.

    scale: of the text and the thickness of the bar.
    """
    length = max(1, round(scale_bar_um(width * um_per_px) / um_per_px))
    label = scale_bar_text(um_per_px, width=width)
    ground = max(length, int(width_of(label, size=14 * scale))) + 16 * scale
    if ground > width:
        return
    right, bottom = corner
    draw.rectangle(
        (right - ground, bottom - _BAR_PX * scale, right - 1, bottom - 1), fill=(0, 0, 0)
    )
    middle = right - ground / 2
    draw_middle(draw, (middle, bottom - 30 * scale), label, size=14 * scale, fill=(255, 255, 255))
    left = middle - length / 2
    draw.rectangle((left, bottom - 9 * scale, left + length - 1, bottom - 6 * scale), fill="white")


def _shortened(text: str, *, width: int) -> tuple[str, Any]:
    """Return the text and a font in which it fits; text that is too long ends in dots."""
    font = ImageFont.load_default(_TITLE_PX)
    if font.getlength(text) > width:
        font = ImageFont.load_default(_TITLE_PX - 5)
    while font.getlength(text) > width and len(text) > 3:
        text = text[:-4] + "..."
    return text, font


def _stretched(image_yx: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return grey values from 0 to 1, the 0.5 and 99.5 percentiles of the finite ones."""
    finite = image_yx[np.isfinite(image_yx)]
    low, high = np.percentile(finite, (0.5, 99.5)) if finite.size else (0.0, 0.0)
    if high <= low:
        low, high = (finite.min(), finite.max()) if finite.size else (0.0, 0.0)
    if high <= low:
        return np.where(np.isfinite(image_yx), np.float32(0.5), np.float32(0))
    return np.nan_to_num((image_yx - low) / (high - low)).clip(0, 1).astype(np.float32)


def _as_rgb(grey_yx: NDArray[np.float32]) -> Rgb:
    return np.repeat(np.rint(grey_yx).astype(np.uint8)[..., None], 3, axis=-1)


def _coloured(classes_yx: NDArray[Any]) -> Rgb:
    """Return (y, x, 3): background's colour for class 0, the others' in turn."""
    others = len(CLASS_COLOURS) - 1
    labels = classes_yx.astype(np.int64)
    index = np.where(labels == 0, 0, (labels - 1) % others + 1)
    coloured: Rgb = np.array(CLASS_COLOURS, np.uint8)[index]
    return coloured


def class_colour(number: int) -> Colour:
    """Return the colour of a class."""
    red, green, blue = _palette(number + 1)[number].tolist()
    return red, green, blue


def _palette(classes: int) -> Rgb:
    """Return (classes, 3), the colour of each class."""
    return _coloured(np.arange(classes)[None])[0]


def _display_shape(shape: tuple[int, ...]) -> tuple[int, int]:
    """Return the displayed (y, x) of a slice: same proportions, at most ``DISPLAY_PX``."""
    height, width = shape[:2]
    shrink = min(1.0, DISPLAY_PX / max(height, width))
    return max(1, round(height * shrink)), max(1, round(width * shrink))


def nearest(classes_yx: NDArray[Any], shape: tuple[int, ...]) -> NDArray[Any]:
    """Return the classes at ``shape``, of the voxel in the middle of each pixel."""
    rows, columns = (
        ((np.arange(shown) + 0.5) * size / shown).astype(int)
        for shown, size in zip(shape, classes_yx.shape, strict=True)
    )
    nearest: NDArray[Any] = classes_yx[rows[:, None], columns]
    return nearest


def _require_slice(array_yx: NDArray[Any]) -> None:
    if array_yx.ndim != 2 or 0 in array_yx.shape:
        raise GeometryError(
            f"slice of shape {array_yx.shape}: expected axes y, x and at least one voxel"
        )
