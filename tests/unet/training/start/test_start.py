"""The laws of a training that starts from weights: what it takes over, keeps, records, refuses."""

from __future__ import annotations

import shutil
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
import zarr
from safetensors import safe_open
from safetensors.torch import save_file

from pipeline import open_labelled
from pipeline.base.errors import ConfigError, TrainingError, TrainingFailedError, WeightsError
from unet import UNetConfig, load_weights, read_weights_info, train_unet
from unet.recipe.training_config import Recipe, recipe_from_dict
from unet.training import loop
from unet.training.checkpoint import load_newest
from unet.training.complete_recipe import complete_recipe
from unet.training.learner import Learner
from unet.training.messages import Note, Validated
from unet.training.prepare import prepare_training
from unet.training.start import weights as start_weights
from unet.training.start.notes import start_notes, stated_voxel_size
from unet.training.start.recipe import names_of_start, network_of_start
from unet.training.start.weights import StartWeights

NETWORK = UNetConfig(dims=2, base_channels=2, levels=2, dropout=0.0, norm="batch")
PLAIN = replace(NETWORK, norm="none")
NAMES = ["cell", "membrane"]
TINY = 1e-12


@pytest.fixture
def place(tmp_path, textured):
    raw = textured((3, 32, 36))
    for name, array in (("raw", raw), ("labels", (raw > 128).astype("u1"))):
        zarr.create_array(
            tmp_path / f"{name}.zarr", data=array, chunks=(1, 16, 18), dimension_names=list("zyx")
        )
    return tmp_path


def opened(place, **options):
    return open_labelled([(str(place / "raw.zarr"), str(place / "labels.zarr"))], **options)


def config(names=None, **training):
    settings = {"steps": 3, "patch": [12, 12], "precision": "fp32", "checkpoint_every": 2}
    stated = {"class_names": names} if names else {}
    return {"training": {**settings, **training}, **stated}


def trained(place, start, *, name="w.safetensors", names=None, resume=False, **training):
    """Train from weights and return the path of the result."""
    out = place / name
    train_unet(
        opened(place), out, config=config(names, **training), start_from=start, resume=resume
    )
    return out


def tensors_of(path):
    return load_weights(path)[0].state_dict()


def start_of(path):
    return StartWeights.of(path)


def test_a_training_that_learns_nothing_ends_with_the_weights_that_it_started_from(
    place, weights_file
):
    start = weights_file(PLAIN, name="start.safetensors", class_names=NAMES)
    out = trained(place, start, learning_rate=TINY, schedule="constant")
    before, after = load_weights(start)[0], load_weights(out)[0]
    image = torch.rand(2, 1, *PLAIN.input_shape((20, 20)))
    with torch.inference_mode():
        scores = before(image).softmax(dim=1)
        torch.testing.assert_close(after(image).softmax(dim=1), scores, rtol=0, atol=1e-6)
    assert scores.std() > 0.01, "scores that do not vary would hide another network"
    assert read_weights_info(out).class_names == tuple(NAMES)


def test_the_running_mean_and_the_weights_begin_with_those_of_the_start(place, weights_file):
    start = weights_file(PLAIN, name="start.safetensors")
    prepared = prepare_training(
        opened(place), place / "w.safetensors", config=config(), start_from=start
    )
    job = prepared.job(batch=1)
    learner = Learner(job.recipe.network, job.recipe.training, device="cpu")
    loop.load_start(job, learner)
    for name, tensor in tensors_of(start).items():
        assert torch.equal(learner.model.state_dict()[name], tensor), name
        assert torch.equal(learner.ema[name], tensor), name
    assert not learner.optimiser.state_dict()["state"]


def test_other_class_names_get_a_fresh_head_on_the_layers_of_the_start(place, weights_file):
    start = weights_file(PLAIN, name="start.safetensors", class_names=NAMES)
    out = trained(place, start, names=["rest", "nucleus"], learning_rate=TINY, schedule="constant")
    before, after = tensors_of(start), tensors_of(out)
    for name, tensor in before.items():
        is_same = torch.allclose(after[name], tensor, rtol=0, atol=1e-6)
        assert is_same == (not name.startswith("head.") or not bool(tensor.any())), name


