"""Laws of an evaluation: what a cluster sums block by block is what whole arrays give."""

from __future__ import annotations

import json
import re
from typing import Unpack, get_type_hints

import numpy as np
import pytest
import zarr
from scipy import ndimage
from skimage.measure import label
from skimage.metrics import adapted_rand_error, variation_of_information
from skimage.segmentation import find_boundaries

from pipeline import EvaluateRequest, evaluate_volume, segment_volume
from pipeline.base.choices import DEFAULT_THRESHOLDS
from pipeline.base.errors import LabelError, OvertileError, PlanError, RunError, VolumeError
from pipeline.base.geometry import Box
from pipeline.evaluation import plan as evaluate_plan
from pipeline.evaluation.confusion import confusion
from pipeline.evaluation.contingency import count_pairs
from pipeline.evaluation.object_metrics import mean_figures, object_figures
from pipeline.evaluation.objects import seeded_watershed
from pipeline.evaluation.request import EvaluateSettings
from unet import UNetPredictor

SHAPE = (13, 40, 44)
THRESHOLDS = (0.2, 0.45, 0.7)


class Scene:
    """Cells that fill a volume, their boundaries as classes, and a score that is not quite right.

    Stored with chunks that do not fit each other.
    """

    def __init__(self, folder):
        random = np.random.default_rng(3)
        points = random.random((60, 3)) * SHAPE
        at = np.moveaxis(np.indices(SHAPE), 0, -1).reshape(-1, 3)
        nearest = ((at[:, None] - points) ** 2 * (4, 1, 1)).sum(axis=2).argmin(axis=1)
        self.ids = (nearest.reshape(SHAPE) + 1).astype(np.uint64) * 2**40
        self.ids[:, :3, :3] = 0
        self.membrane = find_boundaries(self.ids, mode="thick").astype(np.uint8)
        noise = ndimage.gaussian_filter(random.normal(size=SHAPE), 1)
        score = ndimage.gaussian_filter(self.membrane.astype(float), 0.7) + noise
        self.score = (np.clip(score, 0, 1) * 255).round().astype(np.uint8)
        self.classes = (self.score > 140).astype(np.uint8)
        self.other_ids = np.where(noise > 0.2, 0, np.roll(self.ids, 2, axis=1) + np.uint64(5))
        self.folder = folder
        both = np.stack([255 - self.score, self.score])
        self.uri = {
            "ids": self._store("ids", self.ids, (5, 16, 16)),
            "membrane": self._store("membrane", self.membrane, (4, 16, 44)),
            "classes": self._store("classes", self.classes, (6, 20, 20)),
            "other ids": self._store("other", self.other_ids, (3, 32, 32)),
            "scores": self._store("scores", both, (1, 3, 16, 32), names=("c", "z", "y", "x")),
        }

    def _store(self, name, array, chunks, *, names=("z", "y", "x")):
        path = self.folder / f"{name}.zarr"
        zarr.create_array(path, data=array, chunks=chunks, dimension_names=names)
        return str(path)

    @property
    def scores(self):
        return self.score.astype(np.float32) / np.float32(255)


@pytest.fixture(scope="module")
def scene(tmp_path_factory):
    return Scene(tmp_path_factory.mktemp("scene"))


@pytest.fixture
def evaluated(scene, three_workers, monkeypatch):
    """Return a function: an evaluation on three workers, in many blocks."""
    monkeypatch.setattr(evaluate_plan, "BLOCK_VOXELS", 2500)

    def run(prediction, truth, **options):
        return evaluate_volume(
            scene.uri[prediction], scene.uri[truth], client=three_workers, **options
        )

    return run


def assert_alike(figures, expected):
    """Equal but for the last digits, which follow the order of a sum."""
    for name in expected.__dataclass_fields__:
        value, wanted = getattr(figures, name), getattr(expected, name)
        assert value == (wanted if name == "matches" else pytest.approx(wanted, abs=1e-9)), name


def test_classes_block_by_block_are_the_confusion_matrix_of_the_whole(evaluated, scene):
    found = evaluated("classes", "membrane")
    assert len(found.plan.grid) > 8
    assert found.classes == confusion(scene.membrane, scene.classes, classes=2)
    assert found.voxels == scene.ids.size
    assert found.objects is found.pixels is None


