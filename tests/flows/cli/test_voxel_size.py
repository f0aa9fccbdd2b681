"""``--voxel-size`` of every command that has it: a line names what is used, or what is wrong."""

from __future__ import annotations

import json
import re
import shlex
import shutil

import pytest
import tifffile

from flows.cli.arguments import read_options
from flows.cli.main import make_parser
from flows.options.declared import words_of
from flows.options.segment import SegmentOptions
from flows.segment_volume import segment_volume
from pipeline.base.location import Location
from pipeline.viewing.layers import find_view
from pipeline.volume.micrometres import voxel_size_um
from pipeline.volume.volume import find_volume

USED = (
    "voxel size: 0.5 × 0.2 × 0.2 µm (z, y, x), by --voxel-size; the file states "
    "1 × 1 × 1 without a unit"
)
SIZED = ("--voxel-size", "500,200,200nm")


@pytest.fixture(scope="module")
def place(tmp_path_factory, textured, weights):
    """A folder with a stack that states no voxel size, and weights that state that of theirs."""
    folder = tmp_path_factory.mktemp("sized")
    tifffile.imwrite(folder / "in.tif", textured((3, 40, 36)), photometric="minisblack",
                     metadata={"axes": "ZYX"})  # fmt: skip
    shutil.copy(weights("2d", voxel_size_um=[0.2, 0.2]), folder / "w.safetensors")
    return folder


@pytest.fixture
def run(place, shell, monkeypatch):
    """Return a function that runs a command in the place: code, output, lines of the error."""
    monkeypatch.chdir(place)
    for name in ("XDG_CONFIG_HOME", "XDG_STATE_HOME"):
        monkeypatch.setenv(name, str(place.parent / "home"))

    def command(*argv):
        code, out, err = shell(*argv)
        return code, out, err.splitlines()

    return command


def sizes_lines(lines):
    return [line for line in lines if line.startswith("voxel size")]


def test_a_segmentation_names_the_size_once_and_writes_it(run, place, one_worker):
    argv = ("in.tif", "out.zarr", "--weights", "w.safetensors", "--objects", "--class", "1",
            "--cluster", one_worker.scheduler.address)  # fmt: skip
    code, _, lines = run("segment", *argv, *SIZED)
    assert code == 0, lines
    assert sizes_lines(lines) == [USED]
    assert not [line for line in lines if "voxel size" in line and line.startswith("note")]
    for path in ("out.zarr", "out.zarr/labels/classes", "out.zarr/labels/objects"):
        assert voxel_size_um(find_volume(str(place / path), holds="anything")) == (0.5, 0.2, 0.2)
    output, raw = (Location.parse(str(place / name)) for name in ("out.zarr", "in.tif"))
    for view in (find_view(output), find_view(output, raw)):
        assert {voxel_size_um(layer.source) for layer in view.layers} == {(0.5, 0.2, 0.2)}
    code, _, lines = run("segment", *argv)
    assert (code, len(lines)) == (2, 1)
    assert "voxel_size_um was 0.5,0.2,0.2, now as in the file" in lines[0]


def test_a_plan_states_the_size_and_its_origin(run):
    argv = ("plan", "in.tif", "new.zarr", "--weights", "w.safetensors")
    shown = run(*argv, *SIZED)[1]
    used = re.escape(USED.removeprefix("voxel size: "))
    assert re.search(rf"^voxel size +{used}$", shown, re.M)
    assert "training" not in shown
    planned = json.loads(run(*argv, *SIZED, "--json")[1])
    assert planned["voxel_size"] == [0.5, 0.2, 0.2]
    assert planned["voxel_size_unit"] == ["micrometer"] * 3
    assert planned["voxel_size_from"] == "option"
    silent = run(*argv)[1]
    assert re.search(r"^voxel size +unknown \(the file states 1 × 1 × 1 without", silent, re.M)
    assert "note: the volume states no voxel size in µm: pass it as --voxel-size, or" in silent
    other = run(*argv, "--voxel-size", "0.5,1,1")[1]
    assert "note: the voxel size, 1×1 µm, differs from that of the training, 0.2×0.2 µm" in other


def test_a_preview_names_the_size_and_judges_by_it(run, place):
    argv = ("preview", "in.tif", "--weights", "w.safetensors", "--box", "0:1,0:20,0:20")
    assert USED in run(*argv, *SIZED)[2]
    lines = run(*argv, "--voxel-size", "0.5,1,1")[2]
    assert [line for line in lines if "differs from that of the training" in line]


def test_a_conversion_writes_the_size(run, place, one_worker):
    cluster = ("--cluster", one_worker.scheduler.address)
    code, _, lines = run("convert", "in.tif", "sized.tif", *SIZED)
    assert (code, sizes_lines(lines)) == (0, [USED])
    found = voxel_size_um(find_volume(str(place / "sized.tif")))
    assert found == pytest.approx((0.5, 0.2, 0.2))
    code, _, lines = run("convert", "in.tif", "sized.zarr", *SIZED, *cluster)
    assert (code, sizes_lines(lines)) == (0, [USED])
    assert voxel_size_um(find_volume(str(place / "sized.zarr"))) == (0.5, 0.2, 0.2)
    code, _, lines = run("convert", "in.tif", "sized.zarr", *cluster)
    assert (code, len(lines)) == (2, 1)
    assert "voxel_size_um was 0.5,0.2,0.2, now as in the file" in lines[0]