def test_frozen_layers_keep_every_bit_and_have_no_state_in_the_optimiser(place, weights_file):
    start = weights_file(NETWORK, name="start.safetensors")
    out = trained(place, start, freeze="contracting", learning_rate=0.01)
    before, after = tensors_of(start), tensors_of(out)
    for name, tensor in before.items():
        if name.startswith("contracting."):
            assert torch.equal(after[name], tensor), name
        elif name.endswith("weight"):
            assert not torch.equal(after[name], tensor), name
    assert any("running_mean" in name and name.startswith("contracting.") for name in before)
    checkpoint = load_newest(place / "w.training")
    model = load_weights(start)[0]
    learnt = [name for name, _ in model.named_parameters() if not name.startswith("contracting.")]
    assert 0 < len(checkpoint.optimiser["state"]) <= len(learnt), "biases before a norm have none"
    groups = checkpoint.optimiser["param_groups"]
    assert sum(len(group["params"]) for group in groups) == len(learnt)


def test_without_freeze_the_batch_norms_of_the_contracting_path_learn(place, weights_file):
    start = weights_file(NETWORK, name="start.safetensors")
    before, after = tensors_of(start), tensors_of(trained(place, start))
    name = "contracting.0.norm_1.running_mean"
    assert not torch.equal(after[name], before[name])


def test_the_start_is_recorded_and_a_resumed_training_reads_no_tensor_of_it(
    place, weights_file, monkeypatch
):
    start = weights_file(PLAIN, name="start.safetensors")
    recorded = {"weights": "start.safetensors", "sha256": read_weights_info(start).digest}
    out = trained(place, start)
    assert read_weights_info(out).provenance["start"] == recorded
    assert load_newest(place / "w.training").record["start"] == recorded
    whole = tensors_of(out)
    for path in (out, place / "w.training/checkpoint-00000003.safetensors"):
        path.unlink()

    def read(*_):
        raise AssertionError("the start was read again")

    monkeypatch.setattr(start_weights, "load_weights", read)
    resumed = tensors_of(trained(place, start, resume=True))
    assert all(torch.equal(whole[name], tensor) for name, tensor in resumed.items())


def test_a_training_is_resumed_only_from_the_weights_that_it_started_from(place, weights_file):
    start = weights_file(PLAIN, name="start.safetensors")
    other = weights_file(PLAIN, name="other.safetensors", provenance={"other": True})
    trained(place, start)
    digests = [read_weights_info(path).digest[:12] for path in (start, other)]
    table = {"dims": 2, "base_channels": 2, "levels": 2, "dropout": 0.0}
    for again, said in (
        (other, rf"started from start\.safetensors \(sha256 {digests[0]}…\), this one starts from "
                rf"other\.safetensors \(sha256 {digests[1]}…\): resume with the same --from, or"),
        (None, r"started from start\.safetensors .*, this one starts without --from: resume"),
    ):  # fmt: skip
        with pytest.raises(TrainingError, match=said) as caught:
            prepare_training(
                opened(place), place / "w.safetensors", config={**config(), "network": table},
                start_from=again, resume=True,
            )  # fmt: skip
        assert "\n" not in str(caught.value)
    copy = place / "copy.safetensors"
    shutil.copy(start, copy)
    done = prepare_training(
        opened(place), place / "w.safetensors", config=config(), start_from=copy, resume=True
    )
    assert done.is_done, "a copy has the same digest"


def test_weights_that_changed_after_the_checks_are_refused(place, weights_file):
    start = weights_file(PLAIN, name="start.safetensors")
    prepared = prepare_training(
        opened(place), place / "w.safetensors", config=config(), start_from=start
    )
    weights_file(PLAIN, name="start.safetensors", provenance={"other": True})
    with pytest.raises(WeightsError, match=r"have changed since this training was prepared"):
        loop.train(prepared.job(batch=1))

    def changed(function, **_):
        weights_file(PLAIN, name="start.safetensors", provenance={"third": True})
        return [function(loop.Alone())]

    with pytest.raises(TrainingFailedError, match=r"have changed since"):
        train_unet(
            opened(place), place / "w.safetensors", config=config(batch=1), start_from=start,
            run_ranks=changed,
        )  # fmt: skip


