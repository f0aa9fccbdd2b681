"""Trainings of networks without classes: recipes, completed or refused, and what is learnt."""

from __future__ import annotations

import re

import numpy as np
import pytest
import zarr

from pipeline import open_labelled
from pipeline.base.errors import ConfigError, LabelError
from unet import UNetPredictor, read_weights_info, train_unet
from unet.recipe.training_config import recipe_from_dict
from unet.training.complete_recipe import complete_recipe
from unet.training.messages import Validated

SMALL = {"dims": 2, "base_channels": 8, "levels": 2, "dropout": 0.0}


class Volume:
    """What a recipe is completed by."""

    volume_shape_zyx, spacing_zyx, channel_count = (32, 200, 200), (1.0, 1.0, 1.0), 1


def touching_squares(shape, *, side=9):
    """Return grey values (z, y, x) with dark walls and ids of the squares between them."""
    _, y, x = np.indices(shape)
    ids = 1 + y // side * (shape[2] // side + 1) + x // side
    wall = ((y % side) == 0) | ((x % side) == 0)
    noise = np.random.default_rng(0).normal(0, 12, shape)
    return (200 - 140 * wall + noise).clip(0, 255).astype(np.uint8), ids.astype(np.uint16)


@pytest.fixture
def volumes(tmp_path):
    raw, ids = touching_squares((3, 60, 66))
    zarr.create_array(tmp_path / "raw.zarr", data=raw, dimension_names=list("zyx"))
    zarr.create_array(tmp_path / "ids.zarr", data=ids, dimension_names=list("zyx"))
    pair = (str(tmp_path / "raw.zarr"), str(tmp_path / "ids.zarr"))
    return open_labelled([pair], validation_slices=(2, 3))


def config_of(rule, *, steps=40, **labels):
    training = {
        "steps": steps, "batch": 2, "patch": [20, 20], "precision": "fp32", "validate_every": steps,
        "learning_rate": 0.01,
        "augment": {"elastic_sigma": 0.0, "rotation": "none", "mirror": False},
    }  # fmt: skip
    return {"network": SMALL, "training": training, "labels": {"rule": rule, **labels}}


@pytest.mark.parametrize(
    ("rule", "labels", "names"),
    [
        ("affinities", {}, ("affinity -1,0", "affinity 0,-1")),
        ("affinities", {"offsets": [[0, -4]]}, ("affinity 0,-4",)),
        ("distance", {}, ("distance",)),
        ("centre", {"scale": 2.0}, ("centre",)),
        ("boundary", {}, ("inside", "boundary")),
    ],
)
def test_a_recipe_has_as_many_channels_as_its_rule(rule, labels, names):
    recipe = complete_recipe(config_of(rule, **labels), [Volume])
    assert recipe.network.classes == len(names)
    assert recipe.class_names == names
    assert complete_recipe(recipe.to_dict(), [Volume]) == recipe


def test_a_network_that_is_chosen_has_the_channels_of_the_rule_too():
    recipe = complete_recipe({"labels": {"rule": "affinities"}}, [Volume])
    assert (recipe.network.dims, recipe.network.classes) == (3, 3)


@pytest.mark.parametrize(
    ("config", "line"),
    [
        ({"labels": {"rule": "affinities", "offsets": [[0, 0]]}},
         "labels.offsets ([[0, 0]]): offset [0, 0]: expected another voxel than the voxel itself"),
        ({"labels": {"rule": "affinities", "offsets": [[0, 1], [1]]}},
         "labels.offsets ([[0, 1], [1]]): offset [1]: expected 2 steps, along y and x, as in every "
         "other offset"),
        ({"labels": {"rule": "affinities", "offsets": [[0, 1], [0, -1]]}},
         "labels.offsets ([[0, 1], [0, -1]]): offset [0, -1] occurs twice, or with the opposite "
         "sign: expected every pair of voxels once"),
        ({"labels": {"rule": "affinities", "offsets": []}},
         "labels.offsets ([]): offsets ([]): expected one or more, such as [-1, 0, 0]"),
        ({"labels": {"rule": "boundary", "offsets": [[0, 1]]}},
         "labels.offsets go with rule affinities, not boundary"),
        ({"labels": {"rule": "affinities", "scale": 2.0}},
         "labels.scale goes with rule distance or centre, not affinities"),
        ({"network": SMALL, "labels": {"rule": "affinities", "offsets": [[0, 0, 1]]}},
         "offset [0, 0, 1]: expected 2 steps for a 2-D network"),
        ({"network": {**SMALL, "classes": 2}, "labels": {"rule": "distance"}},
         "rule distance makes 1 channel, the network has 2: set classes = 1"),
        ({"network": {**SMALL, "classes": 1}}, "1 class: expected 2 or more, background included"),
        ({"network": SMALL, "labels": {"rule": "affinities"}, "class_names": ["a"]},
         "1 class name for 2 channels: expected one per channel, or none"),
        ({"labels": {"rule": "centre"}, "training": {"loss": "focal"}},
         "training.loss (focal): it takes classes, and the network learns centre; use one of "
         "binary-cross-entropy, binary-cross-entropy+dice, squared-error, smooth-l1, or another "
         "labels.rule"),
    ],
)  # fmt: skip
def test_a_contradiction_is_refused_in_one_line(config, line):
    with pytest.raises(ConfigError, match=f"^{re.escape(line)}$"):
        complete_recipe(config, [Volume])


