"""The shell's commands one by one: their text and JSON output."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from flows.cli.main import COMMANDS
from unet import read_weights_info


@pytest.mark.parametrize("command", [None, *COMMANDS])
def test_the_help_of_every_command_lists_its_options(command, shell):
    code, out, err = shell(*([command] if command else []), "--help")
    assert (code, err) == (0, "")
    assert out.startswith("usage: overtile")
    wanted = {
        None: [*COMMANDS, "Exit codes: 0 done; 1 failed"],
        "segment": ["INPUT", "OUTPUT", "--weights", "--level", "--channel", "--outputs", "--block",
                    "--scores-dtype", "--cluster", "--workers", "--tile", "--precision", "--tta",
                    "--engine", "--format", "--overwrite"],
        "plan": ["--json", "--weights", "--block"],
        "train": ["--volume", "--labels", "--validation-slices", "--preset", "--ranks", "--resume"],
        "corrections": ["OUTPUT", "--out", "--apply", "--overwrite", "--json"],
        "convert": ["INPUT", "OUTPUT", "--labels", "--shard", "--chunk", "--cluster"],
        "evaluate": ["PREDICTION", "TRUTH", "--objects", "--scores", "--json"],
        "view": ["OUTPUT", "RAW", "--napari", "--print", "--port"],
        "weights": ["--json"],
        "demo": ["--directory"],
        "completion": ["SHELL", "bash, zsh, fish"],
        "mask": ["INPUT", "MASK", "--tissue", "--method", "--closing", "--margin", "--overwrite"],
        "preview": ["INPUT", "--weights", "--box", "--out", "--level", "--tta"],
        "objects": ["SCORES", "OUTPUT", "--class", "--threshold", "--cluster"],
        "outlines": ["OBJECTS", "OUT.geojson", "--image", "--name", "--overwrite"],
        "meshes": ["OBJECTS", "FOLDER", "--ids", "--format", "--most-voxels", "--overwrite"],
        "preflight": ["INPUT", "--cluster", "--weights", "--json"],
        "submit": ["segment", "objects"],
        "status": ["OUTPUT", "--json"],
        "verify": ["OUTPUT", "--repair", "--json"],
        "finish": ["OUTPUT", "--weights", "--cluster"],
        "cluster": ["start", "status", "stop"],
        "prefect": ["up", "status", "env", "down"],
    }[command]  # fmt: skip
    assert [word for word in wanted if word not in out] == []


def test_the_help_of_finish_calls_its_output_existing(shell):
    _, out, _ = shell("finish", "--help")
    assert "output of segment --shard, to complete" in out
    assert "to create" not in out


def test_no_command_at_all_shows_the_help_as_an_error(shell):
    code, out, err = shell()
    assert (code, out) == (2, "")
    assert err == shell("--help")[1]
    code, out, err = shell("cluster")
    assert (code, out) == (2, "")
    assert err == shell("cluster", "--help")[1]


TYPING_ERRORS = {
    ("segmnt",): "unknown command 'segmnt' (did you mean segment?); see overtile --help",
    ("cluster", "strat"): "'strat' (did you mean start?); see overtile cluster --help",
    ("segment", "a", "b", "--wieghts", "w"):
        "arguments: --wieghts (did you mean --weights?); see overtile segment --help",
    ("submit", "objects", "a", "b", "--min_voxels=3"):
        "--min_voxels (did you mean --min-voxels?); see overtile submit objects --help",
    ("plan", "a", "b", "--weights", "w", "--tta", "rotation"):
        "(did you mean rotations?); see overtile plan --help",
    ("weights", "demo", "more"): "arguments: more; see overtile weights --help",
    ("--verison",): "--verison (did you mean --version?); see overtile --help",
}  # fmt: skip


@pytest.mark.parametrize("argv", TYPING_ERRORS, ids=" ".join)
def test_a_typing_error_is_answered_with_the_nearest_name_and_the_help_of_its_command(argv, shell):
    code, out, err = shell(*argv)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert err.endswith(f"{TYPING_ERRORS[argv]}\n")


@pytest.mark.parametrize("redirection", [">/dev/full", "| true", ">&-"])
def test_an_output_that_cannot_be_written_costs_no_traceback(redirection):
    command = f"{sys.executable} -P -m flows.cli weights demo {redirection}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)
    full = "overtile: OSError: [Errno 28] No space left on device\n"
    assert done.stderr == (full if "full" in redirection else "")
    assert done.returncode == (1 if "full" in redirection else 0)


def test_every_help_fits_80_columns(shell, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    for command in COMMANDS:
        _, out, _ = shell(command, "--help")
        assert max(map(len, out.splitlines())) <= 80


def test_version_is_the_installed_one(shell):
    from importlib.metadata import version

    assert shell("--version") == (0, f"overtile {version('overtile')}\n", "")


def test_weights_copies_a_file_with_a_voxel_size(weights, shell, tmp_path):
    new = tmp_path / "new.safetensors"
    code, out, _ = shell("weights", weights("3d"), "--voxel-size", "50,4,4nm", "--out", str(new))
    assert code == 0
    assert "0.05×0.004×0.004 µm" in out
    assert read_weights_info(new).voxel_size_um == (0.05, 0.004, 0.004)
    for wrong, line in (
        (("--voxel-size", "1,1,1"), "--voxel-size and --out belong together"),
        (("--out", str(tmp_path / "x")), "--voxel-size and --out belong together"),
        (("--voxel-size", "1,1", "--out", str(tmp_path / "x")), "expected 3 sizes above 0"),
        (("--voxel-size", "1,1,1km", "--out", str(tmp_path / "x")), "unknown unit km: expected nm"),
        (("--voxel-size", "1,1,1", "--out", str(new)), "exists already"),
    ):
        code, out, err = shell("weights", weights("3d"), *wrong)
        assert (code, out, err.count("\n")) == (2, "", 1)
        assert line in err
    assert not (tmp_path / "x").exists()


def test_weights_shows_the_contents_of_a_weights_file(weights, shell):
    file = weights(
        "3d-anisotropic", class_names=["background", "membrane", "vesicle"],
        provenance={"data": "made up", "steps": 3},
    )  # fmt: skip
    info = read_weights_info(file)
    code, text, err = shell("weights", file)
    assert (code, err) == (0, "")
    for words in ("3-D, 3 levels", "0 background, 1 membrane, 2 vesicle", info.digest, "made up",
                  f"{info.parameters:,} parameters", '"kind": "range"'):  # fmt: skip
        assert words in text
    code, out, err = shell("weights", file, "--json")
    assert (code, err) == (0, "")
    told = json.loads(out)
    assert told["digest"] == info.digest
    assert told["halo"] == list(info.config.halo)
    assert told["divisor"] == list(info.config.divisor)
    assert told["class_names"] == ["background", "membrane", "vesicle"]
    assert told["normalisation"] == {"kind": "range", "low": 0, "high": 255}
    assert told["provenance"] == {"data": "made up", "steps": 3}
    assert told["config"] == json.loads(json.dumps(info.config.to_dict()))


def test_weights_shows_layers_for_which_the_tiled_result_differs(tmp_path, shell):
    import torch

    from unet import UNet, UNetConfig, save_weights

    torch.manual_seed(0)
    model = UNet(UNetConfig(dims=3, base_channels=4, levels=2, norm="instance"))
    save_weights(model, tmp_path / "w.safetensors")
    _, text, _ = shell("weights", str(tmp_path / "w.safetensors"))
    assert "the tiled result differs" in text


def test_bundled_weights_have_a_name_and_a_provenance(shell):
    code, out, _ = shell("weights", "demo", "--json")
    assert code == 0
    assert json.loads(out)["provenance"]
