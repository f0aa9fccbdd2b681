"""Hostile names of files and classes, through every place where a name goes in or comes out."""

from __future__ import annotations

import html.parser
import json
import re
import shlex
import shutil
import subprocess

import numpy as np
import pytest
import tifffile
import zarr

from flows.options.segment import SegmentOptions
from flows.prefect.run_names import run_name
from flows.text.next_commands import commands_after
from pipeline.base.errors import OvertileError
from pipeline.base.geometry import Box
from pipeline.base.location import Location
from pipeline.base.shell_words import shell_line, shell_word
from pipeline.base.stores import file_system
from pipeline.base.text import printable
from pipeline.output.atomic_file import AtomicFile
from pipeline.report.report import (
    Command,
    LegendEntry,
    Report,
    Table,
    Verdict,
    to_html,
    to_markdown,
)
from pipeline.volume.volume import find_volume, read_box

NAMES = {
    "blanks": "a  b c",
    "quotes": "a'b\"c`d",
    "a substitution": "$(touch pwned);`touch pwned`&&touch pwned|tee pwned",
    "variables": "$HOME ${PATH} ~root",
    "a line break": "a\nb",
    "a tab and an escape": "a\tb\x1b[31m\x07",
    "a dash": "-rf",
    "an option": "--overwrite",
    "255 bytes": "ä" * 125 + ".zarr",
    "look-alikes": "іn․zаrr",
    "marks of direction": "a\u202egpj.exe\u200b",
    "patterns": "[a]*?{b}",
    "percents": "%j%x%s%%{0}{input}",
    "a hash and a query": "a#b?c=d&e",
    "markup": "<img src=x onerror=alert(1)>&amp;",
    "markdown": "[x](y)|*z*_`_",
    "two colons": "a::b",
    "a backslash": "a\\nb\\",
    "dots": "...",
    "a percent escape": "a%2Fb%00",
    "a comma and an equals sign": "a,b=c",
}  # fmt: skip
PRINTABLE = {why: name for why, name in NAMES.items() if name.isprintable()}
GREY = np.arange(6 * 20 * 20, dtype=np.uint8).reshape(6, 20, 20)


def as_argument(name):
    """Return a name as a command takes it: a dash at its start would be an option."""
    return f"./{name}" if name[0] == "-" else name


def names_of(folder):
    return {path.name for path in folder.iterdir()}


def read(location):
    source = find_volume(location)
    return read_box(source, Box.of_shape(source.shape_zyx))


@pytest.mark.parametrize("name", NAMES.values(), ids=NAMES)
def test_an_input_of_any_name_is_read_in_every_format(name, tmp_path):
    folder = tmp_path / name
    zarr.create_array(folder / "v3", data=GREY)
    zarr.create_array(folder / "v2", data=GREY, zarr_format=2)
    (folder / "slices").mkdir()
    for number, plane in enumerate(GREY):
        tifffile.imwrite(folder / f"slices/{number}.tif", plane)
    tifffile.imwrite(folder / "stack.tif", GREY)
    for stored in ("v3", "v2", "slices", "stack.tif", "slices/*.tif"):
        if stored == "slices/*.tif" and set(name) & set("[*?"):  # a pattern itself
            continue
        assert np.array_equal(read(folder / stored)[0], GREY), stored
    array = tmp_path / f"z{name}"[:120]
    zarr.create_array(array, data=GREY)
    assert np.array_equal(read(array)[0], GREY)


@pytest.mark.parametrize("name", NAMES.values(), ids=NAMES)
def test_a_file_of_any_name_is_written_and_no_other_is_touched(name, tmp_path):
    for other in (".a.partial", ".axy{b}.0.partial", "other"):  # the second fits a pattern above
        (tmp_path / other).write_text("kept")
    before = names_of(tmp_path)
    place = Location.parse(tmp_path / name)
    with AtomicFile(place) as file:
        file.write(b"content")
        file.commit()
    assert names_of(tmp_path) == {*before, name}
    assert (tmp_path / name).read_bytes() == b"content"
    system, path = file_system(place)
    assert system.cat_file(path) == b"content"
    system.rm_file(path)
    assert names_of(tmp_path) == before


