"""From stored labels to the classes that a network learns, and to objects, by a named rule.

Objects are what the weight map separates: ids, 0 for none.
"""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from pipeline.base.errors import LabelError

from ..recipe.training_config import RULES, Rule

Integers: TypeAlias = NDArray[np.int64]

IGNORED = -100
"""The class of voxels that the loss ignores; torch's default for ``ignore_index``."""


def apply_rule(
    labels: NDArray[Any],
    *,
    rule: Rule,
    dims: int,
    ignore: int | None = None,
    object_class: int | None = None,
) -> tuple[Integers, Integers | None]:
    """Return the classes that a network learns, and the objects that its weight map separates.

    labels: (z, y, x) classes or instance ids as stored, of any integer dtype; ``ignore`` is the
    label of unknown voxels. dims: 2 treats each slice separately. Rules:

    classes     labels are the classes. Objects are the face-connected components of
                ``object_class``, or None without one. (ISBI 2012: 1 membrane, 0 cell; 0.)
    foreground  1 inside any object (id > 0), else 0.
    boundary    1 where a face neighbour has another id (both sides are marked, so that a boundary
                is two voxels wide) or where the id is 0; else 0. Objects are what is left of them.
                The array's edge and ignored voxels are not boundary: pass a box that is one voxel
                larger per side, and cut the result, where neighbours outside of it count.

    Returns int64 arrays of the same shape: classes, IGNORED where unknown; objects, 0 there and
    outside objects. Raises LabelError for labels that are not integers, for
    negative ones other than ``ignore`` and for ids from 2**63 on.
    """
    if rule not in RULES:
        raise LabelError(f"label rule ({rule!r}): expected one of {', '.join(RULES)}")
    ids, ignored = _checked_ids(labels, ignore=ignore)
    objects: Integers | None
    if rule == "classes":
        classes = ids
        objects = None if object_class is None else _components(ids == object_class, dims=dims)
    elif rule == "foreground":
        classes, objects = (ids > 0).astype(np.int64), ids
    else:
        boundary = (ids == 0) | _differs_from_a_neighbour(ids, ignored=ignored, dims=dims)
        classes, objects = boundary.astype(np.int64), np.where(boundary, 0, ids)
    if ignored is not None:
        classes[ignored] = IGNORED
        if objects is not None:
            objects[ignored] = 0
    return classes, objects


def _checked_ids(
    labels: NDArray[Any], *, ignore: int | None
) -> tuple[Integers, NDArray[np.bool_] | None]:
    """Return the labels as int64, 0 where ignored, and the mask of ignored voxels or None."""
    if labels.dtype.kind not in "iub":
        raise LabelError(
            f"labels are {labels.dtype}: expected integers, classes or object ids (0: background)"
        )
    ignored = None
    if ignore is not None:
        where = labels == ignore
        if where.any():
            ignored, labels = where, np.where(where, np.zeros((), labels.dtype), labels)
    if labels.size and labels.dtype.kind == "i" and (least := int(labels.min())) < 0:
        raise LabelError(
            f"labels have the negative id {least}: expected ids from 0 on; set ignore to it"
        )
    if labels.size and labels.dtype == np.uint64 and (most := int(labels.max())) >= 2**63:
        raise LabelError(
            f"labels have the id {most}: expected ids below 2**63 = {2**63}; set ignore to it"
        )
    return labels.astype(np.int64), ignored


def _differs_from_a_neighbour(
    ids: Integers, *, ignored: NDArray[np.bool_] | None, dims: int
) -> NDArray[np.bool_]:
    """Return where a known face neighbour has another id; in-plane for ``dims`` 2."""
    differs = np.zeros(ids.shape, dtype=bool)
    for axis in range(ids.ndim - dims, ids.ndim):
        before = (slice(None),) * axis + (slice(None, -1),)
        after = (slice(None),) * axis + (slice(1, None),)
        step = ids[before] != ids[after]
        if ignored is not None:
            step &= ~(ignored[before] | ignored[after])
        differs[before] |= step
        differs[after] |= step
    return differs


def _components(mask: NDArray[np.bool_], *, dims: int) -> Integers:
    """Number the face-connected components from 1 on; for ``dims`` 2 of each slice separately."""
    faces = ndimage.generate_binary_structure(mask.ndim, 1)
    if dims < mask.ndim:
        faces[[0, 2]] = False
    numbered, _ = ndimage.label(mask, structure=faces)
    return numbered.astype(np.int64)
