"""Creates the volume in which a person paints corrections of a segmentation, beside it.

It lies outside of the output: checks of the output do not see it, and what was painted stays when
the output is deleted. One level, as viewers paint in one, in small chunks without shards, because
a viewer writes a chunk after each stroke.
"""

from __future__ import annotations

from typing import Any, Final

import zarr
from zarr.abc.store import Store
from zarr.codecs import ZstdCodec

from ..base.errors import OutputError, VolumeError
from ..base.geometry import Shape
from ..base.location import Location
from ..base.sample_digest import same_where_unread
from ..base.stores import read_node
from ..base.text import shape_text
from ..output.documents import built_in_memory, put_missing
from ..output.guard import check_apart, check_output
from ..output.image_spec import ImageSpec, Version, colour, group_attributes
from ..output.ome_write import require_group
from ..volume.formats.ome_zarr.painted import (
    painted_attributes,
    painted_classes,
    painted_sample,
)
from ..volume.placement import has_other_voxels, stated_start
from ..volume.volume import VolumeSource, find_volume
from .segmented import Segmented

SUFFIX: Final = ".corrections.zarr"
CUBE: Final = (64, 64, 64)
PLANE: Final = (1, 512, 512)
FLAT: Final = 16
"""Volumes of fewer planes are stored plane by plane."""


def beside(output: Location) -> Location:
    """Return where the corrections of an output lie by default.

    >>> beside(Location.parse("s3://bucket/brain.ome.zarr"))
    Location('s3://bucket/brain.corrections.zarr')
    """
    name = output.name.removesuffix(".zarr").removesuffix(".ome")
    if output.parent is None:
        raise OutputError(f"{output} has no folder above it: pass --out")
    return output.parent / f"{name}{SUFFIX}"


def find_corrections(place: Location, segmented: Segmented) -> VolumeSource | None:
    """Return the corrections of an output that exist already, as stored; None for an empty place.

    Raises OutputError for anything else at that place, VolumeError for the corrections of another
    output.
    """
    node = read_node(place)
    if node is None or not painted_classes(node.attributes):
        check_apart(place, segmented.output, name="segmentation")
        if node is not None:
            raise OutputError(f"{place} exists and holds no corrections: pass another --out")
        check_output(place, source=None, overwrite=False)
        return None
    names = painted_classes(node.attributes)
    if names != segmented.class_names:
        raise VolumeError(
            f"{place} is painted for the classes {', '.join(names)}, and {segmented.output} has "
            f"{', '.join(segmented.class_names)}: pass another --out"
        )
    source = find_volume(place, holds="anything")
    _check_place(source, segmented)
    _check_image(place, painted_sample(node.attributes), segmented)
    return source


def create_corrections(place: Location, segmented: Segmented) -> None:
    """Create the volume, in which nothing is painted. Existing documents stay unchanged."""
    spec, version = corrections_image(segmented), segmented.job.get("format", "0.5")
    stated = painted_attributes(
        segmented.class_names, of=str(segmented.output), sample=segmented.job.get("input_sample")
    )

    def build(store: Store) -> None:
        root = require_group(store, "", version=version)
        root.attrs.update({**_shown(group_attributes(spec, version=version)), **stated})
        _add_array(store, spec, version, stated)

    put_missing(place, built_in_memory(build))


def corrections_image(segmented: Segmented) -> ImageSpec:
    """Return the image of the corrections: the voxels of the classes, at their place."""
    source = segmented.classes
    axes = source.spatial_axes
    first = 3 - len(axes)
    largest = PLANE if source.shape_zyx[0] < FLAT else CUBE
    chunk = tuple(min(c, n) for c, n in zip(largest, source.shape_zyx, strict=True))
    return ImageSpec(
        name="corrections", is_label=True, path="", axes=axes, dtype="uint8",
        class_names=("unknown", *segmented.class_names),
        shapes=(source.shape_zyx[first:],), shards=(chunk[first:],), chunks=(chunk[first:],),
        voxel_sizes=(source.step,), translations=(source.translation,), unit=source.unit,
    )  # fmt: skip


def _shown(attributes: dict[str, Any]) -> dict[str, Any]:
    """Return the attributes of an image with the colours that its classes have in the output."""
    label = attributes.get("ome", attributes)["image-label"]
    for one in label["colors"]:
        if number := one["label-value"]:
            rgb = colour(number - 1) if number > 1 else (128, 128, 128)
            one["rgba"] = [*rgb, 255]
    return attributes


def _add_array(store: Store, spec: ImageSpec, version: Version, stated: dict[str, Any]) -> None:
    layout: dict[str, Any] = (
        {"compressors": [ZstdCodec(level=3)], "dimension_names": tuple(spec.axes), "zarr_format": 3}
        if version == "0.5"
        else {
            "compressors": [{"id": "zstd", "level": 3}], "zarr_format": 2,
            "chunk_key_encoding": {"name": "v2", "separator": "/"},
        }
    )  # fmt: skip
    zarr.create_array(
        store, name="0", shape=spec.shapes[0], chunks=spec.chunks[0], dtype=spec.dtype,
        fill_value=0, attributes=stated, **layout,
    )  # fmt: skip


def _check_place(source: VolumeSource, segmented: Segmented) -> None:
    """Raise VolumeError unless corrections have the voxels of the classes."""
    classes, shape = segmented.classes, _shape
    if source.shape_zyx != classes.shape_zyx or source.spatial_axes != classes.spatial_axes:
        raise VolumeError(
            f"{source.location} is {shape(source)} voxels, and the classes of {segmented.output} "
            f"are {shape(classes)}: expected the corrections of this output; pass another --out"
        )
    if has_other_voxels(source, classes) or stated_start(source, classes) not in (None, (0, 0, 0)):
        raise VolumeError(
            f"{source.location} lies at another place, or has other voxels, than the classes of "
            f"{segmented.output}: expected the corrections of this output; pass another --out"
        )


def _check_image(place: Location, painted: str | None, segmented: Segmented) -> None:
    """Raise VolumeError where the sample on which corrections were painted is another one.

    painted: that sample; None for corrections of earlier versions, which are not compared.
    """
    now = segmented.job.get("input_sample")
    if painted is None or now is None or same_where_unread(now, painted) == painted:
        return
    raise VolumeError(
        f"{place} was painted on another image than that of {segmented.output}: expected the "
        "corrections of this output; pass another --out"
    )


def _shape(source: VolumeSource) -> str:
    sizes: Shape = source.shape_zyx
    return shape_text(sizes)
