"""From a request to a prepared conversion: all is decided and checked, nothing written."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

import numpy as np

from ..base.errors import VolumeError
from ..base.geometry import Halo
from ..base.sample_digest import is_whole, same_where_unread
from ..base.versions import VERSION, versions
from ..ledger.identity import Job, check_job
from ..ledger.ledger import stored_job
from ..ledger.output_action import OutputAction, choose_output_action
from ..ledger.places import as_recorded, moved_notes
from ..ledger.progress import unfinished_notes
from ..output.image_spec import Channel, ImageSpec, colour
from ..planning.blocks import BlockPlan
from ..planning.levels import level_grids, voxels_of_levels
from ..volume.fingerprint import Sample, read_sample
from ..volume.given_size import with_voxel_size
from ..volume.size_text import size_in_words
from ..volume.volume import VolumeSource, find_volume
from .request import ConvertRequest
from .sizes import Sizes, choose_sizes

COPIES: Final = 3
"""Arrays of a block's size that exist at once: as read, as written, and one of Zarr's."""
_RGB: Final = ((255, 0, 0), (0, 255, 0), (0, 0, 255))


@dataclass(frozen=True, slots=True, kw_only=True)
class PreparedConversion:
    """A conversion with every decision made."""

    request: ConvertRequest
    source: VolumeSource
    plan: BlockPlan
    sizes: Sizes
    image: ImageSpec
    sample_digest: str
    shows_more: bool
    """The output's display window was measured before a damaged part of the input was repaired."""
    output_action: OutputAction
    notes: tuple[str, ...]

    @property
    def block_bytes(self) -> int:
        """Memory of a block, all channels, on a worker's thread."""
        voxels = int(np.prod(np.minimum(self.plan.core, self.plan.shape)))
        return voxels * self.source.channel_count * np.dtype(self.image.dtype).itemsize * COPIES

    @property
    def job(self) -> Job:
        """What identifies the conversion: everything that changes a byte of its output."""
        return Job(
            {
                "kind": "conversion",
                "input": self.source.metadata_digest,
                "input_sample": self.sample_digest,
                "input_uri": self.source.identity,
                "input_path": self.source.path,
                "axes": self.source.axes,
                "channels": self.source.channels,
                "time": self.source.time,
                "labels": self.image.is_label,
                "block": list(self.sizes.block),
                "shard": list(self.sizes.shard),
                "chunk": list(self.sizes.chunk),
                "format": self.request.format,
                "overtile": VERSION,
                **self.source.given_size_part(),
            },
            in_words=size_in_words,
        )

    def provenance(self, *, workers: int) -> dict[str, Any]:
        """Return the record of how the output was made. It has no secrets."""
        return {
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
            "overtile": VERSION,
            "input": str(self.source.store),
            "input_path": self.source.path,
            "workers": workers,
            "versions": versions(),
        }


def prepare_conversion(request: ConvertRequest) -> PreparedConversion:
    """Return what a conversion would do. Reads metadata and a few voxels, writes nothing.

    Raises kinds of OvertileError for everything that it refuses.
    """
    action = choose_output_action(
        request.output, source=request.input, share=None, overwrite=request.overwrite,
        finishing=False,
    )  # fmt: skip
    stored = stored_job(request.output) if action == "resumed" else {}
    source = find_volume(
        request.input, level=request.level, channel=request.channel, time=request.time,
        axes=request.axes, holds="anything",
    )  # fmt: skip
    source = with_voxel_size(source, request.voxel_size_um)
    if stored:
        source = as_recorded(source, request.output, stored.get("input"))
    dtype = "uint8" if source.dtype == "bool" else source.dtype
    if request.labels and np.dtype(dtype).kind not in "iu":
        raise VolumeError(f"{source.location} holds {source.dtype}: labels are integers")
    sizes = choose_sizes(
        source.shape_zyx,
        source.chunk_shape_zyx,
        voxel_bytes=source.channel_count * np.dtype(dtype).itemsize,
        shard=request.shard,
        chunk=request.chunk,
    )
    sample = read_sample(source)
    prepared = PreparedConversion(
        request=request,
        source=source,
        plan=_plan(source, sizes),
        sizes=sizes,
        image=_image(request, source, sizes, dtype, sample),
        sample_digest=same_where_unread(sample.digest, stored.get("input_sample")),
        shows_more=is_whole(sample.digest) and not is_whole(stored.get("input_sample", "")),
        output_action=action,
        notes=(
            *source.notes,
            *_notes(sample),
            *moved_notes(source),
            *unfinished_notes(source.store),
        ),
    )
    if stored:
        check_job(request.output, prepared.job, stored)
    return prepared


def _notes(sample: Sample) -> Iterator[str]:
    if sample.unreadable:
        yield f"a part of the input cannot be read ({sample.unreadable})"


def _plan(source: VolumeSource, sizes: Sizes) -> BlockPlan:
    """Return the blocks: cores without a halo."""
    none = (0, 0, 0)
    return BlockPlan(
        shape=source.shape_zyx, core=sizes.block, halo=Halo(none, none), divisor=(1, 1, 1)
    )


def _image(
    request: ConvertRequest, source: VolumeSource, sizes: Sizes, dtype: str, sample: Sample
) -> ImageSpec:
    """Return the image to be written: the volume's axes, a pyramid, its channels."""
    grids = level_grids(source.shape_zyx, source.voxel_size)
    channels = (source.channel_count,) if "c" in source.axes else ()
    first = 3 - len(source.spatial_axes)
    one = (1,) * len(channels)
    voxel_sizes, translations = voxels_of_levels(grids, source.step, source.translation)
    return ImageSpec(
        name=source.name or request.output.name.partition(".")[0],
        is_label=request.labels,
        path="",
        axes=("c" if channels else "") + source.spatial_axes,
        dtype=dtype,
        class_names=(),
        shapes=tuple((*channels, *shape[first:]) for _, shape in grids),
        shards=((*one, *sizes.shard[first:]),) * len(grids),
        chunks=((*one, *sizes.chunk[first:]),) * len(grids),
        voxel_sizes=voxel_sizes,
        translations=translations,
        unit=source.unit,
        channels=() if request.labels else tuple(_channels(source, sample)),
    )


def _channels(source: VolumeSource, sample: Sample) -> Iterator[Channel]:
    """Yield the channels: names of the input, and a window from the grey values of the sample."""
    names = source.channel_names
    for number in range(source.channel_count):
        values = sample.values[number]
        finite = values[np.isfinite(values)]
        low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 1.0)
        colours = _RGB if source.channel_count == 3 else (colour(number + 1),)
        yield Channel(
            name=names[number] if number < len(names) else f"channel {number}",
            colour=(255, 255, 255) if source.channel_count == 1 else colours[number % len(colours)],
            low=low,
            high=high if high > low else low + 1,
        )
