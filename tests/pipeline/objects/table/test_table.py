"""Laws of the table of objects: independent references, units, files that are whole or absent."""

from __future__ import annotations

import contextlib
import csv
import io
import math
import re
from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage
from skimage.measure import regionprops_table

from pipeline.base.errors import OutputError
from pipeline.base.geometry import Box
from pipeline.base.location import Location
from pipeline.base.stores import fsspec_options
from pipeline.objects.table import table
from pipeline.objects.table.block_rows import rows_of_block, table_outer
from pipeline.objects.table.csv_digits import significant
from pipeline.objects.table.rows import ObjectRows
from pipeline.objects.table.table import TableWriter, finished, table_schema
from pipeline.objects.table.table_spec import TableSpec

SIZE_UM = (0.5, 0.2, 0.1)
SIZED = TableSpec(
    voxel_size_um=SIZE_UM,
    score_scale=255,
    channel_names=("DAPI", "membrane, 2"),
    intensity_dtype="uint16",
)


def volume(seed, shape=(9, 14, 17), *, objects=12):
    """Return labels of irregular objects of any shape, scores and two channels."""
    rng = np.random.default_rng(seed)
    places = rng.random((objects, 3)) * shape
    distance = ((np.indices(shape).reshape(3, -1).T[:, None] - places) ** 2).sum(axis=2)
    noisy = distance * rng.uniform(0.8, 1.2, distance.shape)
    labels = np.where(noisy.min(axis=1) < 20, noisy.argmin(axis=1) + 1, 0).reshape(shape)
    scores = rng.integers(0, 256, shape).astype(np.uint8)
    values = rng.integers(0, 65536, (2, *shape)).astype(np.uint16)
    return labels.astype(np.uint32), scores, values


def rows_of(labels, scores=None, values=None):
    return rows_of_block(
        labels,
        core=Box.of_shape(labels.shape),
        shape=labels.shape,
        scores_zyx=scores,
        intensities_czyx=values,
    )


def rows_of_blocks(labels, scores, values, cut):
    cores = [
        Box(start, stop)
        for start, stop in (
            ((0, 0, 0), (cut, *labels.shape[1:])),
            ((cut, 0, 0), (labels.shape[0], cut, labels.shape[2])),
            ((cut, cut, 0), labels.shape),
        )
    ]
    return ObjectRows.merged(
        rows_of_block(
            labels[table_outer(core, labels.shape).slices],
            core=core,
            shape=labels.shape,
            scores_zyx=scores[core.slices],
            intensities_czyx=values[(slice(None), *core.slices)],
        )
        for core in cores
    )


@settings(max_examples=10)
@given(st.integers(0, 10**6), st.integers(1, 8))
def test_the_table_of_blocks_is_the_table_of_the_volume_bit_for_bit(seed, cut):
    given_volume = volume(seed)
    whole = finished(rows_of(*given_volume), SIZED)
    assert finished(rows_of_blocks(*given_volume, cut), SIZED).equals(whole, check_metadata=True)