def test_a_job_gets_the_size(run):
    words = ("in.tif", "job.zarr", "--weights", "w.safetensors", *SIZED, "--dry-run")
    code, script, lines = run("submit", "segment", *words)
    assert code == 0, lines
    (line,) = [line for line in script.splitlines() if line.startswith("run=(")]
    sent = shlex.split(line.removeprefix("run=(").removesuffix(")"))
    assert sent[sent.index("--voxel-size") + 1] == "0.5,0.2,0.2"


def test_the_form_takes_the_size_among_the_advanced_settings():
    form = segment_volume.parameters.model_dump()
    field = form["definitions"]["SegmentOptions"]["properties"]["voxel_size_um"]
    assert field["title"] == "Voxel size in µm"
    assert [kind["type"] for kind in field["anyOf"]] == ["array", "null"]
    sent = SegmentOptions(voxel_size_um=[0.5, 0.2, 0.2])
    assert sent.request(input="in.tif", output="out.zarr").voxel_size_um == (0.5, 0.2, 0.2)
    parsed = make_parser(["segment"]).parse_args(
        ["segment", "in.tif", "out.zarr", "--weights", "w", *words_of(sent)]
    )
    assert read_options(SegmentOptions, parsed) == sent


WRONG = {
    "0,1,1": "a size of 0 µm: expected sizes from 0.001 nm to 1 m",
    "-1,1,1": "a size of -1 µm: expected sizes from 0.001 nm to 1 m",
    "nan,1,1": "a size of nan µm: expected sizes from 0.001 nm to 1 m",
    "1,1,inf": "a size of inf µm: expected sizes from 0.001 nm to 1 m",
    "2,2,2000mm": "a size of 2e+06 µm: expected sizes from 0.001 nm to 1 m",
    "1um": "1 size: expected three, as Z,Y,X, or two of a 2-D image, as Y,X",
    "1,1,1,1": "4 sizes: expected three, as Z,Y,X, or two of a 2-D image, as Y,X",
    "1,1,1cm": "unknown unit cm: expected nm, um or mm, as 50,4,4nm",
    "1,1,1 pixel": "unknown unit pixel: expected nm, um or mm, as 50,4,4nm",
    "1;1;1": "expected numbers as Z,Y,X or Y,X and one unit, as 50,4,4nm",
    "1um,1um,1um": "expected numbers as Z,Y,X or Y,X and one unit, as 50,4,4nm",
    "a,b,c": "expected numbers as Z,Y,X or Y,X and one unit, as 50,4,4nm",
    "": "expected numbers as Z,Y,X or Y,X and one unit, as 50,4,4nm",
}


@pytest.mark.parametrize("text", WRONG)
def test_each_wrong_size_has_its_line(text, run):
    for command in ("segment", "convert", "objects", "preview"):
        weights = ("--weights", "w.safetensors") if command in ("segment", "preview") else ()
        output = () if command == "preview" else ("x.zarr",)
        code, out, lines = run(command, "in.tif", *output, *weights, "--voxel-size", text)
        assert (code, out) == (2, "")
        assert lines == [
            f"overtile: argument --voxel-size: {text!r}: {WRONG[text]}; see overtile {command} "
            "--help"
        ]


@pytest.mark.parametrize(
    ("text", "sizes_um"),
    [
        ("0.5,0.2,0.2", (0.5, 0.2, 0.2)),
        ("50,4,4nm", (0.05, 0.004, 0.004)),
        ("50, 4, 4 nm", (0.05, 0.004, 0.004)),
        ("1e-3,2,2um", (0.001, 2.0, 2.0)),
        ("0.2,0.2µm", (0.2, 0.2)),
        (".5,.5 mm", (500.0, 500.0)),
    ],
)
def test_a_size_is_read_in_its_unit(text, sizes_um):
    words = ["segment", "a", "b", "--weights", "w", "--voxel-size", text]
    assert make_parser(["segment"]).parse_args(words).voxel_size_um == sizes_um


def test_a_flat_image_takes_two_sizes_or_three_of_voxels_and_of_blocks(run, place):
    tifffile.imwrite(place / "flat.tif", tifffile.imread(place / "in.tif")[0])
    argv = ("plan", "flat.tif", "new.zarr", "--weights", "w.safetensors")
    plans = [
        run(*argv, "--voxel-size", size, "--block", block, "--tile", block, "--json")
        for size, block in (("0.2,0.2", "16,20"), ("9,0.2,0.2", "1,16,20"))
    ]
    assert plans[0] == plans[1]
    code, out, _ = plans[0]
    assert code == 0
    assert json.loads(out)["voxel_size"][1:] == [0.2, 0.2]
    assert json.loads(out)["block"] == [1, 16, 20]
    for number, size in enumerate(("0.2,0.2", "9,0.2,0.2")):
        copy = f"{number}.safetensors"
        assert run("weights", "w.safetensors", "--voxel-size", size, "--out", copy)[0] == 0
    assert (place / "0.safetensors").read_bytes() == (place / "1.safetensors").read_bytes()


def test_sizes_along_other_axes_are_refused_before_anything_is_written(run, place):
    before = sorted(place.iterdir())
    for command in ("segment", "plan", "preview", "convert"):
        weights = () if command == "convert" else ("--weights", "w.safetensors")
        output = () if command == "preview" else ("x.zarr",)
        code, out, lines = run(command, "in.tif", *output, *weights, "--voxel-size", "1,1")
        assert (code, out) == (2, "")
        assert lines == ["overtile: --voxel-size 1,1: expected 3 sizes, along z, y, x"]
    assert sorted(place.iterdir()) == before
