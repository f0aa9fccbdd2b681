"""An OME-Zarr image that is to be made, and the metadata that says so: pure, nothing is written."""

from __future__ import annotations

import colorsys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np

from ..base.errors import OutputError
from ..base.geometry import Shape
from ..base.network_outputs import ATTRIBUTE, CLASSES, NetworkOutputs

Version: TypeAlias = Literal["0.5", "0.4"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Channel:
    """How a viewer shows one channel of grey values."""

    name: str
    colour: tuple[int, int, int]
    low: float
    high: float
    """The grey values that are shown black, and in full colour."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageSpec:
    """One multiscale image to be made; every level is stored at ``path/0``, ``path/1`` …

    path: group inside the output, ``""`` is its root. axes: ``czyx``, ``cyx``, ``zyx`` or ``yx``.
    shapes, shards, chunks: per level, in the order of ``axes``. A shard is what one writer writes
    at once, and whole chunks of it; 0.4 has no shards and stores its chunks singly.
    voxel_sizes, translations: per level, always z y x; only the axes that exist are stated.
    Raises OutputError for a specification that cannot be stored.
    """

    name: str
    is_label: bool
    path: str
    axes: str
    dtype: str
    class_names: tuple[str, ...]
    """Of labels, or of the channels of scores."""
    shapes: tuple[Shape, ...]
    shards: tuple[Shape, ...]
    chunks: tuple[Shape, ...]
    voxel_sizes: tuple[tuple[float, ...], ...]
    translations: tuple[tuple[float, ...], ...]
    unit: tuple[str | None, ...]
    channels: tuple[Channel, ...] = ()
    """Of an image of grey values; empty for labels and scores."""
    is_inside: bool = False
    """Whether the output lies in the folder of labels of another image."""
    highest_label: int | None = None
    """Of labels without class names, the highest that is stored, where it is known."""
    outputs: NetworkOutputs = CLASSES
    """Of scores, what the channels are."""

    def __post_init__(self) -> None:
        if self.axes not in ("czyx", "cyx", "zyx", "yx"):
            raise OutputError(f"image {self.name!r}: axes {self.axes!r} cannot be written")
        levels = (self.shapes, self.shards, self.chunks, self.voxel_sizes, self.translations)
        if not self.shapes or len({len(per_level) for per_level in levels}) != 1:
            raise OutputError(f"image {self.name!r}: its levels are not stated alike")
        for sizes in (*self.shapes, *self.shards, *self.chunks):
            if len(sizes) != len(self.axes) or min(sizes) < 1:
                raise OutputError(f"image {self.name!r}: {sizes} do not fit axes {self.axes!r}")
        for shard, chunk in zip(self.shards, self.chunks, strict=True):
            if any(s % c for s, c in zip(shard, chunk, strict=True)):
                raise OutputError(f"image {self.name!r}: chunk {chunk} does not divide {shard}")
        if self.is_label and np.dtype(self.dtype).kind not in "iu":
            raise OutputError(f"image {self.name!r}: labels are integers, not {self.dtype}")

    def level_path(self, number: int) -> str:
        """Return the path of a level's array in the output."""
        return f"{self.path}/{number}" if self.path else str(number)


def group_attributes(spec: ImageSpec, *, version: Version) -> dict[str, Any]:
    """Return the attributes of the image's group: under ``ome`` in 0.5, at the top in 0.4."""
    multiscale = _multiscale(spec)
    stated: dict[str, Any] = {}
    if spec.is_label:
        stated["image-label"] = _image_label(
            spec.class_names, is_inside=bool(spec.path) or spec.is_inside
        )
    elif spec.channels:
        stated["omero"] = {"channels": [_grey_channel(channel) for channel in spec.channels]}
    elif "c" in spec.axes and spec.class_names:
        stated["omero"] = _omero(spec)
    attributes = _versioned(multiscale, stated, version)
    if not spec.is_label and spec.outputs != CLASSES:
        attributes[ATTRIBUTE] = spec.outputs.to_json()
    return attributes


def root_attributes(specs: Sequence[ImageSpec], *, version: Version) -> dict[str, Any]:
    """Return the attributes of an output's root where none of its images is stored there.

    The root is then an image too: its levels are those of the first image inside, usually the
    classes. Without it, viewers that open an output show nothing (ome/napari-ome-zarr#99), and the
    source that its labels state would be a group without an image. Its window ends at the highest
    label: viewers show 1 of 255 black.
    """
    if not specs or any(not spec.path for spec in specs):
        return {}
    stated = {"omero": {"channels": [_grey_channel(_labels_as_grey(specs[0]))]}}
    return _versioned(_multiscale(specs[0], folder=f"{specs[0].path}/"), stated, version)


def _labels_as_grey(spec: ImageSpec) -> Channel:
    """Return how labels look as grey values: 0 is black, the highest is white."""
    names, highest = spec.class_names, spec.highest_label
    if highest is None:
        highest = len(names) - 1 if names else 255
    name = names[1] if len(names) == 2 else "label"
    return Channel(name=name, colour=(255, 255, 255), low=0.0, high=float(max(1, highest)))


def _multiscale(spec: ImageSpec, *, folder: str = "") -> dict[str, Any]:
    return {
        "name": spec.name,
        "axes": [_axis(axis, spec.unit) for axis in spec.axes],
        "datasets": [_dataset(spec, number, folder) for number in range(len(spec.shapes))],
    }


def _versioned(
    multiscale: dict[str, Any], stated: dict[str, Any], version: Version
) -> dict[str, Any]:
    if version == "0.5":
        return {"ome": {"version": version, "multiscales": [multiscale], **stated}}
    for part in stated.values():
        part["version"] = version
    return {"multiscales": [{**multiscale, "version": version}], **stated}


def _axis(axis: str, unit: Sequence[str | None]) -> dict[str, str]:
    if axis == "c":
        return {"name": "c", "type": "channel"}
    stated = unit["zyx".index(axis)]
    return {"name": axis, "type": "space", **({"unit": stated} if stated else {})}


def _dataset(spec: ImageSpec, number: int, folder: str) -> dict[str, Any]:
    size, origin = spec.voxel_sizes[number], spec.translations[number]
    scale = [1.0 if axis == "c" else float(size["zyx".index(axis)]) for axis in spec.axes]
    moved = [0.0 if axis == "c" else float(origin["zyx".index(axis)]) for axis in spec.axes]
    return {
        "path": f"{folder}{number}",
        "coordinateTransformations": [
            {"type": "scale", "scale": scale},
            {"type": "translation", "translation": moved},
        ],
    }


def _image_label(class_names: Sequence[str], *, is_inside: bool) -> dict[str, Any]:
    """Return names and colours of labels; 0 is background and transparent.

    is_inside: the labels are in the group of the image that they were made from.
    """
    stated: dict[str, Any] = {"source": {"image": "../../"}} if is_inside else {}
    if class_names:
        stated["colors"] = [
            {"label-value": value, "rgba": [*colour(value), 255] if value else [0, 0, 0, 0]}
            for value in range(len(class_names))
        ]
        stated["properties"] = [
            {"label-value": value, "class": name} for value, name in enumerate(class_names)
        ]
    return stated


def _omero(spec: ImageSpec) -> dict[str, Any]:
    """Return how viewers show scores: of classes, all but background, each in its colour."""
    kind, first = np.dtype(spec.dtype), int(not spec.outputs.has_classes)
    high = 1.0 if kind.kind == "f" else float(np.iinfo(kind).max)
    return {
        "channels": [
            {
                "label": name,
                "color": _hex_colour(number + first) if number + first else "808080",
                "window": {"min": 0.0, "max": high, "start": 0.0, "end": high},
                "active": number + first > 0,
            }
            for number, name in enumerate(spec.class_names)
        ]
    }


def _grey_channel(channel: Channel) -> dict[str, Any]:
    window = {"min": channel.low, "max": channel.high, "start": channel.low, "end": channel.high}
    colour = "".join(f"{part:02X}" for part in channel.colour)
    return {"label": channel.name, "color": colour, "window": window, "active": True}


def _hex_colour(value: int) -> str:
    """Return :func:`colour` as OME-Zarr writes it."""
    return "".join(f"{part:02X}" for part in colour(value))


def colour(value: int) -> tuple[int, int, int]:
    """Return a colour that differs from those of all other labels up to 255, and most from its
    neighbours': hues a golden ratio of the circle apart.
    """
    hue = (value - 1) * 0.6180339887498949 % 1.0
    brightness = 1.0 - 0.25 * ((value - 1) % 3)
    red, green, blue = colorsys.hsv_to_rgb(hue, 0.75, brightness)
    return round(red * 255), round(green * 255), round(blue * 255)