def test_ids_block_by_block_are_scikit_images_figures_of_the_whole(evaluated, scene):
    found = evaluated("other ids", "ids", objects="ids")
    _, truth = np.unique(scene.ids, return_inverse=True)
    _, prediction = np.unique(scene.other_ids, return_inverse=True)
    error, *_ = adapted_rand_error(truth, prediction)
    figures = found.objects.objects
    assert figures.adapted_rand_error == pytest.approx(error)
    voi = variation_of_information(truth, prediction, ignore_labels=(0,))
    assert (figures.voi_split, figures.voi_merge) == pytest.approx(tuple(voi))
    assert figures == object_figures(count_pairs(scene.ids, scene.other_ids))
    assert found.classes is None


def test_components_joined_across_blocks_are_those_of_the_whole(evaluated, scene):
    found = evaluated(
        "scores", "membrane", scores=1, objects="components", truth_objects=0,
        thresholds=THRESHOLDS,
    )  # fmt: skip
    assert len(found.plan.grid) > 8
    truth = label(scene.membrane == 0, connectivity=1)
    for layer, threshold in zip(found.layers, THRESHOLDS, strict=True):
        predicted = label(scene.scores < threshold, connectivity=1)
        assert_alike(layer.objects, object_figures(count_pairs(truth, predicted)))
        assert layer.objects.predicted_objects > 1


def test_components_of_predicted_classes_are_those_of_the_whole(evaluated, scene):
    for truth, objects, true in (
        ("membrane", 0, label(scene.membrane == 0, connectivity=1)),
        ("ids", "ids", scene.ids),
    ):
        found = evaluated("classes", truth, objects="components", truth_objects=objects)
        mask = scene.classes == 0 if truth == "membrane" else scene.classes != 0
        whole = object_figures(count_pairs(true, label(mask, connectivity=1)))
        assert_alike(found.objects.objects, whole)
        assert (found.classes is None) == (truth == "ids")


def test_stored_ids_against_components_of_a_class(evaluated, scene):
    found = evaluated("other ids", "membrane", objects="ids", truth_objects=0)
    truth = label(scene.membrane == 0, connectivity=1)
    assert_alike(found.objects.objects, object_figures(count_pairs(truth, scene.other_ids)))


def challenge(scene, slices, predicted_of):
    """The challenge's way, on whole slices, through scikit-image alone: best mean Rand error."""
    return {
        threshold: np.mean(
            [
                adapted_rand_error(
                    label(scene.membrane[z] == 0, connectivity=1),
                    predicted_of(scene.scores[z], threshold),
                )[0]
                for z in range(*slices)
            ]
        )
        for threshold in THRESHOLDS
    }


@pytest.mark.parametrize("slices", [(0, 13), (4, 9)])
def test_per_slice_is_the_mean_of_scikit_images_error_at_the_best_common_threshold(
    slices, evaluated, scene
):
    found = evaluated(
        "scores", "membrane", scores=1, objects="components", truth_objects=0, per_slice=True,
        slices=slices, thresholds=THRESHOLDS,
    )  # fmt: skip
    expected = challenge(scene, slices, lambda score, t: label(score < t, connectivity=1))
    for layer in found.layers:
        assert layer.objects.adapted_rand_error == pytest.approx(expected[layer.threshold])
    best = min(expected, key=expected.get)
    assert found.objects.threshold == best
    assert [z for z, _ in found.objects.slices] == list(range(*slices))
    assert found.objects.objects == mean_figures([figures for _, figures in found.objects.slices])
    assert len(set(expected.values())) == 3


def test_a_watershed_per_slice_floods_each_slice_alone(evaluated, scene):
    options = {"seed_distance": 1.0, "seed_voxels": 3}
    found = evaluated(
        "scores", "membrane", scores=1, objects="watershed", truth_objects=0, per_slice=True,
        thresholds=THRESHOLDS, slices=(0, 5), **options,
    )  # fmt: skip
    expected = challenge(
        scene, (0, 5), lambda score, t: seeded_watershed(score, threshold=t, **options)
    )
    for layer in found.layers:
        assert layer.objects.adapted_rand_error == pytest.approx(expected[layer.threshold])


def test_a_watershed_floods_the_whole_box_at_once(evaluated, scene):
    box = Box((2, 5, 1), (12, 40, 40))
    found = evaluated(
        "scores", "ids", scores=1, objects="watershed", thresholds=THRESHOLDS, box=box,
        seed_distance=0.5,
    )  # fmt: skip
    for layer in found.layers:
        predicted = seeded_watershed(
            scene.scores[box.slices], threshold=layer.threshold, seed_distance=0.5
        )
        expected = object_figures(count_pairs(scene.ids[box.slices], predicted))
        assert_alike(layer.objects, expected)
        assert layer.pixels is None, "ids are no classes: no voxel is right or wrong"


