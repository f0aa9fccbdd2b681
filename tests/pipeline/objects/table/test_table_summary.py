"""What a summary says of a table is true of all its rows, though it reads few at a time."""

from __future__ import annotations

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.base.errors import OutputError
from pipeline.base.location import Location
from pipeline.objects.table import table_file
from pipeline.objects.table.size_counts import SizeCounts
from pipeline.objects.table.table_summary import summarise_table

OBJECTS = 1000


@pytest.fixture(scope="module")
def columns():
    rng = np.random.default_rng(4)
    places = {f"centroid_{axis}": rng.uniform(0, 90, OBJECTS) for axis in "zyx"}
    return {
        "id": np.arange(1, OBJECTS + 1, dtype=np.uint64),
        "voxels": rng.integers(1, 400, OBJECTS),
        **places,
        "elongation": np.ones(OBJECTS),
        "touches_edge": rng.uniform(size=OBJECTS) < 0.2,
    }


class Watched(pq.ParquetFile):
    """Notes how many values are read at a time."""

    most = 0

    def read_row_group(self, *args, **kwargs):
        rows = super().read_row_group(*args, **kwargs)
        type(self).most = max(self.most, rows.num_rows)
        return rows

    def read(self, *_, **__):
        raise AssertionError("all rows at once")


@pytest.mark.parametrize("rows_per_group", [7, 64, OBJECTS])
@pytest.mark.parametrize("place", ["folder", "memory"])
def test_a_summary_equals_that_of_all_rows_and_reads_one_row_group_at_a_time(
    place, rows_per_group, columns, tmp_path, monkeypatch
):
    folder = tmp_path if place == "folder" else f"memory://summary-{rows_per_group}"
    location = Location.parse(folder) / "objects.parquet"
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table(columns), sink, row_group_size=rows_per_group)
    if location.is_local:
        location.path.write_bytes(sink.getvalue())
    else:
        fsspec.filesystem("memory").pipe(
            location.uri.partition("://")[2], sink.getvalue().to_pybytes()
        )
    watched = type("Watched", (Watched,), {})
    monkeypatch.setattr(table_file.pq, "ParquetFile", watched)
    found = summarise_table(location)
    voxels = columns["voxels"]
    assert watched.most == rows_per_group
    assert found.objects == OBJECTS
    assert found.voxels == voxels.sum()
    assert found.at_edge == columns["touches_edge"].sum()
    np.testing.assert_array_equal(found.sizes.counts, SizeCounts.of(voxels).counts)
    by_size = np.argsort(voxels, kind="stable")
    assert [one.id for one in found.smallest] == (by_size[:5] + 1).tolist()
    largest = np.argsort(-voxels, kind="stable")[:5]
    assert [one.id for one in found.largest] == (largest + 1).tolist()
    first = found.largest[0]
    assert first.voxels == voxels.max()
    assert first.centroid == tuple(columns[f"centroid_{a}"][largest[0]] for a in "zyx")


def test_a_table_without_objects_has_a_summary(columns, tmp_path):
    empty = pa.table({name: values[:0] for name, values in columns.items()})
    pq.write_table(empty, tmp_path / "objects.parquet")
    found = summarise_table(Location.parse(tmp_path / "objects.parquet"))
    assert (found.objects, found.voxels, found.at_edge) == (0, 0, 0)
    assert (found.largest, found.smallest) == ((), ())


@pytest.mark.parametrize("content", [None, b"PAR1 and nothing else"], ids=["absent", "damaged"])
def test_a_table_that_cannot_be_read_is_named(content, tmp_path):
    path = tmp_path / "objects.parquet"
    if content:
        path.write_bytes(content)
    with pytest.raises(OutputError, match=r"objects\.parquet"):
        summarise_table(Location.parse(path))
