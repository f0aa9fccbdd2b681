"""Bad input to `overtile train`: exit code 2 and one line with problem, place and remedy."""

from __future__ import annotations

import re
import shutil
import signal

import numpy as np
import pytest
import zarr

from flows.cli.main import main
from unet.training.checkpoint import load_newest

SHAPE = (6, 40, 44)
GOOD = """
[network]
dims = 2
base_channels = 2
levels = 2

[training]
steps = 4
batch = 1
patch = [16, 16]
precision = "fp32"
checkpoint_every = 2

[training.augment]
elastic_sigma = 2.0
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Return a folder with valid and invalid volumes, labels and configs, named by the cases."""
    folder = tmp_path_factory.mktemp("place")
    rng = np.random.default_rng(0)
    raw = rng.integers(0, 255, SHAPE, "u1")
    labels = (raw > 127).astype("u1")
    ids = rng.integers(0, 9, SHAPE, "u4")
    arrays = {
        "raw": raw, "labels": labels, "ids": ids, "mask": 255 * labels, "small": raw[:, :20, :20],
        "small-labels": labels[:, :20, :20], "other": labels[:, :, :40], "floats": labels / 2,
        "bools": labels > 0, "unknown": np.full(SHAPE, 255, "u1"), "empty": np.zeros(SHAPE, "u1"),
        "few": np.where(np.arange(6)[:, None, None] == 1, labels, np.uint8(255)),
        "negative": labels.astype("i2") - 1, "wide": raw.astype("f4"),
        "nan": np.full(SHAPE, np.nan, "f4"),
        "half-known": np.where(np.arange(6)[:, None, None] < 4, labels, 255).astype("u1"),
    }  # fmt: skip
    for name, array in arrays.items():
        zarr.create_array(folder / f"{name}.zarr", data=array, chunks=(2, 20, 20))
    names = ("c", "z", "y", "x")
    for name, array in (("rgb", raw), ("several-labels", labels)):
        three = np.stack([array] * 3)
        zarr.create_array(folder / f"{name}.zarr", data=three, dimension_names=names)
    for name in ("raw", "labels"):
        shutil.copytree(folder / f"{name}.zarr", folder / f"damaged-{name}.zarr")
        for chunk in (folder / f"damaged-{name}.zarr/c").glob("0/*/*"):
            chunk.write_bytes(b"no zstd frame")
    (folder / "good.toml").write_text(GOOD)
    (folder / "a-folder").mkdir()
    (folder / "binary.toml").write_bytes(b"\xff\xfe\x00")
    (folder / "made.safetensors").write_bytes(b"the user's work")
    return folder


def config(text):
    """Return a change that replaces lines of the valid config by others of the same setting."""
    lines = GOOD.splitlines()
    table = None
    for line in text.splitlines():
        if line.startswith("["):
            table = lines.index(line) if line in lines else len(lines)
            if table == len(lines):
                lines.append(line)
            continue
        name = line.split("=")[0].strip()
        stop = next((n for n in range(table + 1, len(lines)) if lines[n].startswith("[")), None)
        inside = range(table + 1, stop or len(lines))
        found = [n for n in inside if lines[n].split("=")[0].strip() == name]
        if found:
            lines[found[0]] = line
        else:
            lines.insert(table + 1, line)
    return {"--config": "\n".join(lines)}


