"""`overtile preview`: one picture, in a file and in the terminal; bad input writes nothing."""

from __future__ import annotations

import base64
import io
import os
import pty
import re
import subprocess
import sys
import tty

import numpy as np
import pytest
import zarr
from PIL import Image

from flows.text.terminal_picture import named_protocol, sequence, show_picture


@pytest.fixture
def place(tmp_path, textured, monkeypatch):
    """Return the current folder, with a volume and other files in it."""
    zarr.create_array(tmp_path / "in.zarr", data=textured((3, 60, 50)))
    (tmp_path / "slices").mkdir()
    for z in range(2):
        Image.fromarray(textured((1, 30, 30))[0]).save(tmp_path / f"slices/{z}.png")
    (tmp_path / "notes.png").write_text("no picture")
    Image.fromarray(np.zeros((3, 3), "u1")).save(tmp_path / "mine.png")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_it_writes_one_picture_and_replaces_only_its_own(place, weights, shell):
    before = set(os.listdir())
    for _ in range(2):
        code, out, _ = shell("preview", "in.zarr", "--weights", weights("2d"))
        assert (code, out) == (0, "preview: preview.png\n")
    assert set(os.listdir()) - before == {"preview.png"}
    with Image.open("preview.png") as image:
        assert image.size[0] > 1000
    boxes = ("--box", "0:1,0:20,0:30", "--box", "2:3,10:40,0:50")
    code, _, err = shell(
        "preview", "in.zarr", "--weights", weights("2d"), *boxes, "--out", "two.png"
    )
    assert (code, os.path.exists("two.png")) == (0, True), err


BAD = {
    "a box outside": (("--box", "0:1,0:20,40:51"), r"--box 0:1,0:20,40:51: expected .*0:50"),
    "an empty box": (("--box", "1:1,0:20,0:20"), r"at least one voxel"),
    "a reversed box": (("--box", "1:0,0:20,0:20"), r"ends before it starts"),
    "not a box": (("--box", "here"), r"expected a box as Z0:Z1"),
    "a volume that does not exist": (("INPUT", "gone.zarr"), r"gone\.zarr does not exist"),
    "no weights": (("--weights", "gone.safetensors"), r"gone\.safetensors"),
    "channels for others": (("WEIGHTS", "2d-rgb"), r"weights expect 3"),
    "not a PNG": (("--out", "out.jpg"), r"ends in \.png"),
    "a picture of the user": (("--out", "mine.png"), r"not made by overtile preview"),
    "not a picture": (("--out", "notes.png"), r"not made by overtile preview"),
    "no folder": (("--out", "gone/out.png"), r"gone does not exist"),
    "a URI": (("--out", "s3://bucket/out.png"), r"expected the path of a PNG"),
    "inside the input": (("--out", "in.zarr/out.png"), r"inside the input"),
    "among the slices": (("INPUT", "slices", "--out", "slices/p.png"), r"inside the input"),
    "matching the pattern": (("INPUT", "slices/*.png", "--out", "slices/p.png"), r"inside the in"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_line_and_writes_nothing(case, place, weights, shell):
    words, line = list(BAD[case][0]), BAD[case][1]
    volume, file = "in.zarr", weights("2d")
    if words[0] == "INPUT":
        volume, words = words[1], words[2:]
    elif words[0] == "WEIGHTS":
        file, words = weights(words[1]), words[2:]
    before = {path: path.stat().st_mtime_ns for path in place.rglob("*")}
    given = ["--weights", file, *words] if "--weights" not in words else words
    code, out, err = shell("preview", volume, *given)
    assert (code, out, err.count("\n")) == (2, "", 1), err
    assert re.search(line, err)
    assert {path: path.stat().st_mtime_ns for path in place.rglob("*")} == before


@pytest.mark.parametrize("kind", ["dtype", "zscore"])
@pytest.mark.parametrize("box", [(), ("--box", "0:1,0:9,0:9")], ids=["chosen", "given"])
def test_a_damaged_chunk_is_one_line(box, kind, place, weights, shell):
    for chunk in (place / "in.zarr/c").rglob("*"):
        if chunk.is_file():
            chunk.write_bytes(b"no chunk")
    code, out, err = shell(
        "preview", "in.zarr", "--weights", weights("2d"), "--normalisation", kind, *box
    )
    assert (code, out, err.count("\n")) == (2, "", 1), err
    assert "in.zarr" in err
    assert not (place / "preview.png").exists()


@pytest.mark.parametrize(
    ("environment", "protocol"),
    [
        ({"TERM": "xterm-kitty"}, "kitty"),
        ({"TERM": "xterm-256color", "KITTY_WINDOW_ID": "1"}, "kitty"),
        ({"TERM": "xterm-256color", "TERM_PROGRAM": "WezTerm"}, "kitty"),
        ({"TERM": "xterm-256color", "TERM_PROGRAM": "iTerm.app"}, "iterm2"),
        ({"TERM": "xterm-256color", "LC_TERMINAL": "iTerm2"}, "iterm2"),
        ({"TERM": "screen-256color", "KITTY_WINDOW_ID": "1"}, None),
        ({"TERM": "xterm-kitty", "TMUX": "/tmp/tmux"}, None),
        ({"TERM": "xterm-256color"}, None),
        ({}, None),
    ],
)
def test_a_terminal_is_known_by_its_environment(environment, protocol):
    assert named_protocol(environment) == protocol


def test_the_sequences_of_kitty_and_iterm2_hold_the_picture():
    picture = np.random.default_rng(0).integers(0, 256, (90, 70, 3)).astype(np.uint8)
    kitty = sequence(picture, "kitty")
    pieces = re.findall(r"\x1b_G([^;]*);([^\x1b]*)\x1b\\", kitty)
    assert "".join(f"\x1b_G{keys};{text}\x1b\\" for keys, text in pieces) == kitty
    assert [keys[-3:] for keys, _ in pieces] == ["m=1"] * (len(pieces) - 1) + ["m=0"]
    assert max(len(text) for _, text in pieces) <= 4096
    iterm2 = re.fullmatch(
        r"\x1b\]1337;File=inline=1;size=(\d+):(.*)\x07", sequence(picture, "iterm2")
    )
    texts = ("".join(text for _, text in pieces), iterm2[2])
    for png in map(base64.b64decode, texts):
        np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(png))), picture)
    assert int(iterm2[1]) == len(base64.b64decode(iterm2[2]))


