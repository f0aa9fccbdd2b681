"""Every bundled weights file is listed, in words and figures that the file confirms."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from unet import read_weights_info
from unet.weights.bundled_models import MODELS
from unet.weights.location import bundled_names


def test_each_bundled_file_has_one_entry():
    assert sorted(model.name for model in MODELS) == bundled_names()


@pytest.mark.parametrize(
    "words",
    [
        ["weights", "list"],
        ["segment", "--weights", "list"],
        ["segment", "in.zarr", "out.zarr", "--weights=list"],
        ["preview", "--weights", "list"],
    ],
)
def test_a_list_of_the_bundled_weights_is_shown_wherever_weights_are_chosen(words, shell):
    code, out, err = shell(*words)
    assert (code, err) == (0, "")
    for model in MODELS:
        info = read_weights_info(model.name)
        assert f"{info.parameters:,} parameters" in out
        assert all(text in out for text in (model.name, model.shows, model.licence, model.scores))


def test_the_list_as_json_has_what_the_files_state(shell):
    code, out, _ = shell("weights", "list", "--json")
    assert code == 0
    for one in json.loads(out):
        info = read_weights_info(one["name"])
        assert one["classes"] == list(info.class_names)
        assert one["size_bytes"] == info.size_bytes


def test_a_file_named_list_is_a_file_where_it_is_an_input(shell):
    code, _, err = shell("segment", "--weights", "demo", "--", "list", "out.zarr")
    assert code == 2
    assert "list" in err


def test_the_contents_of_bundled_weights_begin_with_what_they_are_for(shell):
    code, out, _ = shell("weights", "nuclei-2d")
    assert code == 0
    assert out.startswith("nuclei-2d\n")
    assert "11 to 34 voxels" in out
    assert max(map(len, out.splitlines())) < 500, "the record of 28 volumes is cut short"


def test_a_file_of_a_bundled_name_is_not_described_as_the_bundled_weights(
    shell, weights, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "nuclei-2d").write_bytes(Path(weights("3d")).read_bytes())
    code, out, _ = shell("weights", "nuclei-2d")
    assert code == 0
    assert out.startswith("network ")


@pytest.mark.parametrize("name", [model.name for model in MODELS if "10 nm" in model.shows])
def test_weights_for_one_voxel_size_state_it(name):
    assert read_weights_info(name).voxel_size_um == pytest.approx((0.01, 0.01, 0.01))