def test_a_name_survives_the_shell_into_which_it_is_pasted():
    words = [shell_word(name) for name in NAMES.values()]
    assert all(word.isprintable() for word in words)
    script = f"printf '%s\\0' {' '.join(words)}"
    said = subprocess.run(["bash", "-c", script], capture_output=True, check=True).stdout
    assert said.decode().split("\0")[:-1] == list(NAMES.values())


@pytest.mark.parametrize("name", NAMES.values(), ids=NAMES)
def test_the_command_of_a_report_names_the_files_that_were_given(name):
    (command,) = commands_after(
        input=name, output=f"{name}/out", weights=name, options=SegmentOptions(mask=name),
        objects=None, cluster=["--cluster", name],
    )  # fmt: skip
    script = f"overtile() {{ printf '%s\\0' \"$@\"; }}; {command.command}"
    said = subprocess.run(["bash", "-c", script], capture_output=True, check=True).stdout.decode()
    words = said.split("\0")
    assert words[:3] == ["segment", as_argument(name), as_argument(f"{name}/out")]
    assert {f"--weights={name}", name} & set(words[3:])
    assert command.command.isprintable()


class Tags(html.parser.HTMLParser):
    """The tags of a page with their attributes, and its text."""

    def __init__(self, page):
        super().__init__()
        self.tags, self.text = [], ""
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, sorted(name for name, _ in attrs)))

    def handle_data(self, data):
        self.text += data


def page(name):
    row = (name, name)
    return Report(
        title=name, verdict=Verdict(text=name, state="good"), summary=name, key_figures=(row,),
        warnings=(name,), legend=(LegendEntry(name=name, colour=(1, 2, 3), text=name),),
        tables=(Table(title=name, rows=(row,), note=name),),
        folded=(Table(title=name, rows=(row,)),),
        commands=(Command(text=name, command=shell_word(name)),),
    )  # fmt: skip


@pytest.mark.parametrize("name", NAMES.values(), ids=NAMES)
def test_a_name_is_text_in_a_report_and_never_markup(name):
    plain, hostile = Tags(to_html(page("plain"))), Tags(to_html(page(name)))
    assert hostile.tags == plain.tags
    assert (
        hostile.text.count(name.strip()) >= plain.text.count("plain") - 2
    )  # the command is quoted
    written = to_markdown(page(name))
    assert "<img" not in written
    assert not re.search(r"(?<!\\)\[x(?<!\\)\]\(y\)", written)


@pytest.mark.parametrize("name", NAMES.values(), ids=NAMES)
def test_the_name_of_a_flow_run_is_short_and_on_one_line(name):
    made = run_name("segment", f"/data/{name}")
    assert made.isprintable()
    assert made.startswith("segment")
    assert len(made) <= 70


@pytest.mark.parametrize("name", NAMES.values(), ids=NAMES)
def test_a_job_script_runs_the_command_with_the_names_that_were_given(name, place, shell):
    shutil.copytree(place / "in.zarr", place / name)
    shutil.copy(place / "w.safetensors", place / f"w{name}"[:100])
    try:
        code, script, err = shell(
            "submit", "segment", "--dry-run", "--weights", f"w{name}"[:100], "--", name,
            f"out{name}"[:100],
        )  # fmt: skip
    finally:
        shutil.rmtree(place / name)
        (place / f"w{name}"[:100]).unlink()
    if not name.isprintable():
        assert (code, script) == (2, "")
        assert err.rstrip("\n").isprintable()
        assert "control characters" in err
        return
    assert code == 0, err
    (line,) = [line for line in script.splitlines() if line.startswith("run=(")]
    said = subprocess.run(
        ["bash", "-c", f"{line}\nprintf '%s\\0' \"${{run[@]}}\""], capture_output=True, check=True
    ).stdout.decode()
    words = said.split("\0")[:-1]
    assert words[:3] == ["segment", as_argument(name), f"out{name}"[:100]]
    assert "--weights" in words
    _, plain, _ = shell("submit", "segment", "--dry-run", "in.zarr", "o.zarr", "--weights", "demo")
    assert directives_of(script) == directives_of(plain)
    assert not (place / "pwned").exists()