@pytest.mark.parametrize("seed", range(4))
def test_sizes_places_and_intensities_are_those_of_skimage(seed):
    labels, scores, values = volume(seed)
    found = finished(rows_of(labels, scores, values), SIZED).to_pydict()
    image = np.moveaxis(np.concatenate((values, scores[None])).astype(np.float64), 0, -1)
    names = ("label", "area", "bbox", "centroid", "equivalent_diameter_area", "intensity_mean",
             "intensity_min", "intensity_max")  # fmt: skip
    expected = regionprops_table(labels, image, properties=names)
    physical = regionprops_table(labels, properties=("area", "centroid"), spacing=SIZE_UM)
    assert found["id"] == expected["label"].tolist()
    assert found["voxels"] == expected["area"].tolist()
    np.testing.assert_allclose(found["volume_um3"], physical["area"])
    volumes = np.array(found["volume_um3"])
    np.testing.assert_allclose(np.pi / 6 * np.array(found["equivalent_diameter_um"]) ** 3, volumes)
    for axis, name in enumerate("zyx"):
        assert found[f"box_{name}0"] == expected[f"bbox-{axis}"].tolist()
        assert found[f"box_{name}1"] == expected[f"bbox-{axis + 3}"].tolist()
        np.testing.assert_allclose(found[f"centroid_{name}"], expected[f"centroid-{axis}"])
        np.testing.assert_allclose(found[f"centroid_{name}_um"], physical[f"centroid-{axis}"])
    np.testing.assert_allclose(found["mean_score"], expected["intensity_mean-2"] / 255)
    for channel, name in enumerate(SIZED.channel_names):
        assert found[f"intensity_min_{name}"] == expected[f"intensity_min-{channel}"].tolist()
        assert found[f"intensity_max_{name}"] == expected[f"intensity_max-{channel}"].tolist()
        np.testing.assert_allclose(
            found[f"intensity_mean_{name}"], expected[f"intensity_mean-{channel}"]
        )
        sums = ndimage.sum_labels(values[channel].astype(np.int64), labels, found["id"])
        assert found[f"intensity_sum_{name}"] == sums.tolist()
    assert len(found["id"]) > 3


@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), SIZE_UM, (2.0, 0.3, 0.3)])
def test_elongation_is_that_of_skimages_inertia_with_a_voxels_own_moment_added(spacing):
    labels, _, _ = volume(8)
    found = finished(rows_of(labels), TableSpec(voxel_size_um=spacing))["elongation"].to_numpy()
    tensors = regionprops_table(labels, properties=("inertia_tensor",), spacing=spacing)
    inertia = np.stack(list(tensors.values()), axis=1).reshape(-1, 3, 3)
    trace = np.trace(inertia, axis1=1, axis2=2)[:, None, None]
    covariance = trace / 2 * np.eye(3) - inertia + np.diag(np.square(spacing) / 12)
    eigenvalues = np.linalg.eigvalsh(covariance)
    np.testing.assert_allclose(found, np.sqrt(eigenvalues[:, 2] / eigenvalues[:, 0]), rtol=1e-9)
    assert found.max() > 1.2


def test_flat_objects_have_the_elongation_of_skimages_inertia_in_two_dimensions():
    labels = volume(8, (1, 30, 40), objects=20)[0]
    found = finished(rows_of(labels), TableSpec(is_flat=True))["elongation"].to_numpy()
    names = [f"moments_central-{a}-{b}" for a, b in ((2, 0), (1, 1), (1, 1), (0, 2))]
    props = regionprops_table(labels[0], properties=("moments_central", "area"))
    moments = np.stack([props[name] / props["area"] for name in names], axis=1).reshape(-1, 2, 2)
    eigenvalues = np.linalg.eigvalsh(moments + np.eye(2) / 12)
    np.testing.assert_allclose(found, np.sqrt(eigenvalues[:, 1] / eigenvalues[:, 0]), rtol=1e-9)


@pytest.mark.parametrize(("side", "elongation"), [((3, 3, 3), 1), ((1, 1, 7), 7), ((2, 8, 4), 4)])
def test_a_box_has_the_elongation_of_its_sides(side, elongation):
    labels = np.pad(np.ones(side, np.uint32), 1)
    found = finished(rows_of(labels), TableSpec())
    assert found["elongation"].to_pylist() == pytest.approx([elongation], rel=1e-12)
    um = finished(rows_of(labels), TableSpec(voxel_size_um=(1.0, 2.0, 0.5)))
    sides = np.array(side) * (1.0, 2.0, 0.5)
    assert um["elongation"].to_pylist() == pytest.approx([sides.max() / sides.min()], rel=1e-12)