@pytest.mark.parametrize("per_slice", [False, True])
def test_pixels_are_those_of_the_whole_at_every_threshold(per_slice, evaluated, scene):
    options = {"objects": "components", "truth_objects": 0, "per_slice": True}
    found = evaluated(
        "scores", "membrane", scores=1, thresholds=THRESHOLDS, **(options if per_slice else {})
    )
    for layer in found.layers:
        expected = confusion(scene.membrane, scene.scores >= layer.threshold, classes=2)
        assert layer.pixels == expected
    errors = [layer.pixels.pixel_error for layer in found.layers]
    assert found.pixels.pixels.pixel_error == min(errors)


def test_a_boundary_is_whatever_is_not_the_class_of_objects(evaluated, scene, tmp_path):
    """As in the challenge's own files, where a cell is 255 and a membrane 0."""
    zarr.create_array(tmp_path / "truth.zarr", data=255 - 255 * scene.membrane)
    scene.uri["255"] = str(tmp_path / "truth.zarr")
    options = {"scores": 1, "objects": "components", "thresholds": (0.45,)}
    found = evaluated("scores", "255", truth_objects=255, **options)
    expected = evaluated("scores", "membrane", truth_objects=0, **options)
    assert found.layers[0].pixels == expected.layers[0].pixels
    assert_alike(found.objects.objects, expected.objects.objects)


@pytest.mark.parametrize("options", [
    {"objects": "components"}, {"objects": "watershed"},
    {"objects": "components", "per_slice": True},
    {"objects": "components", "truth_objects": 0},
])  # fmt: skip
def test_a_score_that_is_not_that_of_the_boundary_is_noticed_by_its_voxels(options, evaluated):
    truth = "membrane" if "truth_objects" in options else "ids"
    right = evaluated("scores", truth, scores=1, thresholds=(0.5,), **options)
    assert right.notes == ()
    reversed_ = evaluated("scores", truth, scores=0, thresholds=(0.5,), **options)
    (note,) = reversed_.notes
    assert note.startswith("the score is taken for the boundary between objects")
    assert "it is higher inside the true objects (0." in note


def test_voxels_decide_over_names_of_classes_where_they_are_clear(evaluated, scene, tmp_path):
    both = zarr.open_array(scene.uri["scores"], mode="r")[...]
    axes = [{"name": "c", "type": "channel"}, *({"name": a, "type": "space"} for a in "zyx")]
    scale = [{"type": "scale", "scale": [1, 1, 1, 1]}]
    image = {"axes": axes, "datasets": [{"path": "0", "coordinateTransformations": scale}]}
    omero = {"channels": [{"label": "membrane"}, {"label": "septa"}]}
    root = zarr.create_group(tmp_path / "named.zarr")
    root.create_array("0", data=both, chunks=(1, 3, 16, 32))
    root.attrs["ome"] = {"version": "0.5", "multiscales": [image], "omero": omero}
    scene.uri["named"] = str(tmp_path / "named.zarr")
    options = {"objects": "components", "thresholds": (0.5,)}
    assert evaluated("named", "ids", scores="septa", **options).notes == ()
    (note,) = evaluated("named", "ids", scores="membrane", **options).notes
    assert note.startswith("membrane is taken for the boundary")


def test_exchanged_classes_are_noticed_by_their_voxels(evaluated, scene, tmp_path):
    zarr.create_array(
        tmp_path / "exchanged.zarr",
        data=1 - scene.membrane,
        chunks=(4, 16, 44),
        dimension_names=("z", "y", "x"),
    )
    scene.uri["exchanged"] = str(tmp_path / "exchanged.zarr")
    cases = (
        ({}, "have the other one of two classes"),
        ({"scores": 1, "thresholds": (0.5,)}, "scores of class 1 are higher"),
    )
    for options, says in cases:
        prediction = "scores" if options else "classes"
        assert evaluated(prediction, "membrane", **options).notes == ()
        (note,) = evaluated(prediction, "exchanged", **options).notes
        assert says in note


