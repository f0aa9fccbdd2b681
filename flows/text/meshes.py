"""What an export of meshes prints at its end."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pipeline.objects.meshes.write_meshes import MeshPlan, WrittenMeshes

MOST_NAMED = 5


def result_lines(plan: MeshPlan, done: WrittenMeshes) -> Iterator[str]:
    """Yield how many meshes there are, at which level, and where."""
    kept = f", {done.kept:,} were there" if done.kept else ""
    yield f"done: {done.written:,} {'mesh' if done.written == 1 else 'meshes'}{kept}"
    if done.coarser:
        yield (
            f"note: {_named(tuple(done.coarser))} larger than {plan.most_voxels:,} voxels: made "
            "from coarser levels"
        )
    if done.without:
        yield f"note: {_named(done.without)} too thin for that level: no mesh"
    unit = plan.record["unit"]
    yield f"meshes: {plan.target}, {f'in {unit}' if unit in ('µm', 'nm') else f'sized {unit}'}"
    if plan.kind == "precomputed":
        yield "open precomputed://URL in Neuroglancer as a source of the layer of the objects"


def _named(ids: Sequence[int]) -> str:
    shown = ", ".join(map(str, ids[:MOST_NAMED]))
    more = f" and {len(ids) - MOST_NAMED:,} more" if len(ids) > MOST_NAMED else ""
    return f"object{'s' if len(ids) > 1 else ''} {shown}{more} {'are' if len(ids) > 1 else 'is'}"