def test_an_object_keeps_its_shape_wherever_it_lies():
    """Moments about the first voxel of the volume would lose every digit here."""
    labels = volume(5)[0]
    rows = rows_of(labels)
    far = (2**30, 2**29, 2**28)
    core = Box(far, tuple(a + b for a, b in zip(far, labels.shape, strict=True)))
    shape = (2**31 - 1,) * 3
    moved = rows_of_block(np.pad(labels, 1), core=core, shape=shape)
    near, distant = (finished(one, TableSpec()).to_pydict() for one in (rows, moved))
    assert distant["elongation"] == near["elongation"]
    for axis, name in enumerate("zyx"):
        shifted = [value + far[axis] for value in near[f"centroid_{name}"]]
        np.testing.assert_allclose(distant[f"centroid_{name}"], shifted, rtol=1e-15)


def test_a_box_of_two_to_the_60_voxels_is_measured_exactly():
    """Its second moments are above 2**100. It is made from rows, not from voxels."""
    sides = (2**20, 2**21, 2**19)
    count = math.prod(sides)
    sums = [count * (side - 1) // 2 for side in sides]
    squares = [count * (side - 1) * (2 * side - 1) // 6 for side in sides]
    products = [sums[a] * (sides[b] - 1) // 2 for a, b in ((0, 1), (0, 2), (1, 2))]
    moments = [*sums, *squares, *products]
    assert max(moments) > 2**100
    digits = [[value >> 32 * place & (2**32 - 1) for place in range(4)] for value in moments]
    one = rows_of(np.ones((1, 1, 1), np.uint32))
    rows = replace(one, voxels=np.array([count]), moments=np.array([digits], np.uint32))
    found = finished(rows, TableSpec()).to_pydict()
    for name, side in zip("zyx", sides, strict=True):
        assert found[f"centroid_{name}"] == [(side - 1) / 2]
    assert found["elongation"] == pytest.approx([4.0], rel=1e-12)


def test_surfaces_are_faces_times_their_physical_area_and_the_edge_is_separate():
    labels = np.zeros((5, 6, 7), np.uint32)
    labels[1:3, 1:4, 1:5] = 1  # 2 x 3 x 4, inside
    labels[4:, 0:2, 0:3] = 2  # 1 x 2 x 3, in a corner
    found = finished(rows_of(labels), TableSpec(voxel_size_um=SIZE_UM)).to_pydict()
    z, y, x = SIZE_UM
    assert found["surface_faces"] == [2 * (12 + 8 + 6), 6 + 3 + 2]
    assert found["edge_surface_faces"] == [0, 6 + 3 + 2]
    assert found["surface_um2"] == pytest.approx(
        [2 * (12 * y * x + 8 * z * x + 6 * z * y), 6 * y * x + 3 * z * x + 2 * z * y]
    )
    assert found["edge_surface_um2"] == pytest.approx([0, 6 * y * x + 3 * z * x + 2 * z * y])
    assert found["touches_edge"] == [False, True]


def test_a_flat_object_has_area_and_perimeter_and_no_edge_along_z():
    labels = np.zeros((1, 6, 7), np.uint32)
    labels[0, 1:3, 1:5] = 1
    labels[0, 5, 6] = 2
    spec = TableSpec(is_flat=True, voxel_size_um=(None, 0.2, 0.1), origin_um=(0, 10, 20))
    found = finished(rows_of(labels), spec).to_pydict()
    assert found["area_um2"] == pytest.approx([8 * 0.02, 0.02])
    assert found["perimeter_um"] == pytest.approx([2 * (4 * 0.1 + 2 * 0.2), 0.1 + 0.2])
    assert found["edge_perimeter_faces"] == [0, 2]
    assert found["touches_edge"] == [False, True]
    assert found["equivalent_diameter_um"] == pytest.approx(
        [2 * math.sqrt(0.16 / math.pi), 2 * math.sqrt(0.02 / math.pi)]
    )
    assert found["centroid_y_um"] == pytest.approx([10 + 1.5 * 0.2, 10 + 5 * 0.2])
    assert not {"volume_um3", "surface_faces", "centroid_z_um"} & set(found)


def test_without_a_physical_size_there_are_no_columns_in_micrometres():
    for size in ((None, None, None), (None, 0.2, 0.1)):
        spec = TableSpec(voxel_size_um=size)
        names = table_schema(spec).names
        assert not [n for n in names if "um" in n.split("_")[-1] and not n.startswith("centroid")]
        found = finished(rows_of(np.ones((2, 3, 4), np.uint32)), spec).to_pydict()
        assert found["equivalent_diameter"] == pytest.approx([np.cbrt(6 * 24 / np.pi)])


def test_the_origin_moves_centroids_and_backward_axes_keep_their_direction():
    labels = np.ones((2, 2, 2), np.uint32)
    spec = TableSpec(voxel_size_um=(-2.0, 1.0, 1.0), origin_um=(100.0, 0.0, 0.5))
    found = {
        name: values[0] for name, values in finished(rows_of(labels), spec).to_pydict().items()
    }
    assert [found[f"box_{name}{end}"] for end in "01" for name in "zyx"] == [0, 0, 0, 2, 2, 2]
    assert [found[f"centroid_{name}"] for name in "zyx"] == [0.5, 0.5, 0.5]
    assert [found[f"centroid_{name}_um"] for name in "zyx"] == [100 - 1, 0.5, 1.0]
    assert (found["volume_um3"], found["elongation"]) == (16.0, pytest.approx(2))


def test_intensities_that_are_not_finite_or_do_not_fit_are_empty():
    labels = np.array([[[1, 2, 2, 0]]], np.uint32)
    floats = np.array([[[[np.nan, 1.5, np.inf, 3]]]], np.float32)
    spec = TableSpec(channel_names=("a",), intensity_dtype="float32")
    found = finished(rows_of(labels, None, floats), spec).to_pydict()
    assert found["intensity_mean_a"] == [None, 1.5]
    assert found["intensity_sum_a"] == [0, 1.5]
    assert found["intensity_min_a"] == found["intensity_max_a"] == [None, 1.5]
    large = np.full((1, 1, 1, 4), 2**63 - 1, np.uint64)
    spec = TableSpec(channel_names=("a",), intensity_dtype="uint64")
    found = finished(rows_of(labels, None, large), spec).to_pydict()
    assert found["intensity_sum_a"] == [2**63 - 1, None]
    assert found["intensity_mean_a"] == [2.0**63, 2.0**63]
    assert found["intensity_max_a"] == [2**63 - 1] * 2


def test_sums_of_floats_are_those_of_the_exactly_rounded_sum():
    values = (10.0 ** np.arange(-20, 20)).astype(np.float32)
    both = np.concatenate((values, -values[::-1], [np.float32(1e-6)]))
    labels = np.ones((1, 1, both.size), np.uint32)
    spec = TableSpec(channel_names=("a",), intensity_dtype="float32")
    found = finished(rows_of(labels, None, both.reshape(1, 1, 1, -1).astype(np.float32)), spec)
    assert found["intensity_sum_a"].to_pylist() == [float(np.float32(1e-6))]


@pytest.mark.parametrize(
    ("names", "columns"),
    [(("a", "b"), ("a", "b")), (("a", "a"), ("0", "1")), (("", "b"), ("0", "1")), ((), ())],
)
def test_channels_without_distinct_names_are_numbered(names, columns):
    found = table_schema(TableSpec(channel_names=names)).names
    assert [name for name in found if "mean" in name] == [f"intensity_mean_{c}" for c in columns]


def test_every_column_states_its_description_and_unit():
    for field in table_schema(SIZED):
        assert field.metadata[b"description"]
        if field.name.endswith("_um"):
            assert field.metadata[b"unit"].decode() == "µm"


def documented_columns(channels):
    """Return the names of columns in the table of docs/objects-table.md, written in full."""
    text = (Path(__file__).parents[4] / "docs/objects-table.md").read_text()
    names = []
    for cell in re.findall(r"^\| (`[^|]*) \|", text, re.MULTILINE):
        row = []
        for name in re.findall(r"`([^`]*)`", cell):
            parts = name.split("_")
            row.append(
                name if parts[0] else "_".join([*row[0].split("_")[: 1 - len(parts)], *parts[1:]])
            )
        if cell.endswith("…"):
            row += [row[0].replace("_z_", f"_{axis}_") for axis in "yx"]
        names += row
    return {
        re.sub("_C$", f"_{channel}", name) for name in names for channel in channels
    }  # fmt: skip


def test_the_documented_columns_are_those_of_the_table():
    assert documented_columns(SIZED.channels) == set(table_schema(SIZED).names)


# Files


@pytest.fixture(params=["local", "s3"])
def folder(request, tmp_path):
    if request.param == "local":
        return Location.parse(tmp_path / "out.zarr" / "tables")
    return Location.parse(f"{request.getfixturevalue('s3')}/{tmp_path.name}/tables")


def content(location):
    """Return the bytes of a file, None where there is no such file."""
    system, path = fsspec.url_to_fs(location.uri, **fsspec_options(location))
    return system.cat_file(path) if system.exists(path) else None


def written(folder, rows, cuts, *, with_csv=True):
    stops = [*cuts, len(rows)]
    with TableWriter(folder, SIZED, with_csv=with_csv) as writer:
        for start, stop in zip([0, *cuts], stops, strict=True):
            writer.add(rows.taken(slice(start, stop)))
    assert writer.objects == len(rows)
    return content(folder / table.PARQUET), content(folder / table.CSV)


def test_files_hold_the_table_and_the_same_bytes_however_the_rows_were_cut(folder, monkeypatch):
    monkeypatch.setattr(table, "ROWS_PER_GROUP", 4)
    rows = rows_of(*volume(2))
    assert len(rows) >= 10
    files = [written(folder, rows, cuts) for cuts in ((), (1, 2), (4, 8), (7,), (0, 9))]
    assert len(set(files)) == 1
    parquet, text = files[0]
    expected = finished(rows, SIZED)
    found = pq.ParquetFile(io.BytesIO(parquet))
    assert found.read().equals(expected, check_metadata=True)
    assert found.metadata.num_row_groups == -(-len(rows) // 4)
    assert found.metadata.row_group(0).column(0).compression == "ZSTD"
    assert_same_numbers(text, expected, size_um=SIZE_UM)


def assert_same_numbers(text, expected, *, size_um):
    """Check a CSV digit by digit: whole numbers exactly, measures to six digits."""
    header, *lines = csv.reader(io.StringIO(text.decode()))
    assert header == expected.column_names
    assert len(lines) == len(expected)
    for name, *cells in zip(header, *lines, strict=True):
        values, kind = expected[name].to_pylist(), expected.schema.field(name).type
        for cell, value in zip(cells, values, strict=True):
            if value is None or kind != pa.float64():
                assert cell == ("" if value is None else str(value).lower())
                continue
            found, written = Decimal(cell), Decimal(value)
            if name.startswith("centroid_"):
                step = size_um["zyx".index(name[9])] if name.endswith("_um") else 1
                assert abs(found - written) <= Decimal(step) / 2000
                assert decimals(found) <= max(0, math.ceil(3 - math.log10(step)))
            else:
                assert abs(found - written) <= abs(written) * Decimal("5.000001e-6")
                assert digits(found) <= max(6, len(str(int(abs(value)))))


def decimals(number):
    """Return how many digits follow the point, without zeros at the end."""
    return max(0, -number.normalize().as_tuple().exponent)


def digits(number):
    """Return how many significant digits are written, without zeros at the end."""
    return len(number.normalize().as_tuple().digits)


@settings(max_examples=200)
@given(st.floats(min_value=1e-30, max_value=1e30) | st.just(0.0), st.sampled_from((1, -1)))
def test_a_number_in_a_csv_has_six_digits_and_all_before_the_point(size, sign):
    value = size * sign
    (found,) = significant(np.array([value])).tolist()
    assert abs(Decimal(found) - Decimal(value)) <= abs(Decimal(value)) * Decimal("5.000001e-6")
    if 1e-17 < size < 1e15:
        assert digits(Decimal(repr(found))) <= max(6, len(str(int(size))) + 1)


def test_what_is_not_a_number_stays_so_in_a_csv():
    values = np.array([np.nan, np.inf, -np.inf, 0.0])
    np.testing.assert_array_equal(significant(values), values)


def test_positions_far_from_the_origin_keep_a_thousandth_of_a_voxel(tmp_path):
    """Six digits would place them to a voxel of ten."""
    rows = rows_of(*volume(2))
    spec = replace(SIZED, origin_um=(1e6, -3e5, 123456.789))
    with TableWriter(Location.parse(tmp_path), spec, with_csv=True) as writer:
        writer.add(rows)
    assert_same_numbers((tmp_path / table.CSV).read_bytes(), finished(rows, spec), size_um=SIZE_UM)
    (tmp_path / table.CSV).unlink()
    table.write_missing_csv(Location.parse(tmp_path))
    assert_same_numbers((tmp_path / table.CSV).read_bytes(), finished(rows, spec), size_um=SIZE_UM)


def test_a_csv_of_volumes_reads_as_a_person_would_write_it(tmp_path):
    labels = np.zeros((4, 6, 7), np.uint32)
    labels[1:3, 1:4, 1:4] = 1
    spec = TableSpec(voxel_size_um=(0.3, 0.1, 0.1))
    with TableWriter(Location.parse(tmp_path), spec, with_csv=True) as writer:
        writer.add(rows_of(labels))
    header, row = (tmp_path / table.CSV).read_text().replace('"', "").splitlines()
    found = dict(zip(header.split(","), row.split(","), strict=True))
    assert [found[name] for name in ("voxels", "volume_um3", "equivalent_diameter_um")] == [
        "18", "0.054", "0.468956"
    ]  # fmt: skip
    assert [found[f"centroid_{axis}_um"] for axis in "zyx"] == ["0.45", "0.2", "0.2"]


def test_no_object_is_a_table_without_rows(folder):
    parquet, text = written(folder, ObjectRows.empty(2, dtype="uint16"), ())
    assert pq.read_table(io.BytesIO(parquet)).schema.equals(
        table_schema(SIZED), check_metadata=True
    )
    assert text.startswith(b"id,voxels,volume_um3,")
    assert text.count(b"\n") == 1


def test_csv_is_written_on_request_only(folder):
    parquet, text = written(folder, rows_of(*volume(2)), (), with_csv=False)
    assert parquet
    assert text is None


def test_after_an_error_older_files_are_unchanged_and_nothing_else_is_left(folder):
    before = written(folder, rows_of(*volume(2)), ())
    with (
        contextlib.suppress(KeyboardInterrupt),
        TableWriter(folder, SIZED, with_csv=True) as writer,
    ):
        writer.add(rows_of(*volume(3)))
        raise KeyboardInterrupt
    assert (content(folder / table.PARQUET), content(folder / table.CSV)) == before
    if folder.is_local:
        assert sorted(path.name for path in folder.path.iterdir()) == [table.CSV, table.PARQUET]


def test_temporary_files_of_a_killed_process_are_deleted(tmp_path):
    folder = Location.parse(tmp_path)
    (tmp_path / ".objects.parquet.0123.partial").write_bytes(b"PAR1")
    written(folder, rows_of(*volume(2)), ())
    assert sorted(path.name for path in tmp_path.iterdir()) == [table.CSV, table.PARQUET]


def test_rows_out_of_order_are_never_written(folder):
    rows = rows_of(*volume(2))
    with contextlib.suppress(AssertionError), TableWriter(folder, SIZED) as writer:
        writer.add(rows)
        writer.add(rows)
    assert writer.objects == len(rows)
    assert content(folder / table.PARQUET) is None


def test_a_folder_that_cannot_be_written_is_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match=r"file/tables/objects\.parquet: ") as caught:
        TableWriter(Location.parse(tmp_path / "file" / "tables"), SIZED)
    assert "\n" not in str(caught.value)