def test_a_copy_without_its_chunks_is_noted_with_its_name(evaluated, scene, tmp_path):
    """As one given up after its metadata: it reads as zeros, and the figures are of them."""
    for name, complete in (("truth", "membrane"), ("prediction", "classes")):
        empty = zarr.create_array(
            tmp_path / f"{name}.zarr", shape=SHAPE, chunks=(4, 16, 16), dtype="u1"
        )
        scene.uri[f"empty {name}"] = str(empty.store_path)
        pair = (complete, f"empty {name}")
        found = evaluated(*(pair if name == "truth" else reversed(pair)))
        (note,) = (note for note in found.notes if "chunks that were looked at" in note)
        assert note.startswith(f"{tmp_path / name}.zarr: none of ")


def test_only_the_box_counts(evaluated, scene):
    box = Box((3, 7, 11), (10, 33, 44))
    found = evaluated("classes", "membrane", box=box)
    assert found.classes == confusion(
        scene.membrane[box.slices], scene.classes[box.slices], classes=2
    )
    assert found.voxels == box.voxels
    assert evaluated("classes", "membrane", slices=(3, 10)).box == Box((3, 0, 0), (10, 40, 44))


@pytest.mark.parametrize("options", [
    {}, {"scores": 1}, {"scores": 1, "objects": "components", "truth_objects": 0},
    {"scores": 1, "objects": "components", "truth_objects": 0, "per_slice": True},
    {"scores": 1, "objects": "watershed", "truth_objects": 0},
])  # fmt: skip
def test_what_is_ignored_counts_nowhere_whatever_is_predicted_there(
    options, evaluated, scene, tmp_path
):
    truth = scene.membrane.copy()
    truth[:, 10:20] = 9
    zarr.create_array(tmp_path / "truth.zarr", data=truth, chunks=(4, 16, 44))
    scene.uri["part"] = str(tmp_path / "truth.zarr")
    prediction = "scores" if "scores" in options else "classes"
    found = evaluated(prediction, "part", ignore=9, thresholds=(0.45,), **options)
    kept = truth != 9
    assert found.voxels == kept.sum()
    (layer,) = found.layers
    if not options:
        assert found.classes == confusion(truth, scene.classes, classes=2, ignore=9)
    else:
        expected = confusion(truth, (scene.scores >= 0.45), classes=2, ignore=9)
        assert layer.pixels == expected
    if options.get("objects") == "components" and "per_slice" not in options:
        true, predicted = (
            label(mask, connectivity=1)[kept] for mask in (truth == 0, scene.scores < 0.45)
        )
        assert_alike(layer.objects, object_figures(count_pairs(true, predicted)))


@pytest.mark.parametrize("options", [
    {"objects": "ids"}, {"objects": "ids", "per_slice": True},
])  # fmt: skip
def test_the_truth_against_itself_is_perfect(options, evaluated):
    figures = evaluated("ids", "ids", **options).objects.objects
    assert figures.adapted_rand_error == pytest.approx(0, abs=1e-12)
    assert figures.voi == pytest.approx(0, abs=1e-9)
    assert figures.v_info == pytest.approx(1)
    assert {match.f1 for match in figures.matches} == {1.0}


def test_worse_predictions_score_worse(evaluated, scene, tmp_path):
    """A border that grew costs little, one that broke joins cells and costs much."""
    errors = []
    for name, classes in (
        ("grown", ndimage.binary_dilation(scene.membrane)),
        ("broken", ndimage.binary_erosion(scene.membrane, iterations=1)),
    ):
        zarr.create_array(tmp_path / f"{name}.zarr", data=classes.astype(np.uint8))
        scene.uri[name] = str(tmp_path / f"{name}.zarr")
        found = evaluated(name, "membrane", objects="components", truth_objects=0, per_slice=True)
        errors.append(found.objects.objects.adapted_rand_error)
        assert 0 < found.classes.pixel_error < 0.6
    assert 0 < errors[0] < errors[1]


def test_each_figure_tells_its_own_best_threshold(evaluated):
    found = evaluated("scores", "ids", scores=1, objects="components")
    told = found.to_json()["objects"]
    best = told["best"]
    assert best["v_info"]["threshold"] != best["adapted_rand_error"]["threshold"]
    assert found.objects.threshold == told["threshold"] == best["adapted_rand_error"]["threshold"]
    rows = [layer.objects for layer in found.layers]
    assert best["adapted_rand_error"]["value"] == min(row.adapted_rand_error for row in rows)
    assert best["voi"]["value"] == min(row.voi for row in rows)
    assert best["v_rand"]["value"] == max(row.v_rand for row in rows)
    assert best["v_info"]["value"] == max(row.v_info for row in rows)
    for name, one in best.items():
        at = DEFAULT_THRESHOLDS.index(one["threshold"])
        assert getattr(rows[at], name) == one["value"]


