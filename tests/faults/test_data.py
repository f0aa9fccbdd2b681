"""Unusual values and layouts of the input: the same voxels give the same bytes."""

from __future__ import annotations

import numpy as np
import pytest
import zarr

from faults.laws import check_content, check_words
from faults.small import SHAPE, stored, textured

pytestmark = pytest.mark.faults
CHUNKS = (4, 16, 32)


def segmented(trial, array, name, *, is_fault=True, **options):
    """Segment an array, and return the bytes of the output."""
    source, output = trial.folder / f"{name}.zarr", trial.folder / f"{name}-out.zarr"
    if not source.exists():
        zarr.create_array(
            source, data=array, chunks=CHUNKS, dimension_names=("z", "y", "x"), **options
        )
    words = trial.place.words(trial.small("segment"), output)
    words[1] = str(source)
    running = trial.commands.start(words)
    check_words(running.ended())
    if is_fault:
        trial.record("segment", name)
    return stored(output)


@pytest.mark.parametrize("dtype", [">u2", "<u2", ">f4", "<f4"])
def test_the_order_of_bytes_and_the_dtype_change_no_voxel(dtype, trial):
    found = segmented(trial, textured(SHAPE, seed=1).astype(dtype), f"values as {dtype}")
    check_content(found, trial.place.reference(trial.small("segment")).content)


def test_the_order_of_bytes_of_wide_integers_changes_no_voxel(trial):
    """They are normalised in float64, so that their scores differ in the last bits from uint8's."""
    raw = textured(SHAPE, seed=1)
    big, little = (
        segmented(trial, raw.astype(f"{order}i4"), f"values as {order}i4") for order in "><"
    )
    check_content(big, little)


def test_missing_chunks_are_read_as_the_fill_value(trial):
    raw = textured(SHAPE, seed=1)
    raw[:4, 16:, 32:64] = 37
    raw[4:, :16] = 37
    sparse = segmented(trial, raw, "missing chunks", fill_value=37)
    files = list((trial.folder / "missing chunks.zarr/c").rglob("*"))
    assert len([path for path in files if path.is_file()]) == 2 * 2 * 3 - 4
    stored_too = {"fill_value": 0, "config": {"write_empty_chunks": True}}
    full = segmented(trial, raw, "all chunks", is_fault=False, **stored_too)
    check_content(sparse, full)


def test_nan_and_infinite_values_are_read_as_0(trial):
    raw = textured(SHAPE, seed=1).astype("f4")
    zeros = raw.copy()
    for place, value in (((0, 3, 5), np.nan), ((5, 20, 70), np.inf), ((7, 31, 95), -np.inf)):
        raw[place], zeros[place] = value, 0
    found = segmented(trial, raw, "NaN and infinite")
    check_content(found, segmented(trial, zeros, "zeros", is_fault=False))


@pytest.mark.parametrize("value", [0, 255])
def test_a_constant_volume_is_segmented(value, trial):
    assert segmented(trial, np.full(SHAPE, value, "u1"), f"constant {value}")


def test_a_saturated_volume_is_segmented(trial):
    raw = textured(SHAPE, seed=1)
    assert segmented(trial, np.where(raw > 128, 255, raw).astype("u1"), "saturated")
