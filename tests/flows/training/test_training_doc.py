"""The config, options and Python code of docs/training.md exist and work."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import numpy as np
import pytest
import zarr

from flows.cli.main import make_parser
from unet import read_weights_info
from unet.recipe.training_config import (
    PRESETS,
    LabelConfig,
    Recipe,
    recipe_from_dict,
    recipe_from_toml,
)

ROOT = Path(__file__).parents[3]
PAGES = ("training", "training-runs", "training-best", "training-ranks")
TEXT = "".join((ROOT / f"docs/{page}.md").read_text() for page in PAGES)


def block(language):
    (found,) = re.findall(rf"```{language}\n(.*?)```", TEXT, re.DOTALL)
    return found


OF_OTHER_RULES = {"offsets": "affinities", "scale": "distance"}
"""Settings of labels that the default rule does not have."""


def test_the_config_file_states_every_setting_and_its_default():
    recipe = recipe_from_toml(block("toml"), where="docs")
    expected = Recipe().to_dict()
    assert recipe.to_dict() == {
        **expected, "class_names": list(recipe.class_names), "attribution": recipe.attribution
    }  # fmt: skip
    all_set = re.sub(r"^# (\w+ = )", r"\1", block("toml"), flags=re.MULTILINE)
    assert names_in(tomllib.loads(all_set)) == names_in(expected)
    stated = tomllib.loads(all_set)
    for name, rule in OF_OTHER_RULES.items():
        value = stated["labels"].pop(name)
        assert LabelConfig(rule=rule, **{name: value}).to_dict()[name] == value
    record = recipe_from_dict(stated).to_dict()
    labels = [value for name, value in record["labels"].items() if name not in OF_OTHER_RULES]
    assert None not in [*record["training"].values(), *labels]


def names_in(record):
    """Return the names of a nested record, those of a part with a dot behind it."""
    parts = {name: value for name, value in record.items() if isinstance(value, dict)}
    inner = {f"{part}.{name}" for part, values in parts.items() for name in names_in(values)}
    return {*record} | inner


def test_every_option_that_is_named_exists():
    parser = make_parser()
    (commands,) = [a for a in parser._actions if hasattr(a, "choices") and a.choices]
    known = {
        option
        for command in commands.choices.values()
        for action in command._actions
        for option in action.option_strings
    }
    page = (ROOT / "docs/training-from-weights.md").read_text().replace("--data", "")
    ours = TEXT.replace("--watch", "").replace("--logdir", "")  # Prefect's and TensorBoard's
    ours += page
    ours = ours.replace("sbatch --signal", "")
    assert set(re.findall(r"--[a-z][a-z-]+", ours)) <= known


def test_the_presets_are_those_of_the_table():
    assert set(re.findall(r"\| `([\w-]+)` \| `([\w-]+)` \|", TEXT)) == {tuple(PRESETS)}


@pytest.mark.filterwarnings("ignore:Port")
def test_the_python_trains(tmp_path, monkeypatch, capsys):
    rng = np.random.default_rng(0)
    raw = rng.integers(0, 255, (25, 16, 16), "u1")
    zarr.create_array(tmp_path / "raw.zarr", data=raw)
    zarr.create_array(tmp_path / "labels.zarr", data=(raw > 127).astype("u1"))
    (tmp_path / "membranes.toml").write_text(
        "[network]\nbase_channels = 2\nlevels = 2\n"
        "[training]\nsteps = 2\npatch = [8, 8]\naugment = { elastic_sigma = 0 }"
    )
    monkeypatch.chdir(tmp_path)
    exec(compile(block("python"), "docs/training.md", "exec"), {"__name__": "__main__"})
    assert "'mean_iou': " in capsys.readouterr().out
    assert read_weights_info("membranes.safetensors").provenance["steps"] == 2