CASES = {
    # what is wrong: (arguments that replace the good ones, what the line says)
    "no volume": ({"--volume": None, "--labels": None}, r"no volume to train on"),
    "no labels": ({"--labels": None}, r"1 --volume and 0 --labels: expected one --labels for"),
    "labels without a volume": ({"--volume": None}, r"0 --volumes and 1 --labels"),
    "labels for one of two": (
        {"--validation-volume": "raw.zarr"}, r"1 --validation-volume and 0 --validation-labels"),
    "a volume that does not exist": ({"--volume": "gone.zarr"}, r"gone\.zarr does not exist"),
    "labels that do not exist": ({"--labels": "gone.zarr"}, r"gone\.zarr does not exist"),
    "a volume in memory": ({"--volume": "memory://raw.zarr"}, r"workers are other processes"),
    "labels of another shape": (
        {"--labels": "other.zarr"}, r"6×40×40 voxels, but the volume .* is 6×40×44"),
    "labels of a part of unknown place": (
        {"--labels": "small-labels.zarr"}, r"6×20×20 voxels, but .*states its place"),
    "validation slices without labels": (
        {"--labels": "few.zarr", "--ignore": "255", "--validation-slices": "3:5"},
        r"raw\.zarr slices 3:5 are 255, the ignored label"),
    "labels with channels": ({"--labels": "several-labels.zarr"}, r"have 3 channels: expected one"),
    "labels that are floats": ({"--labels": "floats.zarr"}, r"hold 0.5: expected whole numbers"),
    "labels that are negative": (
        {"--labels": "negative.zarr"}, r"labels of .*raw\.zarr: .*negative id -1.*ignore"),
    "a volume of NaN only": (
        {"--volume": "nan.zarr"}, r"nan\.zarr: all 10,560 values checked are NaN or infinite"),
    "labels that are damaged": (
        {"--labels": "damaged-labels.zarr"},
        r"damaged-labels\.zarr, voxels 0:6,0:40,0:44: .*Zstd"),
    "labels of one class": ({"--labels": "empty.zarr"}, r"all labels are of class 0: .*--rule"),
    "labels that are all ignored": (
        {"--labels": "unknown.zarr", "--ignore": "255"}, r"all labels of .*raw\.zarr are 255"),
    "held-out slices that are all ignored": (
        {"--labels": "half-known.zarr", "--ignore": "255", "--validation-slices": "4:6"},
        r"all labels of .*raw\.zarr slices 4:6 are 255"),
    "a metric without a validation": (
        {"--metric": "loss"}, r"metric \(loss\): nothing is held out .*--validation-slices, or"),
    "patience without a validation": (
        config("[training]\npatience = 3"), r"patience \(3\): nothing is held out to validate on"),
    "best weights without a validation": (
        {"--kept-weights": "best"}, r"kept_weights \(best\): nothing is held out to validate on"),
    "an unknown metric": ({"--metric": "auc"}, r"--metric: invalid choice: 'auc'"),
    "an unknown metric in the config": (
        config('[training]\nmetric = "auc"'), r"metric \('auc'\): expected .*mean_iou.*loss"),
    "no patience": ({"--patience": "0"}, r"--patience 0: expected 1 or more"),
    "weights to keep that do not exist": (
        {"--kept-weights": "first"}, r"--kept-weights: invalid choice: 'first'"),
    "a class beyond the network's": (
        {"--labels": "ids.zarr"}, r"have class 8, the network has 2 classes .*foreground"),
    "a mask for classes": ({"--labels": "mask.zarr"}, r"values 0 and 255, .*--rule foreground"),
    "255 besides classes": (
        {"--labels": "half-known.zarr"}, r"have 255 besides .* \(0 to 1\): pass --ignore 255"),
    "a class beyond it in validation": (
        {"--validation-volume": "raw.zarr", "--validation-labels": "ids.zarr"}, r"have class 8"),
    "an object class beyond it": ({"--object-class": "2"}, r"object_class \(2\): .* 0 to 1"),
    "an object class of ids": (
        {"--labels": "ids.zarr", "--rule": "boundary", "--object-class": "1"},
        r"object_class goes with rule classes"),
    "a rule of two classes for three": (
        {"--labels": "ids.zarr", "--rule": "boundary", **config("[network]\nclasses = 3")},
        r"makes 2 classes, the network has 3"),
    "too many class names": ({"--class-names": "a,b,c"}, r"3 class names for 2 classes"),
    "names that are empty": ({"--class-names": ","}, r"class_names \(\['', ''\]\): .*distinct"),
    "a name for two classes": (
        {"--class-names": "a,a"}, r"\['a', 'a'\]\): expected names that are distinct"),
    "an unknown rule": ({"--rule": "edges"}, r"--rule: invalid choice: 'edges'"),
    "another number of channels": ({"--volume": "rgb.zarr"}, r"3 channels, the network takes 1"),
    "no such channel": ({"--volume": "rgb.zarr", "--channel": "7"}, r"no channel 7"),
    "no such level": ({"--level": "s9"}, r"no level s9"),
    "a dtype's range of floats": (
        {"--volume": "wide.zarr", "--normalisation": "dtype"}, r"float32 has no fixed range"),
    "an unknown normalisation": ({"--normalisation": "best"}, r"'best' is unknown"),
    "slices outside": ({"--validation-slices": "4:9"}, r"4:9 of .*raw\.zarr, which has 6"),
    "slices in the wrong order": ({"--validation-slices": "4:2"}, r"A below B, inside 0:6"),
    "slices before the first": ({"--validation-slices": "-2:2"}, r"-2:2 of .*inside 0:6"),
    "all slices": ({"--validation-slices": "0:6"}, r"leave nothing to train on"),
    "slices that are not numbers": ({"--validation-slices": "last"}, r"'last': expected .*A:B"),
    "a patch beyond the volume": (
        config("[training]\npatch = [64, 64]"), r"larger than a volume of \(40, 44\)"),
    "a patch of other axes": (
        config("[training]\npatch = [8, 16, 16]"), r"3 sizes: a 2-D network takes 2"),
    "a network beyond the volume": (
        {"--validation-slices": "1:6",
         **config("[network]\ndims = 3\n[training]\npatch = [8, 8, 8]")},
        r"smallest patch of this network is \(2, 2, 2\), a volume has \(1, 40, 44\)"),
    "no such config": ({"--config": "gone.toml"}, r"config 'gone\.toml' cannot be read"),
    "a config that is a folder": ({"--config": "a-folder"}, r"cannot be read"),
    "a config that is not text": ({"--config": "binary.toml"}, r"cannot be read"),
    "a config that is not TOML": ({"--config": "[training\nsteps = 3"}, r"is not TOML: .*line 1"),
    "a config that is nested too deep": ({"--config": "x = " + "[" * 20_000}, r"nested too deep"),
    "a number of 5000 digits": ({"--config": "x = " + "9" * 5000}, r"a number is too long to re"),
    "too many classes": (
        config("[network]\nclasses = 1000000000000"),
        r"classes is 1000000000000: expected an integer from 1 to 256"),
    "too many channels": (
        config("[network]\nbase_channels = 1000000000000"), r"base_channels is .* 1 to 4096"),
    "a network that fits no worker": (
        config("[network]\nbase_channels = 4096\nlevels = 16"), r"parameters: at most 10,000,"),
    "too many patches": ({"--batch": str(10**12)}, r"batch \(1000000000000\): .* 65536 or less"),
    "too many steps": ({"--steps": str(10**12)}, r"steps \(1000000000000\): .* 1000000000 or less"),
    "too much noise": (
        config("[training.augment]\nnoise = 1e300"), r"noise \(1e\+300\): .* 1000"),
    "too much brightness": (
        config("[training.augment]\nbrightness = 1e39"), r"brightness \(1e\+39\): .* 1000"),
    "an unknown table": (
        {"--config": "[trainig]\nsteps = 3"}, r"trainig: unknown setting; did you mean training\?"),
    "an unknown setting": (
        config("[training]\nlearningrate = 1"),
        r"training\.learningrate: unknown setting; .*mean learning_rate\?"),
    "an unknown setting of the network": (
        config("[network]\nchannels = 8"), r"unknown network settings channels: expected"),
    "an unknown augmentation": (
        config("[training.augment]\nflip = true"), r"augment\.flip: unknown"),
    "an unknown setting of labels": (
        {"--config": "[labels]\nrules = 1"}, r"labels\.rules: .*mean rule\?"),
    "an unknown preset": ({"--preset": "best"}, r"--preset: invalid choice: 'best'"),
    "an unknown preset in the config": (
        config('[training]\npreset = "best"'),
        r"preset \('best'\): expected one of default, unet-2015"),
    "no steps": ({"--steps": "0"}, r"--steps 0"),
    "steps that are not a number": ({"--steps": "many"}, r"--steps: invalid int value: 'many'"),
    "no batch": ({"--batch": "0"}, r"--batch 0"),
    "a seed below 0": ({"--seed": "-1"}, r"--seed -1"),
    "a seed beyond": ({"--seed": str(2**40)}, rf"seed \({2**40}\): expected less than {2**32}"),
    "no rank": ({"--ranks": "0"}, r"--ranks 0"),
    "more ranks than patches": (
        {"--ranks": "2"}, r"2 ranks for a batch of 1.*--ranks 1, or .*larger --batch"),
    "no such cluster": ({"--cluster": "nowhere"}, r"cluster 'nowhere': expected local"),
    "an out that exists": ({"--out": "made.safetensors"}, r"exists already: choose another"),
    "an out that is a folder": ({"--out": "a-folder"}, r"exists already: choose another"),
    "an out below a file": ({"--out": "good.toml/w.safetensors"}, r"the folder cannot be writ"),
    "an out that is the root": ({"--out": "/"}, r"--out '/': expected the path of a file"),
    "an out with a long name": ({"--out": f"{'a' * 300}.safetensors"}, r"at most 180 bytes"),
    "an out in a long folder": ({"--out": f"{'a' * 300}/w.safetensors"}, r"the folder cannot"),
    "an out where no file can be": ({"--out": "/proc/w.safetensors"}, r"the folder cannot be w"),
    "an out on S3": ({"--out": "s3://bucket/w.safetensors"}, r"expected a path that every"),
    "an out without a name": ({"--out": " "}, r"expected a path that every"),
}  # fmt: skip


