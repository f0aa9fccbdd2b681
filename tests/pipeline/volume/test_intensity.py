import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from pipeline.base.errors import IntensityError
from pipeline.volume.intensity import (
    Intensity,
    check_record,
    parse_record,
    range_intensity,
    stated_intensity,
    zscore_intensity,
)
from pipeline.volume.statistics import HistogramRange, histogram_of, moments_of, percentile_of

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