def directives_of(script):
    return [line for line in script.splitlines() if line.startswith("#SBATCH")]


@pytest.mark.parametrize("name", NAMES.values(), ids=NAMES)
def test_a_message_about_a_name_is_one_line_that_can_be_read(name, place, shell, listing):
    before = listing(place)
    weights, short = ("--weights", "w.safetensors"), f"z{name}"[:100]
    for words in (
        ["status", "--", name],
        ["weights", "--", name],
        ["view", "--", name],
        ["convert", "--", name, "out.zarr"],
        ["plan", *weights, "--mask", short, "--", "in.zarr", "o.zarr"],
        ["evaluate", "--json", f"gone/{name}", "--", "in.zarr", "in.zarr"],
        ["preview", *weights, "--out", f"gone/{short}.png", "--", "in.zarr"],
        ["segment", *weights, "--cluster", short, "--", "in.zarr", "o.zarr"],
    ):
        code, out, err = shell(*words)
        assert (code, out) == (2, ""), words
        assert err.startswith("overtile: "), err
        assert err.endswith("\n"), err
        assert err[:-1].isprintable(), err
    assert listing(place) == before


@pytest.mark.parametrize("name", NAMES.values(), ids=NAMES)
def test_a_mask_its_picture_and_a_copy_of_weights_have_the_names_that_were_given(
    name, place, shell, tmp_path
):
    before = names_of(place)
    mask, copy = f"{tmp_path}/{name}", f"{tmp_path}/{f'w{name}'[:120]}"
    picture = tmp_path / f"{name[:100]}p.png"
    code, _, err = shell("mask", "--picture", str(picture), "--", "ramp.zarr", mask)
    assert code == 0, err
    code, out, err = shell("weights", "--voxel-size", "1,1,1", "--out", copy, "--", "w.safetensors")
    assert code == 0, err
    assert printable(out.replace("\n", "")) == out.replace("\n", "")
    assert names_of(tmp_path) == {name, picture.name, copy.rpartition("/")[2]}
    assert names_of(place) == before
    assert read(mask).shape == (1, 6, 20, 20)


def test_names_of_classes_cannot_move_the_cursor(place, shell, present):
    names = json.dumps(["\x1b[2J\x1b[1mok", "a\nb"])
    with present({"metadata": {"x.safetensors": {"class_names": names}}}, place):
        code, out, _ = shell("weights", "x.safetensors")
        planned, plan, _ = shell("plan", "in.zarr", "o.zarr", "--weights", "x.safetensors")
    assert (code, planned) == (0, 0)
    for text in (out, plan):
        assert all(line.isprintable() for line in text.splitlines())
        assert "\\x1b[2J" in text


CHORDS = {
    "words of a shell": "-rf $(touch pwned);`touch pwned` '\" %j #?&",
    "signs of a terminal": "a\nb\t\x1b[2J\u202e<b>|[c]*",
    "a long name": "ä" * 125 + ".zarr",
}  # fmt: skip
"""Names for whole runs, which take a second each."""


