"""Wrong parameters of the Prefect flows: each is refused before anything is read or written."""

from __future__ import annotations

import asyncio
import inspect

import pytest
from prefect.exceptions import ParameterTypeError
from prefect.logging import disable_run_logger

from flows.announce_volumes import announce_volumes
from flows.evaluate_volume import evaluate_volume
from flows.options.cluster import ClusterOptions
from flows.options.evaluate import EvaluateOptions
from flows.options.objects import ObjectDefinition
from flows.options.segment import SegmentOptions
from flows.options.train import TrainOptions
from flows.segment_volume import segment_volume
from flows.train_unet import train_unet
from pipeline.base.errors import OvertileError

FLOWS = {
    flow.name: flow for flow in (segment_volume, train_unet, evaluate_volume, announce_volumes)
}
GOOD = {
    "segment-volume": {"input": "in.zarr", "output": "out.zarr", "weights": "w.safetensors"},
    "train-unet": {
        "volumes": [{"volume": "in.zarr", "labels": "zeros.zarr"}], "out": "t.safetensors",
    },
    "evaluate-volume": {"prediction": "in.zarr", "truth": "in.zarr"},
    "announce-volumes": {"folder": "."},
}  # fmt: skip
MODELS = {
    "segment-volume": {
        "options": SegmentOptions, "cluster": ClusterOptions, "objects": ObjectDefinition,
    },
    "train-unet": {"options": TrainOptions, "cluster": ClusterOptions},
    "evaluate-volume": {"options": EvaluateOptions, "cluster": ClusterOptions},
    "announce-volumes": {},
}  # fmt: skip
PARAMETERS = [
    *(
        (flow, name, None)
        for flow in FLOWS
        for name in inspect.signature(FLOWS[flow].fn).parameters
    ),
    *(
        (flow, group, name)
        for flow, models in MODELS.items()
        for group, model in models.items()
        for name in (*model.model_fields, "no_such_setting")
    ),
]
WRONG = {"neither": ["a", "word"]}
"""A value of a kind that no parameter takes."""


@pytest.mark.parametrize(("flow", "group", "name"), PARAMETERS)
def test_every_parameter_of_every_flow_refuses_a_value_of_another_kind(flow, group, name):
    value = WRONG if name is None else {name: WRONG}
    with pytest.raises(ParameterTypeError) as caught:
        FLOWS[flow].validate_parameters({**GOOD[flow], group: value})
    assert group in str(caught.value)
    assert name is None or name in str(caught.value)


ROWS = {
    # what is wrong: (flow, parameters, the line)
    "a cluster that does not exist": (
        "segment-volume", {"cluster": "nowhere"},
        "cluster 'nowhere': expected local, cuda, slurm, lsf, pbs, sge, a profile in "
        "{home}/overtile, an existing TOML or scheduler file, or an address like tcp://HOST:PORT",
    ),
    "settings that are not TOML": (
        "segment-volume", {"cluster": {"cluster": "slurm", "settings": "qos ="}},
        "'qos =' is not TOML: Invalid value (at end of document)",
    ),
    "settings with a line break": (
        "segment-volume", {"cluster": {"cluster": "slurm", "partition": "a\n#SBATCH -x"}},
        "queue 'a\\n#SBATCH -x': expected one line without control characters",
    ),
    "GPUs of a cluster without any": (
        "evaluate-volume", {"cluster": {"cluster": "local", "devices": ["0"]}},
        "cluster local: devices: unknown setting; expected one of …",
    ),
    "more workers than a machine has room for": (
        "train-unet", {"cluster": {"workers": 5000}}, "workers 5000: expected at most 1,024",
    ),
    "more ranks than workers": (
        "train-unet", {"cluster": {"workers": 1}, "options": {"ranks": 3}},
        "3 ranks on 1 workers: each rank needs its own worker; use 3 workers, or at most 1 ranks",
    ),
    "a volume that does not exist": (
        "train-unet", {"volumes": [{"volume": "gone.zarr", "labels": "zeros.zarr"}]},
        "{place}/gone.zarr does not exist (did you mean {place}/in.zarr?)",
    ),
    "labels of one class": (
        "train-unet", {},
        "all labels are of class 0: expected at least two classes; check the labels and --rule",
    ),
    "an out that is a folder": (
        "train-unet", {"out": "in.zarr"}, "'{place}/in.zarr' exists already: choose another --out",
    ),
    "a truth that does not exist": (
        "evaluate-volume", {"truth": "gone.zarr"},
        "{place}/gone.zarr does not exist (did you mean {place}/in.zarr?)",
    ),
    "a figure file in no folder": (
        "evaluate-volume", {"json_file": "gone/scores.json"},
        "gone/scores.json cannot be written: choose a file in a writable folder",
    ),
    "thresholds that descend": (
        "evaluate-volume", {"options": {"scores": 0, "thresholds": [0.9, 0.1]}},
        "thresholds 0.9, 0.1: expected ascending values above 0 and up to 1, such as 0.25, 0.5",
    ),
    "a folder that does not exist": (
        "announce-volumes", {"folder": "http://127.0.0.1:1/a"},
        "cannot list http://127.0.0.1:1/a: expected a folder, or a prefix whose store can be "
        "listed",
    ),
}  # fmt: skip


def finished(function, parameters):
    """Call a function, and wait for it where it is a coroutine."""
    called = function(**parameters)
    if inspect.iscoroutine(called):
        asyncio.run(called)


@pytest.mark.parametrize("row", ROWS)
def test_a_flow_raises_the_line_of_a_wrong_input_and_writes_nothing(row, place, shell, listing):
    name, changes, line = ROWS[row]
    flow = FLOWS[name]
    parameters = flow.validate_parameters({**GOOD[name], **changes})
    before = listing(place)
    with disable_run_logger(), pytest.raises(OvertileError) as caught:
        finished(flow.fn, parameters)
    expected, said = line.format(place=place, home=place.parent / "home"), str(caught.value)
    assert said == expected or (expected[-1] == "…" and said.startswith(expected[:-1]))
    assert listing(place) == before