DIFFERENT = {
    "dims": (3, r"dims = 3, but the weights start\.safetensors have 2"),
    "levels": (3, r"levels = 3, but .* have 2: remove the setting, or pass other weights"),
    "base_channels": (8, r"base_channels = 8, but .* have 2"),
    "kernels": ([5, 3], r"kernels = \[5, 3\], but .* have \[\[3, 3\], \[3, 3\]\]"),
    "pooling": (3, r"pooling = 3, but .* have \[\[2, 2\]\]"),
    "norm": ("batch", r"norm = 'batch', but .* have 'none'"),
}


@pytest.mark.parametrize("name", DIFFERENT)
def test_a_network_table_with_other_layers_is_refused_by_its_first_difference(name, weights_file):
    start = start_of(weights_file(PLAIN, name="start.safetensors"))
    value, said = DIFFERENT[name]
    later = {"norm": "group"} if name != "norm" else {}
    with pytest.raises(ConfigError, match=said) as caught:
        network_of_start(start, {**later, name: value}, Recipe(), channels=1)
    assert "\n" not in str(caught.value)


def test_weights_of_a_3d_network_are_refused_for_images_of_one_slice(weights_file):
    start = start_of(
        weights_file(UNetConfig(dims=3, base_channels=2, levels=2), name="start.safetensors")
    )
    flat, deep = (
        SimpleNamespace(volume_shape_zyx=shape, channel_count=1, painted_classes=())
        for shape in ((1, 90, 90), (9, 90, 90))
    )
    with pytest.raises(ConfigError, match=r"start\.safetensors are of a 3-D network, but the ima"):
        complete_recipe({}, [flat], start)
    assert complete_recipe({}, [flat, deep], start).network.dims == 3
    network = UNetConfig(
        dims=3, base_channels=2, levels=2, kernels=((1, 3, 3),) * 2, pooling=((1, 2, 2),)
    )
    flat_kernels = start_of(weights_file(network, name="flat.safetensors"))
    assert complete_recipe({}, [flat], flat_kernels).network.dims == 3


def test_a_network_table_of_the_same_layers_may_set_what_does_not_change_them(weights_file):
    start = start_of(weights_file(PLAIN, name="start.safetensors"))
    stated = {"dims": 2, "kernels": 3, "pooling": [2], "dropout": 0.25}
    network = network_of_start(start, stated, Recipe(), channels=3)
    assert network == replace(PLAIN, dropout=0.25, in_channels=3)
    names = Recipe(class_names=("a", "b", "c"))
    assert network_of_start(start, {}, names, channels=1) == replace(PLAIN, classes=3)


MEANING = {
    # rule of the weights, rule of the training, whether the classes are the same
    "unknown, classes": (None, "classes", True),
    "unknown, boundary": (None, "boundary", True),
    "boundary, boundary": ("boundary", "boundary", True),
    "boundary, stored classes": ("boundary", "classes", True),
    "stored classes, foreground": ("classes", "foreground", True),
    "boundary, foreground": ("boundary", "foreground", False),
    "foreground, boundary": ("foreground", "boundary", False),
}


@pytest.mark.parametrize("case", MEANING)
def test_class_names_of_the_start_hold_unless_the_rule_differs(case, weights_file):
    before, now, is_same = MEANING[case]
    provenance = {"recipe": {"labels": {"rule": before}}} if before else {"recipe": "by hand"}
    file = weights_file(PLAIN, name="start.safetensors", class_names=NAMES, provenance=provenance)
    start = start_of(file)
    recipe = recipe_from_dict({"labels": {"rule": now}})
    recipe = replace(recipe, network=network_of_start(start, {}, recipe, channels=1))
    names = names_of_start(start, recipe)
    assert names == (tuple(NAMES) if is_same else None)
    assert start.takes_head(replace(recipe, class_names=names or ("a", "b"))) == is_same


