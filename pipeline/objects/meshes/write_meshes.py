"""Writes the meshes of objects into a folder: files per object, each whole or absent.

A folder states in ``overtile-meshes.json`` which objects it is of. Started again, what is there is
kept.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from ...base.errors import OutputError, VolumeError
from ...base.json_text import json_value
from ...base.location import Location
from ...base.store_errors import explained
from ...base.stores import file_system, list_names, open_store
from ...output.atomic_file import AtomicFile
from ...output.documents import read_bytes
from ...output.guard import check_apart, check_place
from ..table.finished import FinishedObjects
from .mesh_files import NEUROGLANCER_INFO, MeshFormat, files_of, last_file
from .read_surface import MOST_VOXELS, LabelLevels, unit_of

RECORD: Final = "overtile-meshes.json"
ROWS_AT_ONCE: Final = 2**12
_OURS: Final = re.compile(r"\d+(:0|\.ply|\.obj)?|info|\..*\.partial|" + re.escape(RECORD))

OnObjects = Callable[[int, int], None]
"""Called after each mesh that is written: objects that are done, earlier runs included; of all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MeshPlan:
    """The meshes to write."""

    objects: FinishedObjects
    target: Location
    kind: MeshFormat
    ids: NDArray[np.uint64] | None
    """None: all objects."""
    most_voxels: int = MOST_VOXELS

    @property
    def record(self) -> dict[str, Any]:
        """What identifies the files of the folder."""
        return {"objects": self.objects.identity, "format": self.kind,
                "unit": "nm" if self.kind == "precomputed" else unit_of(self.objects.labels),
                "most_voxels": self.most_voxels}  # fmt: skip

    @property
    def count(self) -> int:
        """Objects whose meshes are wanted."""
        return self.objects.count if self.ids is None else len(self.ids)


@dataclass(frozen=True, slots=True, kw_only=True)
class WrittenMeshes:
    """What a run left."""

    written: int
    kept: int
    """Objects whose files an earlier run had written."""
    coarser: Mapping[int, int]
    """Level of each object that is too large for the finest one."""
    without: Sequence[int]
    """Objects that have no voxel in the level that was used."""


def plan_meshes(
    objects: FinishedObjects, target: Location, *, kind: MeshFormat,
    ids: Sequence[int] | None = None, overwrite: bool = False, most_voxels: int = MOST_VOXELS,
) -> MeshPlan:  # fmt: skip
    """Return a checked plan. Writes nothing. Raises VolumeError or OutputError."""
    if objects.is_flat:
        raise VolumeError(
            f"{objects.output} has flat objects: meshes are those of objects in three dimensions; "
            "for slides, see overtile outlines"
        )
    if wrong := [one for one in ids or () if not 0 < one <= objects.count]:
        held = f"1 to {objects.count}" if objects.count else "none"
        raise VolumeError(f"{objects.output} has no object {wrong[0]}: expected ids of {held}")
    chosen = None if ids is None else np.unique(np.array(ids, np.uint64))
    plan = MeshPlan(objects=objects, target=target, kind=kind, ids=chosen, most_voxels=most_voxels)
    _check_target(plan, overwrite=overwrite)
    return plan


def write_meshes(plan: MeshPlan, *, on_objects: OnObjects) -> WrittenMeshes:
    """Write what is missing. Raises OutputError, VolumeError."""
    if _stored_record(plan.target) != plan.record:
        _begin(plan)
    names = frozenset(list_names(plan.target) or ())
    levels = LabelLevels.of(plan.objects.labels)
    written = kept = 0
    coarser, without = {}, []
    for rows in plan.objects.rows(plan.ids, most=ROWS_AT_ONCE):
        for row, identifier in enumerate(rows.ids.tolist()):
            if last_file(identifier, plan.kind) in names:
                kept += 1
                continue
            box = rows.box(row)
            if level := levels.level_for(box, plan.most_voxels):
                coarser[identifier] = level
            surface = levels.surface(identifier, box, level)
            if surface is None:
                without.append(identifier)
                continue
            placed = levels.placed(surface, level, plan.kind)
            for name, content in files_of(placed, identifier, plan.kind).items():
                _put(plan.target, name, content)
            written += 1
            on_objects(written + kept + len(without), plan.count)
    return WrittenMeshes(written=written, kept=kept, coarser=coarser, without=without)


def _check_target(plan: MeshPlan, *, overwrite: bool) -> None:
    target = plan.target
    check_place(target)
    check_apart(target, plan.objects.output)
    names = list_names(target) or ()
    stored = _stored_record(target)
    if not names or stored == plan.record:
        return
    if stored is None:
        raise OutputError(f"{target} contains other files, e.g. {names[0]}: choose another folder")
    if not overwrite:
        raise OutputError(
            f"{target} has meshes of other objects or of another format: choose another folder, or "
            "replace them with --overwrite"
        )
    if foreign := [name for name in names if not _OURS.fullmatch(name)]:
        raise OutputError(f"{target} contains other files, e.g. {foreign[0]}: delete them first")


def _begin(plan: MeshPlan) -> None:
    """Delete the meshes of other objects, the record last, and state whose meshes come."""
    with explained(OutputError, plan.target):
        system, path = file_system(plan.target)
        for name in sorted(list_names(plan.target) or (), key=lambda name: name == RECORD):
            system.rm_file(f"{path}/{name}")
    _put(plan.target, RECORD, json.dumps(plan.record, indent=1).encode())
    if plan.kind == "precomputed":
        _put(plan.target, "info", NEUROGLANCER_INFO)


def _stored_record(target: Location) -> dict[str, Any] | None:
    text = read_bytes(open_store(target), RECORD) if RECORD in (list_names(target) or ()) else None
    try:
        stored = json_value(text) if text is not None else None
    except ValueError:
        return None
    return stored if isinstance(stored, dict) else None


def _put(target: Location, name: str, content: bytes) -> None:
    with AtomicFile(target / name) as file:
        file.write(content)
        file.commit()
