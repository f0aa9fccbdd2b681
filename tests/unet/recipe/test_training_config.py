"""The laws of the training config: presets, schedules as formulas, lossless round trips."""

from __future__ import annotations

import json
import math
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.base.errors import ConfigError
from unet import UNetConfig
from unet.recipe.augment_config import AugmentConfig
from unet.recipe.training_config import (
    PRESETS,
    LabelConfig,
    Recipe,
    TrainingConfig,
    preset,
    recipe_from_dict,
    recipe_from_toml,
)


def test_the_preset_of_2015_is_the_papers_recipe():
    paper = preset("unet-2015")
    assert (paper.optimiser, paper.momentum, paper.batch) == ("sgd", 0.99, 1)
    assert (paper.border_weight, paper.border_sigma, paper.class_balance) == (10.0, 5.0, True)
    assert (paper.augment.elastic_sigma, paper.augment.elastic_knots) == (10.0, 3)
    assert paper.augment.rotation == "free"
    assert paper.augment.mirror
    assert min(paper.augment.brightness, paper.augment.contrast, paper.augment.gamma) > 0
    assert (paper.schedule, paper.ema, paper.gradient_norm, paper.weight_decay) == (
        "constant", 0.0, None, 0.0
    )  # fmt: skip
    assert paper.kept_weights == "last"
    assert UNetConfig().dropout > 0, "dropout at the end of the contracting path"


def test_a_preset_is_known_by_its_name():
    assert TrainingConfig() == preset("default")
    for name, config in PRESETS.items():
        assert config.preset == name
    with pytest.raises(ConfigError, match=r"\('best'\): expected one of default, unet-2015"):
        preset("best")


RATES = st.floats(1e-6, 10)
STEPS = st.integers(2, 5000)


@given(rate=RATES, steps=STEPS, share=st.floats(0, 1))
def test_a_constant_rate_is_constant(rate, steps, share):
    config = TrainingConfig(schedule="constant", learning_rate=rate, steps=steps)
    assert config.learning_rate_at(int(share * (steps - 1))) == rate


@given(rate=RATES, steps=STEPS, share=st.floats(0, 1))
def test_a_cosine_falls_from_the_peak_to_nothing(rate, steps, share):
    config = TrainingConfig(schedule="cosine", learning_rate=rate, steps=steps)
    step = int(share * (steps - 1))
    expected = rate * math.cos(math.pi / 2 * step / (steps - 1)) ** 2
    assert config.learning_rate_at(step) == pytest.approx(expected, rel=1e-6, abs=1e-9 * rate)
    assert config.learning_rate_at(0) == rate
    assert config.learning_rate_at(steps - 1) == pytest.approx(0, abs=1e-12)


@given(rate=RATES, rising=st.integers(1, 50), falling=st.integers(2, 200))
def test_one_cycle_rises_from_a_25th_to_the_peak_and_falls_to_a_10000th(rate, rising, falling):
    steps = rising + falling
    config = TrainingConfig(
        schedule="one-cycle", learning_rate=rate, steps=steps, warmup=rising / steps
    )
    rates = [config.learning_rate_at(step) for step in range(steps)]
    at_peak = round(config.warmup * steps)
    assert rates[0] == pytest.approx(rate / 25)
    assert max(rates) == pytest.approx(rate)
    assert rates[at_peak] == pytest.approx(rate)
    assert rates[-1] == pytest.approx(rate / 10_000, rel=1e-6)
    assert all(a < b for a, b in pairwise(rates[: at_peak + 1]))
    assert all(a > b for a, b in pairwise(rates[at_peak:]))
    half = rising / 2  # half a cosine up: the mean of both ends in the middle
    if half == int(half) and at_peak == rising:
        assert rates[int(half)] == pytest.approx(rate * (1 + 1 / 25) / 2)


@pytest.mark.parametrize("schedule", ["constant", "cosine", "one-cycle"])
def test_a_training_of_one_step_takes_it_at_the_full_rate(schedule):
    config = TrainingConfig(schedule=schedule, steps=1, learning_rate=0.5)
    assert config.learning_rate_at(0) == 0.5


def configs():
    numbers = {
        "learning_rate": RATES, "momentum": st.floats(0, 0.999), "weight_decay": st.floats(0, 1),
        "warmup": st.floats(0, 1), "ema": st.floats(0, 0.999), "border_weight": st.floats(0, 50),
        "border_sigma": st.floats(0.1, 20), "rare_share": st.floats(0, 1),
    }  # fmt: skip
    return st.builds(
        TrainingConfig,
        preset=st.sampled_from(list(PRESETS)),
        steps=st.integers(1, 10**6),
        batch=st.none() | st.integers(1, 64),
        patch=st.none() | st.lists(st.integers(1, 500), min_size=2, max_size=3).map(tuple),
        optimiser=st.sampled_from(["sgd", "nesterov", "adamw"]),
        schedule=st.sampled_from(["constant", "cosine", "one-cycle"]),
        precision=st.sampled_from(["auto", "bf16", "fp32"]),
        gradient_norm=st.none() | st.floats(0.01, 10),
        class_balance=st.booleans(),
        augment=st.builds(AugmentConfig, elastic_sigma=st.floats(0, 20), mirror=st.booleans()),
        seed=st.integers(0, 2**32 - 1),
        **numbers,
    )


