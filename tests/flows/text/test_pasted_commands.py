"""Every command that a run prints, or that its reports list, works when pasted into a shell."""

from __future__ import annotations

import html
import re
import subprocess
from pathlib import Path

import pytest
import zarr

NAME = 'it\'s a "test" of $HOME; `ls` & more'
ROOT = Path(__file__).parents[3]
SIZE = {"voxel_size_nm": [300, 100, 100]}


def words_in_bash(command):
    """Return the words that bash passes to overtile."""
    script = f"overtile() {{ printf '%s\\0' \"$@\"; }}; {command}"
    said = subprocess.run(["bash", "-c", script], capture_output=True, check=True).stdout
    return said.decode().split("\0")[:-1]


def listed(report):
    """Return the commands of a report."""
    page = Path(report).read_text()
    return [html.unescape(one) for one in re.findall(r"<code>(.*?)</code>", page, re.DOTALL)]


@pytest.fixture
def folder(tmp_path, weights, textured, monkeypatch, one_worker):
    """Return the current folder, whose name has all that a shell would read."""
    place = tmp_path / NAME
    place.mkdir()
    raw, axes = textured((4, 40, 48)), tuple("zyx")
    zarr.create_array(place / "in 1.zarr", data=raw, dimension_names=axes, attributes=SIZE)
    monkeypatch.chdir(place)
    return place


@pytest.fixture
def pasted(shell):
    """Return a function that runs a command as it was pasted: its words and what it printed."""

    def run(command):
        words = words_in_bash(command)
        code, out, err = shell(*words, *(["--print"] if words[0] == "view" else []))
        assert code == 0, (command, err)
        return words, out + err

    return run


@pytest.mark.parametrize(
    "options",
    [
        pytest.param((), marks=pytest.mark.slow, id="volume"),
        pytest.param(("--per-slice",), id="flat"),
    ],
)
def test_commands_of_a_run_and_of_its_two_reports_repeat_it_open_it_and_export_it(
    options, folder, shell, pasted, weights, one_worker
):
    code, _, err = shell(
        "segment", "in 1.zarr", "out 1.zarr", "--weights", weights("3d"), "--objects",
        "--threshold", "0.05", "--cluster", one_worker.scheduler.address, *options,
    )  # fmt: skip
    assert code == 0, err
    out = folder / "out 1.zarr"
    assert re.findall(r"^(report.*?): (.*)$", err, re.MULTILINE) == [
        ("report", f"{out}/run/report.html"),
        ("report of the objects", f"{out}/labels/objects/run/report.html"),
        ("report of the whole run, now with the objects", f"{out}/run/report.html"),
    ]
    printed = re.findall(r"^look at \w+: (.*)$", err, re.MULTILINE)
    whole, objects = f"{out}/run/report.html", f"{out}/labels/objects/run/report.html"
    commands = [*printed, *listed(whole), *listed(objects)]
    done = [pasted(one) for one in commands if one.startswith("overtile ")]
    assert len(printed) == 2
    export = "outlines" if options else "meshes"
    assert {words[0] for words, _ in done} == {"view", "segment", export}
    assert {words[1] for words, _ in done} <= {"in 1.zarr", str(out), f"{out}/labels/objects"}
    (again,) = (said for words, said in done if words[0] == "segment")
    assert "all by earlier runs" in again
    assert (folder / ("objects.geojson" if options else "objects-meshes")).exists()
    assert 'href="../labels/objects/run/report.html"' in Path(whole).read_text()
    assert 'href="../../../run/report.html"' in Path(objects).read_text()


def test_commands_of_the_report_of_objects_repeat_them_with_their_options(
    folder, shell, pasted, weights, one_worker
):
    address = one_worker.scheduler.address
    where = ("--cluster", address)
    words = ("in 1.zarr", "s 1.zarr", "--weights", weights("3d"), "--outputs", "classes,scores")
    assert shell("segment", *words, *where)[0] == 0
    given = ("--threshold", "0.05", "--min-voxels", "2", "--intensity", "in 1.zarr")
    code, _, err = shell("objects", "s 1.zarr", "o 1.zarr", *given, *where)
    assert code == 0, err
    commands = listed(folder / "o 1.zarr/run/report.html")
    repeat = commands[-1]
    assert words_in_bash(repeat)[:3] == ["objects", "s 1.zarr", "o 1.zarr"]
    assert set(given) <= set(words_in_bash(repeat))
    done = [pasted(one) for one in commands if one.startswith("overtile ")]
    assert {one[0] for one, _ in done} == {"view", "meshes", "objects"}
    assert "now with the objects" not in err


def test_no_message_holds_a_command_whose_words_are_not_quoted():
    """A command with a value from outside is made by `command_text` or `shell_word`."""
    unquoted = re.compile(r"overtile (?!prefect)[a-z-]+( stop)? \{(?!shell_word|VERSION)")
    places = [
        f"{path.relative_to(ROOT)}: {line.strip()}"
        for package in ("pipeline", "unet", "deploy", "flows")
        for path in sorted((ROOT / package).rglob("*.py"))
        for line in path.read_text().splitlines()
        if unquoted.search(line)
    ]
    assert places == []
