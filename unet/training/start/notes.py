"""What differs between a training's volumes and those of the weights that it starts from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, TypeAlias

from .weights import StartWeights

LARGEST_RATIO: Final = 1.5
"""Voxel sizes that differ by more than this factor, in any axis, are noted."""

Sizes: TypeAlias = Sequence[float | None]


def start_notes(
    start: StartWeights | None, *, normalisation: Mapping[str, Any], voxel_size_um: Sizes | None
) -> Iterator[str]:
    """Yield a line for another normalisation, and for another voxel size (z, y, x) in µm."""
    if start is None:
        return
    theirs = start.normalisation
    if theirs is not None and any(normalisation.get(k) != v for k, v in theirs.items()):
        yield (
            f"the weights {start.name} were trained with normalisation {_record_text(theirs)}; "
            f"this training uses {_record_text(normalisation)}"
        )
    trained, sizes = start.info.voxel_size_um, voxel_size_um
    if trained is None or sizes is None:
        return
    own = sizes[-len(trained) :]
    pairs = [(size, known) for size, known in zip(own, trained, strict=True) if size is not None]
    if any(max(pair) > LARGEST_RATIO * min(pair) for pair in pairs):
        yield (
            f"the voxel size, {_sizes_text(own)} µm, differs from that of the weights "
            f"{start.name}, {_sizes_text(trained)} µm, by more than a factor of "
            f"{LARGEST_RATIO:g}: train on the level that fits best (--level), or pass the true "
            "size as --voxel-size if the files are wrong"
        )


def stated_voxel_size(
    sizes: Sizes | None, start: StartWeights | None, *, dims: int
) -> tuple[float, ...] | None:
    """Return the voxel size in µm, per axis of the network, that a training's weights state.

    sizes: of the volumes (z, y, x); None if they have several scales, then none is stated. Volumes
    that state no size leave that of the weights that the training starts from.
    """
    own = () if sizes is None else sizes[-dims:]
    known = tuple(size for size in own if size is not None)
    if sizes is not None and not known and start is not None:
        return start.info.voxel_size_um
    return known if known and len(known) == len(own) else None


def _record_text(record: Mapping[str, Any]) -> str:
    """Return a normalisation in the shell's notation."""
    bounds = [f"{record[name]:g}" for name in ("low", "high") if name in record]
    return ":".join([str(record.get("kind")), *bounds])


def _sizes_text(sizes: Sizes) -> str:
    return "×".join("?" if size is None else f"{size:.3g}" for size in sizes)