def test_the_label_rule_decides_the_channels_and_else_the_weights_do(place, weights_file):
    three = replace(PLAIN, classes=3)
    start = start_of(weights_file(three, name="start.safetensors", class_names=["a", "b", "c"]))

    def completed(**labels):
        return complete_recipe({"labels": labels}, opened(place).training, start)

    stored, boundary = completed(), completed(rule="boundary")
    assert (stored.network.classes, stored.class_names) == (3, ("a", "b", "c"))
    assert (boundary.network.classes, boundary.class_names) == (2, ("inside", "boundary"))
    assert start.takes_head(stored)
    assert not start.takes_head(boundary)
    offsets = [[-1, 0], [0, -1], [-3, 0]]
    affinities = completed(rule="affinities", offsets=offsets)
    assert affinities.network.classes == 3
    assert affinities.class_names[2] == "affinity -3,0"
    assert not start.takes_head(replace(affinities, class_names=("a", "b", "c")))


def test_a_recipe_of_an_older_version_freezes_nothing():
    record = Recipe().to_dict()
    assert record["training"].pop("freeze") == "none"
    assert recipe_from_dict(record) == Recipe()


def test_frozen_layers_without_weights_to_start_from_are_refused(place):
    with pytest.raises(TrainingError, match=r"freeze \(contracting\): .*--from.*remove --freeze"):
        prepare_training(
            opened(place), place / "w.safetensors", config=config(freeze="contracting")
        )
    with pytest.raises(ConfigError, match=r"training\.freeze \('everything'\): expected 'none' or"):
        prepare_training(opened(place), place / "w.safetensors", config=config(freeze="everything"))
    assert not (place / "w.training").exists()


def test_the_weights_to_start_from_are_never_replaced(place, weights_file):
    start = weights_file(PLAIN, name="start.safetensors")
    link = place / "link.safetensors"
    link.symlink_to(start)
    for source, out in ((start, start), (start, link), (link, start)):
        with pytest.raises(TrainingError, match="--from and --out are the same file"):
            prepare_training(opened(place), out, config=config(), start_from=source, resume=True)


def test_another_normalisation_than_that_of_the_weights_is_noted(place, weights_file):
    start = weights_file(
        PLAIN, name="start.safetensors", normalisation={"kind": "range", "low": 0, "high": 200}
    )

    class Heard:
        def __init__(self):
            self.notes = []

        def hear(self, message):
            self.notes += [message.text] if isinstance(message, Note) else []

    def notes(**options):
        heard = Heard()
        name = f"{len(options)}.safetensors"
        train_unet(
            opened(place, **options), place / name, config=config(steps=1), start_from=start,
            listeners=[heard],
        )  # fmt: skip
        return heard.notes

    assert notes() == [
        "the weights start.safetensors were trained with normalisation range:0:200; this training "
        "uses dtype"
    ]
    assert notes(normalisation=start_of(start).normalisation) == []
    assert read_weights_info(place / "1.safetensors").normalisation["high"] == 200


def test_the_level_on_which_grey_values_were_measured_is_not_taken_over(weights_file):
    record = {"kind": "percentile", "low": 1, "high": 99, "level": "s2"}
    start = start_of(weights_file(PLAIN, normalisation=record))
    assert start.normalisation == {"kind": "percentile", "low": 1, "high": 99}
    assert start_of(weights_file(PLAIN)).normalisation is None


SIZE = (0.004, 0.005)


def test_a_voxel_size_of_another_scale_is_noted(weights_file):
    start = start_of(weights_file(PLAIN, name="start.safetensors", voxel_size_um=SIZE))

    def notes(sizes, start=start):
        return list(start_notes(start, normalisation={}, voxel_size_um=sizes))

    assert notes((9.0, 0.0059, 0.0034)) == []
    assert notes(None) == notes((None, None, None)) == notes((1.0, 1.0, 1.0), start=None) == []
    (note,) = notes((None, 0.004, 0.008))
    assert note == (
        "the voxel size, 0.004×0.008 µm, differs from that of the weights start.safetensors, "
        "0.004×0.005 µm, by more than a factor of 1.5: train on the level that fits best "
        "(--level), or pass the true size as --voxel-size if the files are wrong"
    )