def test_the_json_holds_every_figure_the_settings_and_what_was_compared(evaluated, scene):
    found = evaluated(
        "scores", "membrane", scores=1, objects="components", truth_objects=0, per_slice=True,
        slices=(2, 5), thresholds=THRESHOLDS, ignore=9,
    )  # fmt: skip
    told = json.loads(json.dumps(found.to_json(), allow_nan=False))
    assert told["prediction"]["uri"] == scene.uri["scores"]
    assert told["truth"]["metadata_digest"] == found.plan.truth.metadata_digest
    assert told["box"] == [[2, 0, 0], [5, 40, 44]]
    assert told["settings"] == {
        "objects": "components", "truth_objects": 0, "per_slice": True, "ignore": 9, "scores": 1,
        "time": None, "axes": None,
        "thresholds": list(THRESHOLDS),
    }  # fmt: skip
    assert [row["threshold"] for row in told["thresholds"]] == list(THRESHOLDS)
    assert told["objects"]["slices"][0]["z"] == 2
    assert len(told["objects"]["matches"]) == 10
    assert told["pixels"]["pixel_error"] == found.pixels.pixels.pixel_error
    assert told["versions"]["scikit-image"]


def test_an_output_of_ours_is_found_by_its_root_and_its_classes_by_name(
    weights, textured, one_worker, tmp_path
):
    raw = textured((6, 40, 44))
    zarr.create_array(tmp_path / "in.zarr", data=raw, chunks=(6, 16, 16))
    file = weights("2d", class_names=["cell", "membrane", "vesicle"])
    out = tmp_path / "out.zarr"
    segment_volume(
        str(tmp_path / "in.zarr"), str(out), UNetPredictor(file, precision="fp32"),
        client=one_worker, outputs=("classes", "scores"),
    )  # fmt: skip
    classes = zarr.open_array(out / "labels/classes/0", mode="r")[...]
    scores = zarr.open_array(out / "0", mode="r")[1]
    zarr.create_array(tmp_path / "truth.zarr", data=np.minimum(classes, 1))
    found = evaluate_volume(str(out), str(tmp_path / "truth.zarr"), client=one_worker)
    assert found.classes == confusion(np.minimum(classes, 1), classes, classes=3)
    assert [found.class_name(number) for number in range(4)] == [
        "cell", "membrane", "vesicle", "class 3",
    ]  # fmt: skip
    assert found.to_json()["prediction"]["made_by"]["weights"] == UNetPredictor(file).digest
    found = evaluate_volume(
        str(out), str(tmp_path / "truth.zarr"), client=one_worker, scores="membrane",
        thresholds=(0.5,),
    )  # fmt: skip
    (layer,) = found.layers
    assert layer.pixels == confusion(np.minimum(classes, 1), scores / 255 >= 0.5, classes=2)
    assert found.classes is not None, "the classes are compared too, where there are any"
    with pytest.raises(VolumeError, match=r"no channel 'wall'; it has 0 \(cell\)"):
        evaluate_volume(str(out), str(tmp_path / "truth.zarr"), scores="wall")


def test_without_a_client_threads_of_this_process_do_the_work(scene):
    found = evaluate_volume(scene.uri["classes"], scene.uri["membrane"])
    assert found.classes == confusion(scene.membrane, scene.classes, classes=2)


def test_who_watches_sees_every_task_end(evaluated):
    seen = []
    evaluated(
        "scores", "ids", scores=1, objects="components", thresholds=(0.5,),
        watch=lambda *step: seen.append(step),
    )  # fmt: skip
    for what in ("labelling", "objects"):
        steps = [step for step in seen if step[0] == what]
        assert [done for _, done, _ in steps] == list(range(1, steps[0][2] + 1))


