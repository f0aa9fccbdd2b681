"""What a training says about its labels before it starts: sparse ones, classes that are missing."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import zarr

from pipeline import open_labelled
from pipeline.base.errors import LabelError, TrainingError
from unet.network.config import UNetConfig
from unet.network.model import UNet
from unet.recipe.training_config import recipe_from_dict
from unet.training.complete_recipe import complete_recipe
from unet.training.label_notes import names_notes
from unet.training.loop import sample_maker
from unet.training.prepare import prepare_training
from unet.training.validation import _tiles
from unet.weights.file import save_weights

SHAPE = (24, 32, 32)
NAMES = ("cell", "membrane", "gap")
CONFIG = {
    "network": {"dims": 2, "base_channels": 2, "levels": 2, "classes": 3},
    "training": {"patch": [8, 8], "batch": 1, "steps": 3},
    "labels": {"ignore": 255},
    "class_names": ["background", "axon", "glia"],
}


@pytest.fixture
def stored(tmp_path):
    """Return a function that writes labels beside one volume and returns the pair."""
    raw = np.random.default_rng(0).integers(0, 255, SHAPE, "u1")
    zarr.create_array(tmp_path / "raw", data=raw, dimension_names=list("zyx"))

    def write(name, labels):
        zarr.create_array(tmp_path / name, data=labels, dimension_names=list("zyx"))
        return tmp_path / "raw", tmp_path / name

    return write


def prepared(tmp_path, *pairs, config=CONFIG, start_from=None, **options):
    volumes = open_labelled(pairs, **options)
    out = tmp_path / "w.safetensors"
    return prepare_training(volumes, out, config=config, start_from=start_from)


def painted(slices, *, classes=3):
    labels = np.full(SHAPE, 255, "u1")
    labels[slices] = np.random.default_rng(1).integers(0, classes, SHAPE, "u1")[slices]
    return labels


def test_sparse_labels_are_reported_with_their_share(tmp_path, stored):
    found = prepared(tmp_path, stored("sparse", painted([9])))
    assert found.notes == ("labels: 4 % of the voxels are known; patches are drawn where they are",)
    dense = prepared(tmp_path, stored("dense", painted(slice(None))))
    assert dense.notes == ()
    both = prepared(tmp_path, (tmp_path / "raw", tmp_path / "dense"), stored("few", painted([2])))
    raw, labels = tmp_path / "raw", tmp_path / "few"
    assert f"labels of {raw} ({labels}): 4 % of the voxels are known; patches" in both.notes[1]


def test_a_class_that_does_not_occur_is_refused(tmp_path, stored):
    pair = stored("two", painted(slice(None), classes=2))
    with pytest.raises(LabelError, match=r"^class 2 'glia' does not occur in the labels, so"):
        prepared(tmp_path, pair)
    four = {"network": CONFIG["network"] | {"classes": 4}, "class_names": [*"abcd"]}
    with pytest.raises(LabelError, match=r"^class 2 'c' \(and 1 more\) does not occur"):
        prepared(tmp_path, pair, config=CONFIG | four)


def test_a_class_that_occurs_only_where_validated_is_refused_as_such(tmp_path, stored):
    labels = painted(slice(None), classes=2)
    labels[20, 3, 3] = 2
    with pytest.raises(LabelError, match=r"^class 2 'glia' occurs in what is held out for validat"):
        prepared(tmp_path, stored("held", labels), validation_slices=(20, 24))


def test_the_ignored_class_need_not_occur(tmp_path, stored):
    pair = stored("unpainted", np.where(painted([4, 5]) == 255, 0, 1 + painted([4, 5]) % 2))
    found = prepared(tmp_path, pair, config=CONFIG | {"labels": {"ignore": 0}})
    assert found.notes[-1] == (
        "class 0 'background' does not occur in the labels surveyed: the network does not learn it"
    )


@pytest.mark.parametrize("names", [CONFIG["class_names"], ["background", "axon", "soma"]])
def test_a_class_that_the_network_has_learned_before_need_not_occur(tmp_path, stored, names):
    start = tmp_path / "start.safetensors"
    network = UNetConfig(**CONFIG["network"])
    save_weights(UNet(network), start, class_names=tuple(CONFIG["class_names"]))
    pair = stored("two", painted(slice(None), classes=2))
    options = {"config": CONFIG | {"class_names": names}, "start_from": start}
    if names != CONFIG["class_names"]:  # a new head
        with pytest.raises(LabelError, match="does not occur"):
            prepared(tmp_path, pair, **options)
        return
    found = prepared(tmp_path, pair, **options)
    assert "class 2 'glia' does not occur in the labels surveyed" in found.notes[-1]


def test_a_rare_class_may_lie_outside_of_what_was_surveyed(tmp_path, stored, monkeypatch):
    monkeypatch.setattr("unet.samples.cells.CELL", (1, 8, 8))
    monkeypatch.setattr("unet.samples.cells.CELLS_PER_VOLUME", 16)
    found = prepared(tmp_path, stored("two", painted(slice(None), classes=2)))
    assert "does not occur in the labels surveyed" in found.notes[-1]


def test_labels_of_one_class_alone_are_refused(tmp_path, stored):
    with pytest.raises(LabelError, match="all labels are of class 0"):
        prepared(tmp_path, stored("one", painted([3], classes=1)))


def test_every_step_of_a_training_on_few_voxels_learns_as_much_as_one_on_dense_labels(
    tmp_path, stored
):
    labels = painted([9])
    labels[np.random.default_rng(2).random(SHAPE) > 0.04] = 255
    job = prepared(tmp_path, stored("sparse", labels)).job(batch=1)
    maker = sample_maker(job, device="cpu")
    samples = [maker.sample(step, 0) for step in range(150)]
    assert all(weights.any() for _, _, weights in samples)
    mean = np.mean([float(weights.mean()) for *_, weights in samples])
    assert mean == pytest.approx(1, rel=0.15), "the mean weight of a patch is that of dense labels"


def test_validation_slices_without_labels_are_refused(tmp_path, stored):
    with pytest.raises(LabelError, match=r"raw slices 3:5 are 255, the ignored label"):
        prepared(tmp_path, stored("sparse", painted([9, 15])), validation_slices=(3, 5))


def test_validation_slices_without_labels_beside_others_are_noted(tmp_path, stored):
    dense, few = stored("dense", painted(slice(None))), stored("few", painted([9]))
    found = prepared(tmp_path, dense, few, validation_slices=(3, 5))
    (note,) = [note for note in found.notes if note.startswith("validation")]
    assert note.endswith("no voxel is known, so no score is computed there")
    assert str(tmp_path / "few") in note


def test_labels_of_another_part_than_the_validation_slices_are_refused(tmp_path, placed_image):
    raw = np.zeros(SHAPE, "u1")
    volume = placed_image(tmp_path / "raw.zarr", (raw, (1, 1, 1), (0, 0, 0)))
    labels = placed_image(tmp_path / "l.zarr", (raw[:4], (1, 1, 1), (10.0, 0, 0)))
    with pytest.raises(TrainingError) as caught:
        open_labelled([(volume, labels)], validation_slices=(3, 5))
    assert str(caught.value) == (
        f"validation slices 3:5 have no labels: those of {labels}/s0 cover slices 10:14 of the "
        "volume; choose slices among them"
    )


def test_of_many_tiles_those_of_sparse_validation_labels_are_chosen_where_something_is_known(
    tmp_path, stored, monkeypatch
):
    found = prepared(
        tmp_path, stored("sparse", painted([2, 9, 15])), validation_slices=(8, 20)
    ).job(batch=1)
    (volume,) = found.validation
    everywhere = _tiles([volume], (1, 8, 8), found.validation_surveys)
    assert len(everywhere) == 12 * 16
    monkeypatch.setattr("unet.training.validation.MAX_TILES", 20)
    monkeypatch.setattr("unet.training.validation.MAX_VOXELS", 1)
    tiles = _tiles([volume], (1, 8, 8), found.validation_surveys)
    assert len(tiles) == 20
    assert {start[0] + 8 for _, start in tiles} == {9, 15}


def test_one_labelled_slice_as_a_crop_trains_a_3d_network(tmp_path, placed_image):
    raw = np.random.default_rng(0).integers(0, 255, SHAPE, "u1")
    size = (0.2, 0.1, 0.1)
    pair = (
        placed_image(tmp_path / "raw.zarr", (raw, size, (0, 0, 0))),
        placed_image(tmp_path / "l.zarr", (raw[9:10] // 100, size, (1.8, 0, 0))),
    )
    config = {**CONFIG, "network": {**CONFIG["network"], "dims": 3}, "training": {"batch": 1}}
    found = prepared(tmp_path, pair, config=config)
    assert found.volumes.training[0].labelled.start == (9, 0, 0)
    assert found.core[0] == found.volumes.training[0].shape_zyx[0] > 1
    maker = sample_maker(found.job(batch=1), device="cpu")
    for step in range(4):
        _, classes, weights = maker.sample(step, 0)
        assert (weights[0] > 0).any()
        assert set(classes[0][weights[0] > 0].unique().tolist()) <= {0, 1, 2}


@pytest.mark.parametrize(
    ("config", "painted", "expected"),
    [
        ({}, [NAMES], NAMES), ({}, [NAMES, ()], NAMES),
        ({"network": {"classes": 3}}, [NAMES], NAMES),
        ({"network": {}}, [NAMES], NAMES),
        ({"class_names": ["p", "q", "r"]}, [NAMES], ("p", "q", "r")),
        ({"network": {"classes": 2}}, [NAMES], ("background", "class 1")),
        ({}, [NAMES, ("x", "y")], ("background", "class 1")),
        ({"labels": {"rule": "boundary"}}, [NAMES], ("inside", "boundary")),
    ],
)  # fmt: skip
def test_painted_labels_name_the_classes_of_a_training_from_nothing(config, painted, expected):
    volumes = [
        SimpleNamespace(
            volume_shape_zyx=(9, 90, 90), spacing_zyx=(1, 1, 1), channel_count=1,
            painted_classes=names,
        ) for names in painted
    ]  # fmt: skip
    network = {"dims": 2} | config.get("network", {})
    config = {**config, "network": network} if "network" in config else config
    assert complete_recipe(config, volumes).class_names == expected


def test_painted_classes_of_other_names_are_noted_and_the_same_ones_are_not():
    recipe = recipe_from_dict({"class_names": ["inside", "boundary"]})
    boxes = [
        SimpleNamespace(name="a.zarr", painted_classes=("cell", "membrane")),
        SimpleNamespace(name="b.zarr", painted_classes=("inside", "boundary")),
        SimpleNamespace(name="c.zarr", painted_classes=()),
    ]
    (note,) = names_notes(boxes, recipe)
    assert "a.zarr" in note
    assert note.endswith("learned are cell as inside, membrane as boundary")
