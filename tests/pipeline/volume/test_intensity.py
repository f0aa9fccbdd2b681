from uuid import uuid4

import numpy as np
import pytest
import zarr
from distributed import Client
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from pipeline.base.errors import IntensityError
from pipeline.volume.fingerprint import measured_note
from pipeline.volume.intensity import (
    Intensity,
    check_record,
    parse_record,
    range_intensity,
    stated_intensity,
    zscore_intensity,
)
from pipeline.volume.measure_intensity import measure_intensity
from pipeline.volume.order_statistics import count_digits, values_at_ranks
from pipeline.volume.statistics import HistogramRange, histogram_of, moments_of, percentile_of
from pipeline.volume.volume import find_volume

INTEGERS = ["uint8", "int8", "uint16", "int16", "uint32", "int32", "uint64", "int64"]


@pytest.mark.parametrize("dtype", INTEGERS)
def test_the_range_of_an_integer_type_becomes_0_to_1(dtype):
    intensity = stated_intensity(check_record({"kind": "dtype"}, dtype), dtype)
    ends = np.array([np.iinfo(dtype).min, np.iinfo(dtype).max], dtype).reshape(1, 1, 1, 2)
    np.testing.assert_allclose(intensity.apply(ends).ravel(), [0, 1], atol=1e-6)


def test_no_record_means_the_dtypes_range_or_unchanged_floats():
    assert check_record(None, "uint16") == {"kind": "dtype"}
    assert check_record(None, "float32") == {"kind": "none"}


def test_nan_and_infinite_values_become_zero_and_affect_no_other():
    raw = np.array([np.nan, np.inf, -np.inf, 3.0], np.float32).reshape(1, 1, 1, 4)
    np.testing.assert_array_equal(Intensity((1.0,), (2.0,)).apply(raw).ravel(), [0, 0, 0, 4])


def test_each_channel_has_its_own_offset_and_scale():
    raw = np.array([[10, 20], [100, 300]], np.uint16).reshape(2, 1, 1, 2)
    x = range_intensity([(10, 20), (100, 300)]).apply(raw)
    np.testing.assert_array_equal(x[:, 0, 0], [[0, 1], [0, 1]])
    assert x.dtype == np.float32


def test_a_flat_channel_becomes_zero_not_infinity():
    raw = np.full((1, 1, 1, 3), 7, np.uint8)
    assert not range_intensity([(7, 7)]).apply(raw).any()
    assert not zscore_intensity([(7, 0)]).apply(raw).any()


def test_an_intensity_survives_json():
    intensity = Intensity((1.5, 2.0), (0.1, 1 / 3))
    assert Intensity.from_json(intensity.to_json()) == intensity


@pytest.mark.parametrize(
    ("record", "words"),
    [
        ({"kind": "magic"}, "unknown"),
        ({"kind": "range", "low": 5, "high": 5}, "below"),
        ({"kind": "range", "low": 5}, "without high: expected both"),
        ({"kind": "range"}, "without low and high: expected both, as range:LOW:HIGH"),
        ({"kind": "range", "low": 0, "high": float("nan")}, "below"),
        ({"kind": "percentile", "low": -1, "high": 99}, "0 to 100"),
        ({"kind": "zscore", "low": 1}, "does not take low"),
    ],
)
def test_an_invalid_record_is_rejected(record, words):
    with pytest.raises(IntensityError, match=words):
        check_record(record, "uint8")


def test_floats_have_no_dtype_range():
    with pytest.raises(IntensityError, match="range:LOW:HIGH"):
        check_record({"kind": "dtype"}, "float32")


@pytest.mark.parametrize("text", ["range:0", "range:a:b", "percentile:1:2:3"])
def test_an_invalid_record_text_is_rejected(text):
    with pytest.raises(IntensityError, match="range:0:255"):
        parse_record(text)


pieces = st.lists(
    hnp.arrays(np.uint16, st.tuples(st.just(2), st.integers(0, 3), st.integers(1, 3), st.just(2))),
    min_size=1, max_size=5,
)  # fmt: skip