@pytest.fixture(scope="module")
def odd(scene, tmp_path_factory):
    """Return the scene's arrays by name, and some that do not fit."""
    folder = tmp_path_factory.mktemp("odd")
    odd = {
        "small": np.zeros((13, 40, 40), np.uint8),
        "float": np.full(SHAPE, 0.5, np.float32),
        "logits": np.full(SHAPE, 3.5, np.float32),
        "nothing": np.zeros(SHAPE, np.uint8),
        "negative": np.full(SHAPE, -1, np.int16),
        "image": np.random.default_rng(5).integers(0, 200, SHAPE, np.uint8),
    }
    for name, array in odd.items():
        zarr.create_array(folder / f"{name}.zarr", data=array)
    wide = folder / "wide.zarr"
    zarr.create_array(wide, shape=(4, 10_000, 10_000), chunks=(1, 500, 500), dtype="u1")
    names = {name: str(folder / f"{name}.zarr") for name in (*odd, "wide")}
    return {**scene.uri, **names}


@pytest.mark.parametrize("dtype", ["bool", "float16", "float32", "float64"])
@pytest.mark.parametrize("which", ["truth", "prediction", "both"])
def test_masks_of_bools_and_whole_floats_are_classes(scene, one_worker, tmp_path, dtype, which):
    uris = {"truth": scene.uri["membrane"], "prediction": scene.uri["classes"]}
    for name, values in (("truth", scene.membrane), ("prediction", scene.classes)):
        if which in (name, "both"):
            uris[name] = str(tmp_path / f"{name}.zarr")
            zarr.create_array(uris[name], data=values.astype(dtype), chunks=(4, 16, 44))
    found = evaluate_volume(uris["prediction"], uris["truth"], client=one_worker)
    wanted = evaluate_volume(scene.uri["classes"], scene.uri["membrane"], client=one_worker)
    assert found.classes == wanted.classes


def test_one_value_that_is_not_whole_is_an_error_wherever_it_lies(scene, one_worker, tmp_path):
    values = scene.membrane.astype(np.float32)
    values[-3, 5, 7] = 0.25
    zarr.create_array(tmp_path / "truth.zarr", data=values, chunks=(4, 16, 44))
    with pytest.raises((LabelError, RunError), match=r"hold 0.25: expected whole numbers"):
        evaluate_volume(scene.uri["classes"], str(tmp_path / "truth.zarr"), client=one_worker)


COMPONENTS = {"scores": 1, "objects": "components"}
BAD = {
    "other shapes": (("classes", "small"), {}, VolumeError, "13×40×44.*13×40×40.*same volume"),
    "a truth of floats": (("classes", "float"), {}, LabelError, "hold 0.5: expected whole"),
    "floats for classes": (("float", "membrane"), {}, VolumeError, "float32, not classes.*--sco"),
    "channels for classes": (("scores", "membrane"), {}, VolumeError, "2 channels.*--scores"),
    "channels for truth": (("classes", "scores"), {}, VolumeError, "2 channels: expected one"),
    "no such class": (("scores", "membrane"), {"scores": 2}, VolumeError, "no channel 2"),
    "no such name": (("scores", "membrane"), {"scores": "wall"}, VolumeError, "no channel 'wall'"),
    "one score only": (("float", "membrane"), {"scores": 1}, VolumeError, "pass --scores 0"),
    "no scores": (("logits", "membrane"), {"scores": 0}, VolumeError, "to 3.5: expected scores"),
    "ids for classes": (("ids", "membrane"), {}, LabelError, "is not a class.*--objects ids"),
    "an image for truth": (
        ("classes", "image"), {}, LabelError, r"198 values .* \(2 to 199\).*not the image"),
    "negative ids": (("ids", "negative"), {"objects": "ids"}, LabelError, "label -1.*--ignore -1"),
    "no object": (("ids", "nothing"), {"objects": "ids"}, LabelError, "no object there: every"),
    "no object in a slice": (
        ("ids", "nothing"), {"objects": "ids", "per_slice": True}, LabelError, "no object there"),
    "no such true class": (
        ("scores", "nothing"), {**COMPONENTS, "truth_objects": 7}, LabelError, "is of class 7"),
    "nothing of the class": (
        ("scores", "nothing"), {"scores": 1}, LabelError, "no voxel of class 1.*label 1"),
    "all ignored": (("classes", "nothing"), {"ignore": 0}, LabelError, "truth is 0 .ignored. eve"),
    "a box outside": (
        ("classes", "membrane"), {"slices": (3, 14)}, PlanError, "3:14,0:40,0:44 is not inside"),
    "no slice": (("classes", "membrane"), {"slices": (4, 4)}, PlanError, "4:4 contains no slice"),
    "an empty box": (
        ("classes", "membrane"), {"box": Box((1, 1, 1), (2, 1, 3))}, PlanError, "s no voxel"),
    "two places": (
        ("classes", "membrane"), {"slices": (0, 1), "box": Box((0, 0, 0), (1, 1, 1))}, PlanError,
        "pass one of them"),
    "a watershed of classes": (
        ("classes", "ids"), {"objects": "watershed"}, PlanError, "--scores"),
    "ids of scores": (
        ("scores", "ids"), {"objects": "ids", "scores": 1}, PlanError, "ids are stored integers"),
    "slices of no objects": (
        ("classes", "membrane"), {"per_slice": True}, PlanError, "--per-slice needs objects"),
    "true objects only": (
        ("classes", "membrane"), {"truth_objects": 0}, PlanError, "--truth-objects needs o"),
    "thresholds that fall": (
        ("scores", "ids"), {**COMPONENTS, "thresholds": (0.5, 0.4)}, PlanError, "0.4: expected"),
    "no threshold": (
        ("scores", "ids"), {**COMPONENTS, "thresholds": ()}, PlanError, "none: expected"),
    "a threshold of 0": (
        ("scores", "ids"), {**COMPONENTS, "thresholds": (0.0,)}, PlanError, "above 0"),
    "a seed outside": (
        ("scores", "ids"), {**COMPONENTS, "seed_distance": -1.0}, PlanError, "0 or more"),
    "a region too large": (
        ("wide", "wide"), {"scores": 0, "objects": "watershed"}, PlanError,
        r"400,000,000 voxels.*\(at most 33,554,432\).*--box, --per-slice or --objects components"),
    "a slice too large": (
        ("wide", "wide"), {"objects": "ids", "per_slice": True}, PlanError, "a slice of 100,000"),
}  # fmt: skip