def test_offsets_beyond_a_patch_and_its_halo_are_refused(volumes, tmp_path):
    config = config_of("affinities", offsets=[[0, -1], [0, 40]])
    with pytest.raises(ConfigError, match=r"labels\.offsets \(\[0, 40\]\): a patch and its halo"):
        train_unet(volumes, tmp_path / "w.safetensors", config=config)
    assert not (tmp_path / "w.training").exists()


def test_labels_of_one_object_have_nothing_to_learn(tmp_path):
    zarr.create_array(tmp_path / "raw.zarr", data=np.zeros((1, 40, 40), "u1"))
    zarr.create_array(tmp_path / "ids.zarr", data=np.ones((1, 40, 40), "u1"))
    volumes = open_labelled([(str(tmp_path / "raw.zarr"), str(tmp_path / "ids.zarr"))])
    with pytest.raises(LabelError, match="all labels are of class 0"):
        train_unet(volumes, tmp_path / "w.safetensors", config=config_of("affinities"))


def test_a_recipe_of_before_has_the_loss_of_its_outputs():
    record = recipe_from_dict({"labels": {"rule": "boundary"}}).to_dict()
    del record["training"]["loss"], record["labels"]["offsets"], record["labels"]["scale"]
    assert recipe_from_dict(record) == recipe_from_dict({"labels": {"rule": "boundary"}})


class Heard:
    def __init__(self):
        self.scores = []

    def hear(self, message):
        if isinstance(message, Validated):
            self.scores.append(message)


@pytest.mark.parametrize(
    ("rule", "least_iou"), [("affinities", 0.5), ("distance", 0.5), ("centre", 0.25)]
)
def test_a_small_network_learns_the_targets_of_touching_squares(volumes, tmp_path, rule, least_iou):
    heard = Heard()
    labels = {"scale": 2.0} if rule != "affinities" else {"offsets": [[-1, 0], [0, -1], [0, -4]]}
    out = tmp_path / "w.safetensors"
    config = config_of(rule, steps=60, **labels)
    if rule == "affinities":
        config["training"]["loss"] = "binary-cross-entropy+dice"
    train_unet(volumes, out, config=config, listeners=[heard])
    info = read_weights_info(out)
    assert info.outputs.kind == rule
    assert info.class_names == info.outputs.names
    scores = heard.scores[-1]
    assert len(scores.iou) == len(info.class_names)
    assert scores.mean_iou > least_iou
    if rule == "affinities":
        raw, ids = touching_squares((3, 60, 66))
        check_cuts(UNetPredictor(str(out), precision="fp32"), raw, ids)


def check_cuts(predictor, raw, ids):
    """Check that the scores of pairs in one square are higher than those across a wall."""
    shape = (1, 40, 40)
    size, halo = predictor.input_shape(shape), predictor.halo
    x = raw[2:3, : size[1], : size[2]].astype(np.float32) / 255
    scores = predictor(x[None, None])[0][:, :, :40, :40]
    place = (2, *(slice(h, h + 40) for h in halo[1:]))
    before = np.roll(ids, 1, axis=2)
    same = (ids == before)[place]
    assert scores[1, 0][same].mean() > scores[1, 0][~same].mean() + 0.4
