"""Pictures of a plane: raw, scores or classes, overlay and objects, all of one size."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from .object_picture import objects_picture
from .pictures import (
    Colour,
    Rgb,
    channels_picture,
    classes_picture,
    grey_picture,
    nearest,
    overlay_picture,
    scores_picture,
)
from .planes import Layer, PlaneView


@dataclass(frozen=True, slots=True, kw_only=True)
class Tile:
    """One picture of a plane, without its scale bar."""

    title: str
    picture: Rgb
    alt: str
    """What a person sees who does not see the picture."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlaneLayers:
    """The images that planes are cut from. raw and one of scores and classes exist."""

    raw: Layer
    scores: Layer | None = None
    classes: Layer | None = None
    objects: Layer | None = None
    has_classes: bool = True
    """Whether scores are those of classes, of which each voxel has one."""

    @property
    def all(self) -> tuple[Layer, ...]:
        """Those that exist, in a fixed order."""
        found = (self.raw, self.scores, self.classes, self.objects)
        return tuple(layer for layer in found if layer is not None)


def tiles_of(
    layers: PlaneLayers, view: PlaneView, *, colour: Callable[[int], Colour]
) -> tuple[Tile, ...]:
    """Read a plane of all layers and draw it. colour: of an object's id."""
    read = {
        id(layer): _read(layer, view, level)
        for layer, level in zip(layers.all, view.levels, strict=True)
    }

    def values(layer: Layer | None) -> NDArray[Any] | None:
        return None if layer is None else read[id(layer)]

    raw = _averaged(read[id(layers.raw)], view.shape)
    place = f"the plane {view.name}"
    tiles = [Tile(title="raw", picture=grey_picture(raw), alt=f"{place} of the raw image")]
    scores, classes, objects = map(values, (layers.scores, layers.classes, layers.objects))
    if scores is not None and scores.dtype == np.uint8:
        scores = scores.astype(np.float32) / 255
    if layers.has_classes:
        tiles += _class_tiles(raw, scores, classes, view)
    elif scores is not None:
        picture = channels_picture(_averaged(scores, view.shape))
        tiles.append(Tile(title="scores", picture=picture, alt=f"scores of the network in {place}"))
    if objects is not None:
        drawn = objects_picture(raw, nearest(objects[0], view.shape), colour=colour)
        tiles.append(Tile(title="objects", picture=drawn, alt=f"objects over raw in {place}"))
    return tuple(tiles)


def _class_tiles(
    raw: NDArray[Any], scores: NDArray[Any] | None, classes: NDArray[Any] | None, view: PlaneView
) -> list[Tile]:
    """Return the pictures of scores or classes, and of classes over raw."""
    if classes is None and scores is not None:
        classes = np.argmax(scores, axis=0)[None]
    assert classes is not None, "scores or classes are always stored"
    classes_yx, place = nearest(classes[0], view.shape), f"the plane {view.name}"
    if scores is None:
        shown = Tile(
            title="classes", picture=classes_picture(classes_yx), alt=f"classes in {place}"
        )
    else:
        picture = scores_picture(_averaged(scores, view.shape))
        shown = Tile(title="scores", picture=picture, alt=f"scores of the network in {place}")
    overlay = overlay_picture(raw, classes_yx)
    return [shown, Tile(title="overlay", picture=overlay, alt=f"classes over raw in {place}")]


def _read(layer: Layer, view: PlaneView, number: int) -> NDArray[Any]:
    """Return the plane (c, rows, columns) at a level."""
    values = layer.levels[number].read(layer.box_at(view.box, number))
    return np.take(values, 0, axis=1 + view.normal)


def _averaged(values_cyx: NDArray[Any], shape: tuple[int, int]) -> NDArray[Any]:
    """Return (c, y, x) at another size: means where it is smaller, the nearest voxel elsewhere."""
    if values_cyx.shape[1:] == shape:
        return values_cyx
    enlarges = all(new >= old for new, old in zip(shape, values_cyx.shape[1:], strict=True))
    if enlarges:
        return np.stack([nearest(one, shape) for one in values_cyx])
    finite = np.nan_to_num(values_cyx.astype(np.float32))
    resized = [
        np.asarray(Image.fromarray(one).resize(shape[::-1], Image.Resampling.BOX)) for one in finite
    ]
    averaged: NDArray[Any] = np.stack(resized)
    return np.rint(averaged).astype(values_cyx.dtype) if values_cyx.dtype == np.uint8 else averaged