@pytest.mark.parametrize(("arrays", "options", "kind", "says"), BAD.values(), ids=BAD)
def test_bad_input_is_one_line_that_says_what_to_do(arrays, options, kind, says, odd, one_worker):
    with pytest.raises(kind) as caught:
        evaluate_volume(odd[arrays[0]], odd[arrays[1]], client=one_worker, **options)
    assert isinstance(caught.value, OvertileError)
    text = str(caught.value)
    assert re.search(says, text), text
    assert "\n" not in text
    assert len(text) < 400


def test_an_output_without_scores_says_how_to_get_them(weights, textured, one_worker, tmp_path):
    zarr.create_array(tmp_path / "in.zarr", data=textured((2, 24, 24)))
    out = str(tmp_path / "out.zarr")
    segment_volume(
        str(tmp_path / "in.zarr"), out, UNetPredictor(weights("2d"), precision="fp32"),
        client=one_worker,
    )  # fmt: skip
    with pytest.raises(VolumeError, match=r"holds classes and no scores.*classes,scores"):
        evaluate_volume(out, str(tmp_path / "in.zarr"), client=one_worker, scores="membrane")


def test_a_damaged_chunk_ends_the_evaluation_in_one_line_that_names_its_voxels(
    evaluated, scene, tmp_path
):
    zarr.create_array(tmp_path / "damaged.zarr", data=scene.classes, chunks=(6, 20, 20))
    (tmp_path / "damaged.zarr/c/1/0/1").write_bytes(b"no zstd frame")
    scene.uri["damaged"] = str(tmp_path / "damaged.zarr")
    any_block = r"damaged\.zarr, voxels 6:12,0:20,(11:22|22:33|33:44): "  # that needs the chunk
    with pytest.raises(VolumeError, match=any_block) as caught:
        evaluated("damaged", "membrane")
    assert "\n" not in str(caught.value)


def test_every_setting_of_a_request_that_shapes_a_figure_is_recorded():
    request = EvaluateRequest(
        prediction="a", truth="b", scores=1, objects="watershed", seed_distance=1.5, seed_voxels=4
    )
    told = request.settings()
    apart = {"prediction", "truth", "slices", "box"}  # these are told beside the settings
    assert set(EvaluateRequest.__dataclass_fields__) - apart == set(told)


def test_keyword_arguments_of_evaluate_volume_are_the_optional_fields_of_the_request():
    settings, fields = get_type_hints(EvaluateSettings), get_type_hints(EvaluateRequest)
    assert settings == {n: kind for n, kind in fields.items() if n not in ("prediction", "truth")}
    assert get_type_hints(evaluate_volume)["settings"] == Unpack[EvaluateSettings]