def arguments(changes, folder):
    """Return a command line that is good but for ``changes``; configs are texts or files."""
    values = {
        "--volume": "raw.zarr", "--labels": "labels.zarr", "--config": GOOD,
        "--out": "w.safetensors", **changes,
    }  # fmt: skip
    if "=" in values["--config"]:
        path = folder / "changed.toml"
        path.write_text(values["--config"])
        values["--config"] = str(path)
    given = {name: value for name, value in values.items() if value is not None}
    return ["train", *(f"{name}={value}" if value else name for name, value in given.items())]


def listing(folder):
    return {path: path.lstat().st_mtime_ns for path in folder.rglob("*")}


def exit_code(changes, place, folder):
    """Run `overtile train` in this process, with good arguments but for ``changes``."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        patch.setattr(signal, "signal", lambda *_: None)  # pytest keeps its own handlers
        try:
            return main(arguments(changes, folder))
        except SystemExit as exit_:  # argparse leaves so
            return exit_.code


@pytest.fixture
def shell(place, tmp_path, capsys):
    """Return a function that runs a command in the place: exit code, standard output and error."""
    return lambda changes: (exit_code(changes, place, tmp_path), *capsys.readouterr())


@pytest.mark.parametrize(("changes", "says"), CASES.values(), ids=CASES)
def test_bad_input_is_one_line_exit_2_and_nothing_is_written(changes, says, shell, place):
    before = listing(place)
    code, out, err = shell(changes)
    assert code == 2
    assert out == ""
    assert err.startswith("overtile: ")
    assert err.count("\n") == 1, err
    assert re.search(says, err), err
    assert len(err) < 700
    assert listing(place) == before


SETTINGS = [
    *(("network", name) for name in (
        "dims", "in_channels", "classes", "base_channels", "levels", "kernels", "pooling", "norm",
        "dropout",
    )),
    *(("training", name) for name in (
        "preset", "steps", "batch", "patch", "optimiser", "learning_rate", "momentum",
        "weight_decay", "gradient_norm", "schedule", "warmup", "ema", "precision", "class_balance",
        "border_weight", "border_sigma", "rare_share", "freeze", "augment", "validate_every",
        "metric", "patience", "kept_weights", "checkpoint_every", "seed", "loss",
    )),
    *(("training.augment", name) for name in (
        "elastic_sigma", "elastic_knots", "rotation", "mirror", "isotropic", "deformed_share",
        "shift", "contrast", "brightness", "gamma", "noise",
    )),
    *(("labels", name) for name in ("rule", "ignore", "object_class", "offsets", "scale")),
]  # fmt: skip
WRONG = ('"a word"', '["a", "b"]', "[[1], [2]]", "nan", "inf", "-inf", "1979-05-27", "{ a = 1 }",
         "-123456.5")  # fmt: skip


@pytest.mark.parametrize("value", WRONG)
def test_a_value_of_the_wrong_type_is_one_line_that_names_the_setting(value, tmp_path):
    from pipeline.base.errors import ConfigError
    from unet.recipe.training_config import recipe_from_toml

    for table, name in SETTINGS:
        with pytest.raises(ConfigError) as caught:
            recipe_from_toml(f"[{table}]\n{name} = {value}", where="config 'x.toml'")
        said = str(caught.value)
        assert said.startswith("config 'x.toml': ")
        assert name in said, said
        assert "\n" not in said
    for name in ("class_names", "attribution", "network", "training", "labels"):
        if (name, value) in (("attribution", '"a word"'), ("class_names", '["a", "b"]')):
            continue
        with pytest.raises(ConfigError):
            recipe_from_toml(f"{name} = {value}", where="config 'x.toml'")


def test_every_setting_was_given_wrong_values():
    from unet.recipe.training_config import Recipe

    recipe = Recipe().to_dict()
    augment = recipe["training"].pop("augment")
    known = {("training", "augment"), *(("training.augment", name) for name in augment)}
    for table in ("network", "training", "labels"):
        known |= {(table, name) for name in recipe[table]}
    assert known == set(SETTINGS)


def checkpoints(folder):
    return sorted(path.name for path in folder.glob("*.training/checkpoint-*"))


def test_a_volume_that_is_damaged_ends_the_training_with_one_line(shell, one_worker, tmp_path):
    cluster = {"--cluster": one_worker.scheduler.address}
    code, _, err = shell(
        {"--volume": "damaged-raw.zarr", **cluster, "--out": str(tmp_path / "w.safetensors")}
    )
    assert code == 1, "the training had begun"
    assert re.match(r"overtile: .*damaged-raw\.zarr, voxels 0:1,\S+: .*Zstd", err.splitlines()[-1])
    assert "Traceback" not in err


def weights_are_numbers(folder):
    (directory,) = folder.glob("*.training")
    state = load_newest(directory)
    return all(bool(tensor.isfinite().all()) for tensor in state.model.values())


def test_a_nan_loss_stops_at_once_names_the_step_and_keeps_the_last_good_checkpoint(
    shell, one_worker, tmp_path
):
    changes = config(
        '[training]\nsteps = 5000\ncheckpoint_every = 1\noptimiser = "sgd"\n'
        'learning_rate = 1e3\ngradient_norm = 0\nschedule = "constant"'
    )
    cluster = {"--cluster": one_worker.scheduler.address}
    code, _, err = shell({**changes, **cluster, "--out": str(tmp_path / "w.safetensors")})
    assert code == 1
    line = err.splitlines()[-1]
    found = re.search(
        r"overtile: .*step (\d+) .*the training stops, (checkpoint-.*?) is kept", line
    )
    assert found, line
    assert int(found[1]) < 1000
    assert checkpoints(tmp_path)[-1] == found[2]
    assert weights_are_numbers(tmp_path)
    assert not (tmp_path / "w.safetensors").exists()


@pytest.fixture(scope="module")
def begun(place, one_worker, tmp_path_factory):
    """Return a folder in which a training came to its end, after four steps."""
    folder = tmp_path_factory.mktemp("begun")
    changes = {"--out": str(folder / "w.safetensors"), "--cluster": one_worker.scheduler.address}
    assert exit_code(changes, place, folder) == 0
    assert checkpoints(folder) == [
        "checkpoint-00000002.safetensors", "checkpoint-00000004.safetensors"
    ]  # fmt: skip
    return folder


OTHER = {
    "the same again": ({}, r"already holds a training \(checkpoint-00000004.*add --resume"),
    "fewer steps": (
        {"--resume": "", "--steps": "3"},
        r"steps \(3\): this training has done 4 of 4 steps and cannot be made shorter; resume with "
        r"--steps 4, or more to make it longer$"),
    "another rate": (
        {"--resume": "", **config("[training]\nlearning_rate = 0.5")},
        r"training\.learning_rate = 0\.001, now it is 0\.5"),
    "another network": (
        {"--resume": "", **config("[network]\nbase_channels = 3")},
        r"network\.base_channels = 2, now it is 3"),
    "another volume": ({"--resume": "", "--volume": "wide.zarr"}, r"data\..* now it is"),
    "other labels": ({"--resume": "", "--labels": "ids.zarr", "--rule": "foreground"}, r"now it"),
    "other slices": ({"--resume": "", "--validation-slices": "4:6"}, r"data\..* now it is"),
    "more ranks than it has patches": (
        {"--resume": "", "--ranks": "2"}, r"2 ranks for a batch of 1"),
}  # fmt: skip


@pytest.mark.parametrize(("changes", "says"), OTHER.values(), ids=OTHER)
def test_a_training_is_not_resumed_as_a_different_one(changes, says, shell, begun):
    before = listing(begun)
    code, out, err = shell({**changes, "--out": str(begun / "w.safetensors")})
    assert (code, out, err.count("\n")) == (2, "", 1), err
    assert re.search(says, err), err
    assert len(err) < 700
    assert listing(begun) == before


@pytest.mark.slow
def test_a_full_disk_costs_only_the_steps_since_the_last_checkpoint(
    begun, place, tmp_path, commands
):
    shutil.copytree(begun / "w.training", tmp_path / "w.training")
    last = tmp_path / "w.training/checkpoint-00000004.safetensors"
    size = last.stat().st_size
    last.unlink()
    changes = {"--out": str(tmp_path / "w.safetensors"), "--resume": ""}
    full = [("faults.inside:files_at_most", {"size": size - 1})]
    ended = commands.start(arguments(changes, tmp_path), folder=place, faults=full).ended()
    assert ended.code == 1
    said = r"step 4 cannot be written .*00002\.safetensors is kept: .*--resume"
    assert re.search(said, ended.last_line)
    assert "Traceback" not in ended.text
    assert checkpoints(tmp_path) == ["checkpoint-00000002.safetensors"]
    assert not [path for path in last.parent.iterdir() if path.name.startswith(".")]