@given(pieces)
def test_moments_of_parts_add_up_to_those_of_the_whole(parts):
    whole = np.concatenate([part.reshape(2, -1) for part in parts], axis=1)
    total = moments_of(parts[0])
    for part in parts[1:]:
        total += moments_of(part)
    assert (total.count == whole.shape[1]).all()
    if whole.size:
        np.testing.assert_allclose(total.mean, whole.mean(axis=1))
        np.testing.assert_allclose(total.std, whole.std(axis=1), atol=1e-6)


@given(pieces, st.floats(0, 100))
def test_percentiles_of_16_bits_are_exact(parts, percent):
    whole = np.concatenate([part.reshape(2, -1) for part in parts], axis=1)
    if not whole.size:
        return
    bins = HistogramRange.of_dtype("uint16")
    counts = sum(histogram_of(part, (bins, bins)) for part in parts)
    for channel in range(2):
        expected = np.percentile(whole[channel], percent, method="inverted_cdf")
        assert percentile_of(counts[channel], bins, percent) == expected


def test_percentiles_of_floats_are_within_one_bin_and_ignore_nan():
    values = np.random.default_rng(0).normal(size=(1, 10, 10, 100))
    values[0, 0, 0, :5] = np.nan
    moments = moments_of(values)
    bins = HistogramRange.between(moments.least[0], moments.largest[0])
    counts = histogram_of(values, (bins,))
    assert counts.sum() == 9995
    for percent in (1, 50, 99.8):
        exact = np.nanpercentile(values, percent, method="inverted_cdf")
        assert abs(percentile_of(counts[0], bins, percent) - exact) <= bins.width


FINITE = {
    dtype: hnp.arrays(dtype, st.integers(1, 60), elements=hnp.from_dtype(np.dtype(dtype), **bounds))
    for dtype, bounds in (
        ("uint32", {}), ("int32", {}), ("int64", {}), ("uint64", {}),
        *((f"float{bits}", {"allow_nan": True, "allow_infinity": True}) for bits in (16, 32, 64)),
    )
}  # fmt: skip