@pytest.mark.parametrize("name", CHORDS.values(), ids=CHORDS)
def test_a_run_reads_and_writes_the_names_that_were_given_and_no_others(
    name, place, shell, one_worker, tmp_path, monkeypatch
):
    shutil.copytree(place / "in.zarr", tmp_path / name)
    shutil.copy(place / "w.safetensors", tmp_path / f"w{name}"[:100])
    monkeypatch.chdir(tmp_path)
    before = names_of(tmp_path)
    common = ("--cluster", one_worker.scheduler.address)
    out = f"o{name}"[:120]
    code, said, err = shell(
        "segment", "--weights", f"w{name}"[:100], "--mask", name, *common, "--", name, out
    )
    assert code == 0, err
    assert all(line.isprintable() for line in err.splitlines())
    assert names_of(tmp_path) == {*before, out}
    report = (tmp_path / out / "run/report.html").read_text()
    assert "<b>" not in report
    code, said, err = shell("status", "--", out)
    assert code == 0, err
    assert printable(out) in said
    assert all(line.isprintable() for line in said.splitlines())
    code, _, err = shell("evaluate", "--json", f"j{name}"[:100], *common, "--", out, out)
    assert code == 0, err
    assert names_of(tmp_path) == {*before, out, f"j{name}"[:100]}


@pytest.mark.parametrize("text", ["a\udcff.zarr", "a\0b", "a" * 256, "b/" * 2100])
def test_a_name_that_no_file_can_have_is_refused_before_anything_is_asked(text):
    with pytest.raises(OvertileError) as caught:
        Location.parse(text)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 300


def test_a_name_that_ends_in_a_blank_is_another_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "in.zarr ").mkdir()
    assert Location.parse("in.zarr ").name == "in.zarr "
    assert Location.parse("out.zarr ").name == "out.zarr"


def test_words_of_a_command_are_joined_as_the_shell_reads_them():
    assert shlex.split(shell_line(PRINTABLE.values())) == list(PRINTABLE.values())


@pytest.mark.parametrize("name", CHORDS.values(), ids=CHORDS)
def test_what_a_command_writes_has_the_name_that_was_given(
    name, place, shell, one_worker, tmp_path, monkeypatch
):
    """Of every command that writes, but those of the run above."""
    scores = np.zeros((6, 20, 20), np.uint8)
    scores[1:5, 4:9, 5:15] = 255
    source = f"s{name}"[:100]
    zarr.create_array(tmp_path / source, data=np.stack([255 - scores, scores]))
    zarr.create_array(tmp_path / "labels.zarr", data=(scores > 0).astype("u1"))
    config = '[training]\nsteps = 1\nbatch = 1\npatch = [16, 16]\nprecision = "fp32"\n'
    (tmp_path / "c.toml").write_text(
        f"network = {{ dims = 2, base_channels = 2, levels = 2 }}\n{config}"
    )
    shutil.copytree(place / "ramp.zarr", tmp_path / "in.zarr")
    monkeypatch.chdir(tmp_path)
    before = names_of(tmp_path)
    common = ("--cluster", one_worker.scheduler.address)
    tiff, zarr_, found, flat, shapes, surfaces, weights = (
        f"{letter}2{name[:60]}{end}"
        for letter, end in zip(
            "tzofsmw", (".tif", "", "", "", ".geojson", "", ".safetensors"), strict=True
        )
    )
    for words in (
        ["convert", *common, "--", "in.zarr", tiff],
        ["convert", *common, "--", "in.zarr", zarr_],
        ["objects", "--class", "1", "--csv", *common, "--", source, found],
        ["objects", "--class", "1", "--per-slice", *common, "--", source, flat],
        ["outlines", "--", flat, shapes],
        ["meshes", "--", found, surfaces],
        ["train", "--volume", "in.zarr", "--labels", "labels.zarr", "--config", "c.toml",
         "--out", weights, *common],
    ):  # fmt: skip
        code, out, err = shell(*words)
        assert code == 0, (words, err)
        assert all(line.isprintable() for line in (out + err).splitlines()), words
    training = f"{weights.removesuffix('.safetensors')}.training"
    made = {tiff, zarr_, found, flat, shapes, surfaces, weights, training}
    assert names_of(tmp_path) - before == made
    np.testing.assert_array_equal(read(zarr_)[0], read("in.zarr")[0])
    np.testing.assert_array_equal(tifffile.imread(tiff), read("in.zarr")[0])
    assert json.loads((tmp_path / shapes).read_text())["features"]
    assert (tmp_path / weights).stat().st_size