def test_the_result_states_the_voxel_size_of_the_volumes_else_that_of_the_start(
    place, weights_file
):
    start = weights_file(PLAIN, name="start.safetensors", voxel_size_um=SIZE)
    out = trained(place, start, steps=1)
    assert read_weights_info(out).voxel_size_um == SIZE
    zarr.open_array(place / "raw.zarr", mode="r+").attrs["voxel_size_um"] = [50, 0.006, 0.006]
    own = trained(place, start, name="own.safetensors", steps=1)
    assert read_weights_info(own).voxel_size_um == pytest.approx((0.006, 0.006))
    several, partly = None, (None, None, 0.1)
    for sizes in (several, partly):
        assert stated_voxel_size(sizes, start_of(start), dims=2) is None


def test_volumes_with_other_channels_start_from_the_same_weights(place, weights_file, textured):
    colours = textured((3, 3, 32, 36))
    names = ("c", "z", "y", "x")
    zarr.create_array(place / "colours.zarr", data=colours, dimension_names=names)
    start = weights_file(PLAIN, name="start.safetensors")
    volumes = open_labelled([(str(place / "colours.zarr"), str(place / "labels.zarr"))])
    out = place / "w.safetensors"
    train_unet(
        volumes, out, config=config(learning_rate=TINY, schedule="constant"), start_from=start
    )
    model, info = load_weights(out)
    assert info.config == replace(PLAIN, in_channels=3)
    image = torch.rand(1, 1, *PLAIN.input_shape((20, 20)), dtype=torch.float64)
    with torch.inference_mode():
        old, new = (
            load_weights(start)[0].double()(image),
            model.double()(image.expand(-1, 3, -1, -1)),
        )
        torch.testing.assert_close(new, old, rtol=1e-5, atol=1e-5 * float(old.abs().max()))


def validated(place, start, **options):
    """Train from weights with a validation; return the result and all validations."""
    out, heard = place / "v.safetensors", []
    train_unet(
        opened(place, validation_slices=(2, 3)), out, start_from=start,
        config=config(validate_every=2, schedule="constant", **options),
        listeners=[SimpleNamespace(hear=heard.append)],
    )  # fmt: skip
    return out, [one for one in heard if isinstance(one, Validated)]


def test_the_weights_to_start_from_are_validated_and_kept_if_no_step_improves_on_them(
    place, weights_file
):
    start = weights_file(PLAIN, name="start.safetensors", class_names=NAMES)
    trained(place, start, learning_rate=0.01, name="good.safetensors")
    good = place / "good.safetensors"
    out, found = validated(place, good, learning_rate=TINY)
    assert [one.step for one in found] == [0, 2, 3]
    assert [one.is_best for one in found] == [True, False, False]
    before, after = tensors_of(good), tensors_of(out)
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert read_weights_info(out).provenance["steps"] == 0


def test_a_fresh_head_is_not_validated_before_the_first_step(place, weights_file):
    start = weights_file(PLAIN, name="start.safetensors", class_names=["rest", "nucleus"])
    _, found = validated(place, start)
    assert [one.step for one in found] == [0, 2, 3], "the names of the weights are taken over"
    shutil.rmtree(place / "v.training")
    (place / "v.safetensors").unlink()
    out, heard = place / "v.safetensors", []
    train_unet(
        opened(place, validation_slices=(2, 3)), out, start_from=start,
        config=config(NAMES, validate_every=2), listeners=[SimpleNamespace(hear=heard.append)],
    )  # fmt: skip
    assert [one.step for one in heard if isinstance(one, Validated)] == [2, 3]


def test_damaged_tensors_to_start_from_are_refused_before_anything_is_written(place, weights_file):
    start = weights_file(PLAIN, name="start.safetensors", class_names=NAMES)
    model, _ = load_weights(start)
    with torch.no_grad():
        next(model.parameters()).fill_(float("nan"))
    tensors = {name: tensor.contiguous() for name, tensor in model.state_dict().items()}
    with safe_open(start, "pt") as file:
        save_file(tensors, place / "nan.safetensors", file.metadata())
    with pytest.raises(WeightsError, match="has NaN or infinite values"):
        prepare_training(
            opened(place), place / "w.safetensors", config=config(),
            start_from=place / "nan.safetensors",
        )  # fmt: skip