@pytest.mark.parametrize("dtype", FINITE)
@given(st.data())
def test_values_found_by_digits_are_those_that_sorting_finds(dtype, data):
    values = data.draw(FINITE[dtype])
    kept = np.sort(values[np.isfinite(values)])
    if not kept.size:
        return
    ranks = [1, (kept.size + 1) // 2, kept.size]
    parts = np.array_split(values, data.draw(st.integers(1, 3)))

    def count(searches):
        return sum(count_digits(part[None], searches) for part in parts)

    found = values_at_ranks([ranks], dtype, count)
    assert found == [[float(kept[rank - 1]) for rank in ranks]]


@pytest.fixture(scope="module")
def clients():
    with (
        Client(processes=False, n_workers=1, threads_per_worker=1, dashboard_address=None) as one,
        Client(processes=False, n_workers=2, threads_per_worker=2, dashboard_address=None) as two,
    ):
        yield one, two


def measured(tmp_path, values, client, record, *, chunks=(2, 16, 16)):
    store = tmp_path / f"{uuid4()}.zarr"
    axes = list("czyx"[-values.ndim :])
    zarr.create_array(store, data=values, chunks=(1, *chunks)[-values.ndim :], dimension_names=axes)
    return measure_intensity(find_volume(store), record, client, token=uuid4().hex)


PERCENTILE = {"kind": "percentile", "low": 1.0, "high": 99.8}
OUTLIERS = {
    "float32": [1e9, -1e9, 3.4e38, np.inf, np.nan],
    "float64": [1e300, -1.7e308, 1.7e308, np.nan],
    "int32": [2**31 - 1, -(2**31)],
    "uint32": [2**32 - 1],
    "int64": [2**62, -(2**63)],
    "uint64": [2**64 - 1],
}


@pytest.mark.parametrize("dtype", OUTLIERS)
def test_no_outlier_moves_a_percentile(tmp_path, clients, dtype):
    values = np.random.default_rng(1).normal(100_000, 5000, (4, 48, 48)).astype(dtype)
    hot = values.copy()
    for place, outlier in enumerate(OUTLIERS[dtype]):
        hot[3, 40, place] = outlier
    clean = measured(tmp_path, values, clients[0], PERCENTILE)
    found = measured(tmp_path, hot, clients[1], PERCENTILE)
    kept = hot[np.isfinite(hot)]
    low, high = (np.percentile(kept, p, method="inverted_cdf") for p in (1, 99.8))
    assert found.offset == (float(low),)
    assert found.scale == pytest.approx((1 / (float(high) - float(low)),))
    assert found.offset == pytest.approx(clean.offset, rel=1e-2)
    assert found.scale == pytest.approx(clean.scale, rel=0.1)


def test_percentiles_do_not_depend_on_the_cuts_or_the_workers(tmp_path, clients):
    values = np.random.default_rng(2).normal(7, 2, (2, 4, 40, 40)).astype("f4")
    values[0, 0, 0, 0] = 1e20
    found = {
        measured(tmp_path, values, client, PERCENTILE, chunks=chunks)
        for client in clients
        for chunks in ((1, 1, 7, 40), (2, 4, 40, 40))
    }
    assert len(found) == 1


def test_large_chunks_are_measured_in_parts_with_the_same_result(tmp_path, clients, monkeypatch):
    values = np.random.default_rng(5).normal(0, 9, (2, 4, 30, 30)).astype("f4")
    chunks = (4, 30, 30)
    whole = measured(tmp_path, values, clients[0], PERCENTILE, chunks=chunks)
    monkeypatch.setattr("pipeline.volume.measure_intensity._STEP_VOXELS", 1000)
    assert measured(tmp_path, values, clients[1], PERCENTILE, chunks=chunks) == whole


def test_percentiles_without_outliers_come_from_the_65536_bins_as_before(tmp_path, clients):
    values = np.random.default_rng(3).normal(1000, 150, (8, 48, 48)).astype("f4")
    found = measured(tmp_path, values, clients[0], PERCENTILE)
    least, largest = float(values.min()), float(values.max())
    bins = HistogramRange(least, (largest - least) / 65535)
    counts = histogram_of(values[None], (bins,))[0]
    low, high = (percentile_of(counts, bins, percent) for percent in (1, 99.8))
    assert found == range_intensity([(low, high)])


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32", "int64"])
def test_percentiles_that_are_one_value_of_several_are_refused(tmp_path, clients, dtype):
    values = np.zeros((8, 100, 100), dtype)
    values[3, 10:13, 10:14] = np.arange(12).reshape(3, 4) + 90
    with pytest.raises(
        IntensityError, match=r"both 0, .* from 0 to 101: use --normalisation range:LOW:HIGH"
    ):
        measured(tmp_path, values, clients[0], PERCENTILE)


@pytest.mark.parametrize("dtype", ["uint8", "float32", "float64", "int32"])
@pytest.mark.parametrize("kind", ["percentile", "zscore"])
def test_a_constant_channel_is_measured_and_becomes_zero(tmp_path, clients, dtype, kind):
    values = np.full((2, 2, 16, 16), 7, dtype)
    values[1] = np.arange(512).reshape(2, 16, 16) % 100
    record = check_record({"kind": kind}, dtype)
    found = measured(tmp_path, values, clients[0], record)
    assert not found.apply(values)[0].any()
    assert np.ptp(found.apply(values)[1]) > 0.9


@pytest.mark.parametrize("kind", ["percentile", "zscore"])
def test_a_channel_without_a_finite_value_becomes_zero(tmp_path, clients, kind):
    values = np.full((2, 16, 16), np.nan, "f4")
    found = measured(tmp_path, values, clients[0], check_record({"kind": kind}, "float32"))
    assert not found.apply(values[None]).any()


def test_a_standard_deviation_that_overflows_is_refused(tmp_path, clients):
    values = np.zeros((2, 16, 16))
    values[0, 0, 0] = 1e300
    with pytest.raises(IntensityError, match="too large: use percentile"):
        measured(tmp_path, values, clients[0], {"kind": "zscore"})


def test_outliers_that_dominate_a_standard_deviation_are_noted(tmp_path, clients):
    values = np.random.default_rng(4).normal(1000, 150, (4, 48, 48)).astype("f4")
    store = tmp_path / "v.zarr"
    record = {"kind": "zscore"}
    zarr.create_array(store, data=values, chunks=(4, 48, 48), dimension_names=list("zyx"))
    clean = measured(tmp_path, values, clients[0], record)
    values[3, 40, 40] = 1e9
    hot = measured(tmp_path, values, clients[0], record)
    source = find_volume(store)
    assert measured_note(source, clean, record) is None
    assert "use --normalisation percentile" in measured_note(source, hot, record)