@given(training=configs(), ignore=st.none() | st.integers(-(2**63), 2**64 - 1))
def test_a_recipe_survives_json(training, ignore):
    recipe = Recipe(
        network=UNetConfig(dims=3, levels=3, kernels=((1, 3, 3), 3, 3)),
        training=training,
        labels=LabelConfig(rule="boundary", ignore=ignore),
        class_names=("inside", "boundary"),
        attribution="Us, CC BY 4.0",
    )
    assert recipe_from_dict(json.loads(json.dumps(recipe.to_dict()))) == recipe


def as_toml(record, table=""):
    """Return a record as TOML, which has no None."""
    plain = {k: v for k, v in record.items() if not isinstance(v, dict) and v is not None}
    lines = [f"[{table}]"] * bool(table) + [f"{k} = {json.dumps(v)}" for k, v in plain.items()]
    for name, value in record.items():
        if isinstance(value, dict):
            lines += as_toml(value, f"{table}.{name}".strip("."))
    return lines


@given(training=configs())
def test_a_recipe_survives_toml(training):
    record = Recipe(training=training).to_dict()
    absent = preset(training.preset)
    of_preset = {"batch": absent.batch, "kept_weights": absent.kept_weights}
    for name, value in {**of_preset, "gradient_norm": 0}.items():
        if record["training"][name] is None:
            record["training"][name] = value
    back = recipe_from_toml("\n".join(as_toml(record)), where="x.toml").training.to_dict()
    assert back == {**training.to_dict(), **{name: record["training"][name] for name in of_preset}}


def test_a_file_states_only_what_differs_from_its_preset():
    text = 'training = { preset = "unet-2015", steps = 7, augment = { mirror = false } }'
    training = recipe_from_toml(text, where="x.toml").training
    paper = preset("unet-2015")
    assert training.to_dict() == {
        **paper.to_dict(), "steps": 7, "augment": {**paper.augment.to_dict(), "mirror": False}
    }  # fmt: skip


@pytest.mark.parametrize(
    ("table", "setting", "value"),
    [
        ("training", "steps", 10**12), ("training", "batch", 10**12),
        ("training", "validate_every", 10**12), ("training", "checkpoint_every", 10**12),
        ("training", "patch", [10**9]), ("training", "learning_rate", 1e12),
        ("training", "weight_decay", 1e12), ("training", "gradient_norm", 1e12),
        ("training", "border_weight", 1e12), ("training", "border_sigma", 1e12),
        ("labels", "object_class", 10**12),
    ],
)  # fmt: skip
def test_every_number_has_an_upper_limit(table, setting, value):
    with pytest.raises(ConfigError, match=rf"{table}\.{setting}.* \(.*\): expected .* or less"):
        recipe_from_dict({table: {setting: value}})


@pytest.mark.parametrize("names", [["a", ""], [" ", "b"], ["a", "b", "a"]])
def test_class_names_are_distinct_and_not_empty(names):
    with pytest.raises(ConfigError, match="expected names that are distinct"):
        recipe_from_dict({"class_names": names})


def test_an_object_class_may_be_the_background():
    assert LabelConfig(object_class=0).object_class == 0


OF_VERSION_0_1 = """{"network": {"dims": 3, "in_channels": 1, "classes": 2, "base_channels": 64,
"levels": 3, "kernels": [[3, 3, 3], [3, 3, 3], [3, 3, 3]], "pooling": [[2, 2, 2], [2, 2, 2]],
"norm": "none", "dropout": 0.5}, "training": {"preset": "unet-2015", "steps": 7, "batch": 1,
"patch": [8, 8, 8], "optimiser": "sgd", "learning_rate": 1, "momentum": 0.99, "weight_decay": 0.0,
"gradient_norm": null, "schedule": "constant", "warmup": 0.0, "ema": 0.0, "precision": "auto",
"class_balance": true, "border_weight": 10.0, "border_sigma": 5.0, "rare_share": 0.0, "augment":
{"elastic_sigma": 10.0, "elastic_knots": 3, "rotation": "free", "mirror": false, "isotropic": false,
"shift": 0.0, "contrast": 0.2, "brightness": 0.1, "gamma": 0.2, "noise": 0.0}, "validate_every":
200, "checkpoint_every": 100, "seed": 0}, "labels": {"rule": "classes", "ignore": null,
"object_class": 0}, "class_names": ["u", "v"], "attribution": null}"""


def test_a_recipe_stored_by_version_0_1_is_read_unchanged():
    record = json.loads(OF_VERSION_0_1)
    assert _is_within(record, recipe_from_dict(record).to_dict())


def _is_within(stored, read):
    """Return whether all stored values are read unchanged; later versions may have more fields."""
    if isinstance(stored, dict):
        return all(_is_within(value, read[key]) for key, value in stored.items())
    return stored == read