def test_nothing_is_drawn_where_the_output_is_not_a_terminal(monkeypatch, capsys):
    monkeypatch.setenv("TERM", "xterm-kitty")
    assert not show_picture(np.zeros((4, 4, 3), np.uint8))
    assert capsys.readouterr().out == ""


DRAW = """
import numpy as np
from flows.text.terminal_picture import show_picture
print("drawn:", show_picture(np.zeros((6, 6, 3), np.uint8)))
"""


@pytest.mark.parametrize(
    ("answer", "is_drawn"),
    [(b"\x1b[?62;4;22c", True), (b"\x1b[?62;22;44c", False), (b"", False)],
    ids=["sixel", "no sixel", "silent"],
)
def test_a_terminal_is_asked_whether_it_has_sixel_graphics(answer, is_drawn):
    master, terminal = pty.openpty()
    tty.setraw(terminal)
    environment = {**os.environ, "TERM": "xterm"}
    for name in ("TMUX", "STY", "KITTY_WINDOW_ID", "TERM_PROGRAM", "LC_TERMINAL"):
        environment.pop(name, None)
    process = subprocess.Popen(
        [sys.executable, "-c", DRAW], stdin=terminal, stdout=terminal, env=environment
    )
    os.close(terminal)
    shown = b""
    try:
        while piece := os.read(master, 65536):
            if b"\x1b[c" in piece:
                os.write(master, answer)
            shown += piece
    except OSError:  # Linux: the last writer has gone
        pass
    os.close(master)
    assert process.wait(timeout=60) == 0
    assert (b"\x1bPq" in shown) is is_drawn
    assert f"drawn: {is_drawn}".encode() in shown
