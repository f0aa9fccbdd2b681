"""What the channels of a network are: one value, the same in weights, outputs and memory."""

import json
import re

import pytest

from pipeline.base.errors import ConfigError
from pipeline.base.network_outputs import NetworkOutputs, nearest_offsets

OFFSETS = ((-1, 0, 0), (0, -1, 0), (0, 0, -1), (0, -9, 4))
VALUES = (
    NetworkOutputs(),
    NetworkOutputs(kind="affinities", offsets=OFFSETS),
    NetworkOutputs(kind="affinities", offsets=((-1, 0), (0, 3))),
    NetworkOutputs(kind="distance"),
    NetworkOutputs(kind="centre"),
)


@pytest.mark.parametrize("value", VALUES, ids=str)
def test_a_value_is_unchanged_by_json(value):
    assert NetworkOutputs.from_json(json.loads(json.dumps(value.to_json()))) == value


def test_a_record_without_outputs_is_of_classes_as_all_were_before():
    assert NetworkOutputs.from_json({"class_names": ["a", "b"]}) == NetworkOutputs()
    assert NetworkOutputs().activation == "softmax"
    assert {value.activation for value in VALUES[1:]} == {"sigmoid"}


def test_channels_are_named_by_what_they_are():
    assert [value.names for value in VALUES] == [
        (),
        ("affinity -1,0,0", "affinity 0,-1,0", "affinity 0,0,-1", "affinity 0,-9,4"),
        ("affinity -1,0", "affinity 0,3"),
        ("distance",),
        ("centre",),
    ]


def test_offsets_of_a_2d_network_have_no_step_along_z():
    assert VALUES[2].in_zyx().offsets == ((0, -1, 0), (0, 0, 3))
    assert VALUES[1].in_zyx() == VALUES[1]


def test_the_nearest_offsets_lead_to_the_voxel_before_along_each_axis():
    assert nearest_offsets(3) == OFFSETS[:3]


@pytest.mark.parametrize(
    ("record", "line"),
    [
        ({"outputs": "depth"}, "outputs ('depth'): expected one of classes, affinities, distance,"),
        ({"outputs": ["classes"]}, "outputs (['classes']): expected one of"),
        ({"outputs": "affinities"}, "offsets ([]): expected one or more, such as [-1, 0, 0]"),
        ({"outputs": "distance", "offsets": [[1, 0]]}, "offsets go with outputs affinities, not"),
        ({"outputs": "affinities", "offsets": "zyx"}, "offsets ('zyx'): expected a list of lists"),
        ({"outputs": "affinities", "offsets": [[1]]}, "offset [1]: expected 2 or 3 steps, along z"),
        ({"outputs": "affinities", "offsets": [[0, 1], [0, 0, 1]]}, "offset [0, 0, 1]: expected 2"),
        ({"outputs": "affinities", "offsets": [[0, 0]]}, "offset [0, 0]: expected another voxel"),
        ({"outputs": "affinities", "offsets": [[0, 0.5]]}, "offset [0, 0.5]: expected integers"),
        ({"outputs": "affinities", "offsets": [[0, 2000]]}, "expected steps of at most 1024 vox"),
        ({"outputs": "affinities", "offsets": [[0, 1], [0, 1]]}, "offset [0, 1] occurs twice"),
        ({"outputs": "affinities", "offsets": [[0, 1], [0, -1]]}, "with the opposite sign"),
        ({"outputs": "distance", "activation": "tanh"}, "activation ('tanh'): expected sigmoid"),
        (["classes"], "outputs (['classes']): expected an object"),
    ],
)  # fmt: skip
def test_a_wrong_record_is_refused_in_one_line(record, line):
    with pytest.raises(ConfigError, match=re.escape(line)) as caught:
        NetworkOutputs.from_json(record)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("value", "channels", "dims", "line"),
    [
        (VALUES[0], 1, 2, "1 class: expected 2 or more, background included"),
        (VALUES[1], 3, 3, "3 output channels for affinities: expected 4 (affinity -1,0,0; aff"),
        (VALUES[1], 4, 2, "offset [-1, 0, 0]: expected 2 steps for a 2-D network"),
        (VALUES[3], 2, 3, "2 output channels for distance: expected 1 (distance)"),
    ],
)
def test_a_network_with_other_channels_is_refused_in_one_line(value, channels, dims, line):
    with pytest.raises(ConfigError, match=re.escape(line)):
        value.check_network(channels=channels, dims=dims)
