"""The layers that show an output: its image, its labels, and the image that it was made from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any, Final, Literal

import numpy as np

from ..base.errors import PlanError, VolumeError
from ..base.location import Location
from ..base.network_outputs import ATTRIBUTE
from ..base.stores import Node, read_node
from ..ledger.stated_size import as_run_read
from ..output.guard import RUN_GROUP
from ..output.image_spec import colour
from ..volume.fingerprint import read_sample
from ..volume.formats.extent import whole_numbers
from ..volume.formats.ome_zarr.ome_read import ome_attributes, parse_multiscale
from ..volume.given_size import given_sizes, with_size_of_level, with_voxel_size
from ..volume.image_levels import levels_of
from ..volume.volume import LABELS, VolumeSource, find_volume
from .raw_fit import fit_note

MOST_CHANNELS: Final = 8
"""Of one image, as layers."""
_LAST_CLASS: Final = 255
_DEEPEST: Final = 8
"""Parts of the path of an array in its store."""
_RGB: Final = ((255, 0, 0), (0, 255, 0), (0, 0, 255))
_SHOWN_PERCENT: Final = (0.5, 99.8)


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    """One layer of a viewer: one channel of an image, or labels."""

    name: str
    kind: Literal["raw", "scores", "labels"]
    levels: tuple[VolumeSource, ...]
    """The finest first; each has one channel."""
    colour: tuple[int, int, int] = (255, 255, 255)
    window: tuple[float, float] = (0.0, 255.0)
    """The grey values that are black, and in full colour."""
    class_names: tuple[str, ...] = ()
    """Of labels 0, 1, 2 …; empty for objects."""
    is_shown: bool = True

    @property
    def source(self) -> VolumeSource:
        """The finest level."""
        return self.levels[0]


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """The layers of an output, the undermost first, and notes for the user."""

    place: Location
    """The image whose layers they are: that of the output."""
    layers: tuple[Layer, ...]
    notes: tuple[str, ...] = ()
    is_ome_zarr: bool = False
    """Whether the place is an OME-Zarr image, not another format or a plain array."""


def find_view(output: Location, raw: Location | None = None) -> View:
    """Return what shows an output. Reads metadata, and a few voxels of the raw image.

    output: of any command, or any image. raw: the image below; by default, the one that the output
    was made from. Raises VolumeError where the output is not an image, or RAW cannot be read.
    """
    place = _image_of(output)
    node = read_node(place)
    if node is None or node.kind == "array":
        grey, image = _raw_layers(find_volume(output)), find_volume(raw) if raw else None
        note = fit_note(image, grey[0].levels) if image else None
        layers = (*(_raw_layers(image) if image else ()), *grey)
        return View(place=output, layers=layers, notes=(note,) if note else ())
    own, notes = _own_layers(place, node)
    below: tuple[Layer, ...] = ()
    if raw is not None:
        image = as_run_read(find_volume(raw), raw, place)
        if own and (note := fit_note(image, own[-1].levels, is_part=_is_part(place))):
            notes.append(note)
        below = _raw_layers(image)
    elif not any(layer.kind == "raw" for layer in own):
        below, more = _made_from(place)
        notes = [*notes, *more]
    layers = (*below, *own)
    if not layers:
        raise VolumeError(f"{output} holds no image: expected an output of overtile, or an image")
    return View(
        place=place, layers=_one_of_labels(layers), notes=tuple(notes), is_ome_zarr=bool(own)
    )


def _image_of(output: Location) -> Location:
    """Return the image that labels belong to, or that a collection of one image holds."""
    node = read_node(output)
    if node is not None and "bioformats2raw.layout" in ome_attributes(node.attributes):
        return find_volume(output, holds="anything").image or output
    parent = output.parent
    above = parent.parent if parent is not None and parent.name == LABELS.strip("/") else None
    return above if above is not None and read_node(above) is not None else output


def _own_layers(place: Location, node: Node) -> tuple[tuple[Layer, ...], list[str]]:
    """Return the image at a location, unless it shows its labels, and the labels; and notes."""
    layers, notes = [*_image_layers(place, node)], []
    listing = read_node(place, path=LABELS.strip("/"))
    for name in ome_attributes(listing.attributes).get("labels", ()) if listing else ():
        try:
            layers.append(_labels_layer(place / LABELS / str(name), str(name)))
        except VolumeError as error:  # a list of labels may name some that were deleted
            notes.append(f"labels {name} are not shown ({error})")
    return tuple(layers), notes


def _image_layers(place: Location, node: Node) -> Iterator[Layer]:
    image = parse_multiscale(node.attributes, where=str(place))
    if image is not None and not image.levels[0].path.startswith(LABELS):
        if "image-label" in ome_attributes(node.attributes):
            yield _labels_layer(place, place.name)
        elif "weights" in _job(place):
            yield from _scores_layers(place)
        else:
            yield from _raw_layers(find_volume(place))


def _job(place: Location) -> Mapping[str, Any]:
    run = read_node(place, path=RUN_GROUP)
    job = run.attributes.get("job") if run else None
    return job if isinstance(job, Mapping) else {}


def _is_part(place: Location) -> bool:
    """Return whether an output is of a box, or objects are of scores of one."""
    run = read_node(place, path=RUN_GROUP)
    stated = run.attributes.get("provenance") if run else None
    scores = str(stated.get("input")) if isinstance(stated, Mapping) else None
    jobs = [_job(place)]
    if jobs[0].get("kind") == "objects" and scores:
        with suppress(VolumeError):
            jobs.append(_job(Location.parse(scores)))
    return any("box" in job for job in jobs)


def _labels_layer(place: Location, name: str) -> Layer:
    source = find_volume(place, holds="labels")
    node = read_node(place)
    stated = ome_attributes(node.attributes).get("image-label") if node else None
    names = _class_names(stated.get("properties")) if isinstance(stated, Mapping) else ()
    return Layer(name=name, kind="labels", levels=_levels(source, 0), class_names=names)


def _class_names(properties: object) -> tuple[str, ...]:
    """Return the names of the labels 0, 1, 2 …; none where they are not those of classes.

    >>> _class_names([{"label-value": 2, "class": "axon"}])
    ('0', '1', 'axon')
    >>> _class_names([{"label-value": 20_000_000, "class": "axon"}])
    ()
    """
    stated = properties if isinstance(properties, list) else []
    named = [
        one for one in stated if isinstance(one, Mapping) and {"class", "label-value"} <= {*one}
    ]
    values = [one["label-value"] for one in named]
    if not all(type(value) is int and 0 <= value <= _LAST_CLASS for value in values):
        return ()
    names = {one["label-value"]: str(one["class"]) for one in named}
    return tuple(names.get(value, str(value)) for value in range(max(names, default=-1) + 1))


def _scores_layers(place: Location, sizes: tuple[float, ...] | None = None) -> Iterator[Layer]:
    """Yield a layer per channel; background is hidden at first, where there is one.

    sizes: see :func:`_made_from`.
    """
    source, node = with_voxel_size(find_volume(place), sizes), read_node(place)
    first = int(node is not None and ATTRIBUTE in node.attributes)  # no class is background
    high = float(np.iinfo(source.dtype).max) if np.dtype(source.dtype).kind in "iu" else 1.0
    for number in range(min(source.channel_count, MOST_CHANNELS)):
        names = source.channel_names
        name = names[number] if number < len(names) else str(number)
        yield Layer(
            name=f"scores: {name}", kind="scores", levels=_levels(source, number),
            colour=colour(number + first) if number + first else (128, 128, 128),
            window=(0.0, high), is_shown=number + first > 0 or source.channel_count == 1,
        )  # fmt: skip


def _raw_layers(source: VolumeSource) -> tuple[Layer, ...]:
    """Return the channels of an image of grey values, with windows from a sample of its voxels."""
    values = read_sample(source).values
    several = source.channel_count > 1
    layers = []
    for number in range(min(source.channel_count, MOST_CHANNELS)):
        finite = values[number][np.isfinite(values[number])]
        low, high = np.percentile(finite, _SHOWN_PERCENT).tolist() if finite.size else (0.0, 1.0)
        names = source.channel_names
        name = names[number] if several and number < len(names) else str(number)
        tint = _RGB[number] if source.channel_count == 3 else colour(number + 1)
        layers.append(
            Layer(
                name=f"raw: {name}" if several else "raw",
                kind="raw",
                levels=_levels(source, number),
                colour=tint if several else (255, 255, 255),
                window=(low, high if high > low else low + 1),
            )
        )
    return tuple(layers)


def _levels(source: VolumeSource, channel: int) -> tuple[VolumeSource, ...]:
    """Return the levels of one channel, as :attr:`Layer.levels` has them."""
    every = [one for _, one in levels_of(source)] or [source]
    chosen = source.channels[channel] if source.channels else channel
    return tuple(
        replace(
            one, channels=(chosen,) if "c" in one.axes else None,
            holds_labels=source.holds_labels,
        )
        for one in every
    )  # fmt: skip


def _made_from(
    place: Location, *, is_scores: bool = False, sizes: tuple[float, ...] | None = None
) -> tuple[tuple[Layer, ...], list[str]]:
    """Return the layers below those of an output, as its run states them, and notes.

    is_scores: it is what objects were found in, and not objects again, whatever it states. sizes:
    the voxel size of the scores that a person stated for the objects.
    """
    run = read_node(place, path=RUN_GROUP)
    stated = run.attributes.get("provenance") if run else None
    if not isinstance(stated, Mapping) or "input" not in stated:
        return (), ["what it was made from is not known: pass the image as RAW"]
    source = str(stated["input"])
    job = _job(place)
    try:
        if job.get("kind") == "objects" and not is_scores:
            scores, sizes = Location.parse(source), given_sizes(job)
            below, notes = _made_from(scores, is_scores=True, sizes=sizes)
            return (*below, *_scores_layers(scores, sizes)), notes
        path = str(stated.get("input_path", ""))
        raw = with_voxel_size(_input(source, path, job), given_sizes(job))
        return _raw_layers(raw if sizes is None else _sized_at(raw, path, sizes)), []
    except (VolumeError, PlanError) as error:
        return (), [f"the raw image is not shown ({error}): pass it as RAW"]


def _sized_at(raw: VolumeSource, path: str, sizes: tuple[float, ...]) -> VolumeSource:
    """Return an image whose level at a path has voxels of this size; unchanged without this level.

    The level is another one than that of ``raw`` where no path leads to a level, as in TIFF.
    """
    levels = [raw, *(level for _, level in levels_of(raw))]
    read = next((level for level in levels if level.path == path), None)
    return (
        raw if read is None else with_voxel_size(raw, with_size_of_level(read, sizes).given_size_um)
    )


def _input(store: str, path: str, job: Mapping[str, Any]) -> VolumeSource:
    """Return the image that a run has read. Raises VolumeError where it does not exist any more.

    path: of the array in its store; of TIFF, the image's number and the level, which no file has.
    """
    parts = path.split("/")[:_DEEPEST]
    errors = []
    time, axes, channels = job.get("time"), job.get("axes"), job.get("channels")
    choice: dict[str, Any] = {
        "time": time if isinstance(time, int) else None,
        "axes": axes if isinstance(axes, str) else None,
        "channel": channels if whole_numbers(channels) else None,
    }
    for length in range(len(parts), -1, -1):
        place = Location.parse(store) / "/".join(parts[:length])
        try:
            return find_volume(place, **choice)
        except VolumeError as error:
            errors.append(error)
    raise errors[-1]


def _one_of_labels(layers: tuple[Layer, ...]) -> tuple[Layer, ...]:
    """Return the layers with the last labels shown: objects rather than the classes below them.

    Scores are hidden at first where there are labels and a raw image: they would tint it.
    """
    last = max((n for n, one in enumerate(layers) if one.kind == "labels"), default=-1)
    hides_scores = last >= 0 and any(one.kind == "raw" for one in layers)

    def is_shown(number: int, layer: Layer) -> bool:
        if layer.kind == "labels":
            return number == last
        return layer.is_shown and not (layer.kind == "scores" and hides_scores)

    return tuple(replace(one, is_shown=is_shown(number, one)) for number, one in enumerate(layers))
