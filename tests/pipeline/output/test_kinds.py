"""One table of outputs: what it says is what is stored, and what doors offer."""

from typing import get_args

import numpy as np
import pytest

from pipeline.base.choices import OutputName, ScoresDtype
from pipeline.output.kinds import OUTPUT_KINDS
from pipeline.segmentation.request import SegmentRequest

SCORES = np.random.default_rng(0).dirichlet([1, 1, 1], (4, 5, 6)).astype(np.float32)
SCORES_CZYX = np.moveaxis(SCORES, -1, 0)
CLASSES_ZYX = SCORES_CZYX.argmax(axis=0).astype(np.uint8)


def test_names_for_types_and_the_table_are_the_same():
    assert set(OUTPUT_KINDS) == set(get_args(OutputName))
    assert set(OUTPUT_KINDS["scores"].dtypes) == set(get_args(ScoresDtype))


@pytest.mark.parametrize(
    ("name", "dtype"), [(k.name, d) for k in OUTPUT_KINDS.values() for d in k.dtypes]
)
def test_what_a_kind_stores_has_the_axes_and_the_dtype_that_it_states(name, dtype):
    kind = OUTPUT_KINDS[name]
    stored = kind.stored(SCORES_CZYX, CLASSES_ZYX, dtype)
    assert stored.dtype == dtype
    assert stored.shape == (*kind.channels(3), 4, 5, 6)
    if kind.is_label:
        assert stored.dtype.kind in "iu"
        assert kind.reduction == "majority", "labels are never averaged"


@pytest.mark.parametrize(("dtype", "step"), [("uint8", 1 / 255), ("float16", 1e-3), ("float32", 0)])
def test_stored_probabilities_are_the_nearest_of_their_dtype(dtype, step):
    stored = OUTPUT_KINDS["scores"].stored(SCORES_CZYX, CLASSES_ZYX, dtype).astype(np.float64)
    if dtype == "uint8":
        stored /= 255
    assert np.abs(stored - SCORES_CZYX).max() <= step / 2 + 1e-9


@pytest.mark.parametrize("outputs", [("objects",), ("scores", "objects")])
def test_an_output_that_is_not_in_the_table_is_refused(outputs):
    with pytest.raises(ValueError, match="expected classes or scores, one or more"):
        SegmentRequest(input="in.zarr", output="out.zarr", outputs=outputs)
