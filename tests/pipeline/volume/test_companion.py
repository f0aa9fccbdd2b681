"""Labels and truth share the volume's time point and axes, as far as they have them."""

from __future__ import annotations

import numpy as np
import pytest
import zarr

from pipeline.base.errors import VolumeError
from pipeline.base.geometry import Box
from pipeline.base.location import Location
from pipeline.evaluation.plan import plan_evaluation
from pipeline.evaluation.request import EvaluateRequest
from pipeline.volume.companion import find_companion
from pipeline.volume.find_labels import ReadAs, find_labelled
from pipeline.volume.volume import find_volume, open_volume

SIZES = {"t": 2, "c": 3, "z": 4, "y": 6, "x": 8}
RAW = np.arange(np.prod(list(SIZES.values()))).reshape(list(SIZES.values())).astype("u2")


def stored(path, axes, values, *, names=None, **layout):
    """Write ``values`` (t, c, z, y, x) with these axes; those that it lacks are at index 1 or 0."""
    index = tuple(slice(None) if a in axes else int(a == "t") for a in "tczyx")
    kept = [a for a in "tczyx" if a in axes]
    array = values[index].transpose([kept.index(a) for a in axes])
    zarr.create_array(path, data=array, dimension_names=names, **layout)
    return Location.parse(path)


def sources_of(raw, labels, **options):
    placed = find_labelled(raw, labels, ReadAs(**options))
    return placed.raw, placed.labels


def read(source):
    return open_volume(source).read(Box.of_shape(source.shape_zyx))


@pytest.mark.parametrize("of_labels", ["zyx", "tzyx"])
@pytest.mark.parametrize("is_stated", [True, False])
def test_a_time_series_is_trained_on_with_labels_of_one_or_all_time_points(
    tmp_path, of_labels, is_stated
):
    names = list("tzyx") if is_stated else None
    raw = stored(tmp_path / "raw", "tzyx", RAW, names=names)
    labels = stored(
        tmp_path / "labels", of_labels, RAW, names=list(of_labels) if is_stated else None
    )
    pair = sources_of(raw, labels, time=1, axes=None if is_stated else "tzyx")
    np.testing.assert_array_equal(*map(read, pair))


@pytest.mark.parametrize(("axes", "of_labels"), [("yxc", "yx"), ("zyxc", "zyx"), ("cyx", "yx")])
def test_axes_of_the_volume_are_those_of_labels_that_lack_its_channels(tmp_path, axes, of_labels):
    raw = stored(tmp_path / "raw", axes, RAW)
    labels = stored(tmp_path / "labels", of_labels, RAW)
    found, of_it = sources_of(raw, labels, axes=axes)
    assert (found.axes, of_it.axes) == (axes, of_labels)
    assert found.channel_count == SIZES["c"]
    np.testing.assert_array_equal(read(found)[:1], read(of_it))


def test_labels_keep_the_axes_that_they_state(tmp_path):
    raw = stored(tmp_path / "raw", "xyz", RAW)
    labels = stored(tmp_path / "labels", "zyx", RAW, names=list("zyx"))
    pair = sources_of(raw, labels, axes="xyz")
    assert [one.axes for one in pair] == ["xyz", "zyx"]
    np.testing.assert_array_equal(*map(read, pair))


def test_axes_with_unknown_names_are_replaced_by_those_given(tmp_path):
    odd = stored(tmp_path / "odd", "zyx", RAW, attributes={"axes": ["row", "col", "plane"]})
    with pytest.raises(VolumeError, match="row col plane are not among"):
        find_companion(odd)
    assert find_companion(odd, axes="zyx").axes == "zyx"
    plain = stored(tmp_path / "plain", "zyx", RAW, names=list("zyx"))
    plan = plan_evaluation(EvaluateRequest(prediction=plain, truth=odd, axes="zyx"))
    assert plan.truth.axes == "zyx"


@pytest.mark.parametrize(("first", "second"), [("tzyx", "zyx"), ("zyx", "tzyx"), ("tzyx", "tzyx")])
def test_a_time_point_of_prediction_or_truth_is_evaluated(tmp_path, first, second):
    prediction = stored(tmp_path / "p", first, RAW, names=list(first))
    truth = stored(tmp_path / "t", second, RAW, names=list(second))
    with pytest.raises(VolumeError, match="select one with --time 0 to 1"):
        plan_evaluation(EvaluateRequest(prediction=prediction, truth=truth))
    plan = plan_evaluation(EvaluateRequest(prediction=prediction, truth=truth, time=1))
    np.testing.assert_array_equal(read(plan.classes), read(plan.truth))


def test_a_time_point_without_a_time_axis_is_refused(tmp_path):
    plain = stored(tmp_path / "plain", "zyx", RAW, names=list("zyx"))
    with pytest.raises(VolumeError, match="omit --time, or pass --axes"):
        plan_evaluation(EvaluateRequest(prediction=plain, truth=plain, time=0))
    with pytest.raises(VolumeError, match="no time axis"):
        find_labelled(plain, plain, ReadAs(time=0))


def test_a_channel_whose_name_is_the_number_of_another_is_noted(tmp_path):
    stored(tmp_path / "in" / "0", "czyx", RAW, names=list("czyx"))
    axes = [{"name": a, "type": "channel" if a == "c" else "space"} for a in "czyx"]
    image = {"axes": axes, "datasets": [{"path": "0"}]}
    omero = {"channels": [{"label": name} for name in ("1", "2", "3")]}
    attributes = {"ome": {"version": "0.5", "multiscales": [image], "omero": omero}}
    zarr.open_group(tmp_path / "in", mode="a").attrs.update(attributes)
    notes = find_volume(tmp_path / "in", channel="1").notes
    assert notes == ("channel '1' is the name of channel number 0, which is read",)
    assert find_volume(tmp_path / "in", channel="3").notes == ()
