"""Ids are ranks of names, however the names are stored; filters keep what they state."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.base.geometry import Box
from pipeline.objects.fragments.measures import Records
from pipeline.objects.tasks import ids
from pipeline.objects.tasks.filters import Filter
from pipeline.objects.tasks.ids import IdIndex, LayerNames, owned, part_name


def stored(layers, part):
    """Return the stored parts of the layers' names, and what the index is made of."""
    parts, summary = {}, []
    for number, names in enumerate(layers):
        starts = range(0, len(names), part)
        for k, start in enumerate(starts):
            parts[part_name(number, k)] = np.array(names[start : start + part], np.uint64)
        firsts = tuple(names[start] for start in starts)
        summary.append(LayerNames(layer=number, count=len(names), firsts=firsts))
    return parts, summary


@given(st.sets(st.integers(1, 10**12)), st.integers(1, 5), st.integers(1, 9))
def test_ids_are_ranks_of_names_over_all_parts_and_layers(names, part, layers):
    listed = sorted(names)
    cuts = [len(listed) * k // layers for k in range(layers + 1)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ids, "NAMES_PER_PART", part)
        parts, summary = stored([listed[a:b] for a, b in itertools.pairwise(cuts)], part)
        index = IdIndex.of(summary)
        asked = np.array([0, *listed[::-1], *(n + 1 for n in listed)], np.uint64)
        found = index.ids(asked, parts.__getitem__)
    rank = {name: number for number, name in enumerate(listed, 1)}
    assert found.tolist() == [rank.get(int(name), 0) for name in asked]


def test_a_block_reads_only_the_parts_that_hold_its_names(monkeypatch):
    monkeypatch.setattr(ids, "NAMES_PER_PART", 2)
    parts, summary = stored([[1, 4, 6, 7], [9, 12, 30]], 2)
    read = []
    index = IdIndex.of(summary)
    index.ids(np.array([0, 7, 30], np.uint64), lambda part: read.append(part) or parts[part])
    assert read == ["0.1", "1.1"]


@given(st.tuples(*[st.integers(1, 6)] * 3), st.tuples(*[st.integers(1, 4)] * 3))
def test_every_name_belongs_to_the_block_of_its_voxel_and_0_to_none(shape, core):
    count = int(np.prod(shape))
    names = np.arange(count + 1, dtype=np.uint64)
    records = Records(names=names, voxels=names.astype(np.int64), at_edge=names > 3)
    index = np.arange(1, count + 1).reshape(shape)
    times = np.zeros(count + 1, int)
    for start in itertools.product(*(range(0, n, c) for n, c in zip(shape, core, strict=True))):
        stop = tuple(min(a + c, n) for a, c, n in zip(start, core, shape, strict=True))
        box = Box(start, stop)
        mine = owned(records, box, shape)
        assert set(names[mine].tolist()) == set(index[box.slices].ravel().tolist())
        times += mine
    assert times.tolist() == [0, *[1] * count]


def test_filters_keep_sizes_within_both_limits_and_drop_the_edge():
    records = Records(
        names=np.array([0, 1, 2, 3, 4], np.uint64),
        voxels=np.array([50, 4, 5, 9, 10]),
        at_edge=np.array([False, False, True, False, False]),
    )
    assert Filter().keeps(records).tolist() == [False, True, True, True, True]
    sized = Filter(min_voxels=5, max_voxels=9)
    assert sized.keeps(records).tolist() == [False, False, True, True, False]
    inner = Filter(min_voxels=5, max_voxels=9, drops_border=True)
    assert inner.keeps(records).tolist() == [False, False, False, True, False]
