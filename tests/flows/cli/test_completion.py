"""``overtile completion``: the scripts complete in real shells."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess

import pytest

from flows.cli.completion import CLUSTERS, FILES, WEIGHTS, script
from flows.cli.main import COMMANDS, make_parser

COMPLETED = {
    "overtile seg": {"segment"},
    "overtile cluster st": {"start", "status", "stop"},
    "overtile segment in.zarr out.zarr --trav": {"--traversal"},
    "overtile segment in.zarr out.zarr --traversal ": {"auto", "tiles", "sweep"},
    "overtile segment raw": {"raw.tif"},
    "overtile segment in.zarr out.zarr --weights de": {"demo", "depth.txt"},
    "overtile segment in.zarr out.zarr --cluster n": {"night", "noon"},
    "overtile submit segment in.zarr out.zarr --cluster ni": {"night"},
    "overtile cluster stop n": {"noon"},
}
"""Lines up to the cursor, and what TAB offers."""
BASH = """
source "$1"
function=$(complete -p overtile | sed 's/.*-F \\([^ ]*\\).*/\\1/')
shift
COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1))
$function 2>/dev/null
printf '%s\\n' "${COMPREPLY[@]}"
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Return a folder with files, a profile named night and a started cluster named noon."""
    folder = tmp_path_factory.mktemp("place")
    profile = folder / "config/overtile/night.toml"
    started = folder / "state/overtile/clusters/noon/cluster.json"
    for file in (profile, started, folder / "raw.tif", folder / "depth.txt"):
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    return folder


def words_after(command, place):
    """Return the first word of each line that a shell prints in the place."""
    environment = {**os.environ, "XDG_CONFIG_HOME": str(place / "config"),
                   "XDG_STATE_HOME": str(place / "state")}  # fmt: skip
    done = subprocess.run(
        command, cwd=place, env=environment, capture_output=True, text=True, check=True
    )
    return {line.split("\t")[0] for line in done.stdout.splitlines()}


def test_bash_completes_commands_options_choices_files_and_names(place, shell):
    code, out, err = shell("completion", "bash")
    assert (code, err) == (0, "")
    (place / "bash.sh").write_text(out)
    for line, offered in COMPLETED.items():
        words = [*shlex.split(line), *([""] if line.endswith(" ") else [])]
        assert words_after(["bash", "-c", BASH, "-", "bash.sh", *words], place) == offered, line


def test_in_bash_the_name_of_a_file_runs_no_command(tmp_path):
    names = {"config/overtile/{}.toml": "profile", "state/overtile/clusters/{}/cluster.json": "one"}
    for file, word in names.items():
        for name in (f"$(touch ran-{word})", f"`touch ran-{word}`", f"good-{word}"):
            (tmp_path / file.format(name)).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / file.format(name)).touch()
    (tmp_path / "bash.sh").write_text(script(make_parser(), "bash"))
    words = ["overtile", "segment", "in.zarr", "out.zarr", "--cluster", ""]
    offered = words_after(["bash", "-c", BASH, "-", "bash.sh", *words], tmp_path)
    assert {"good-profile", "good-one"} <= offered
    assert not list(tmp_path.glob("ran-*"))


@pytest.mark.skipif(shutil.which("fish") is None, reason="fish is not installed")
def test_fish_completes_the_same(place):
    (place / "overtile.fish").write_text(script(make_parser(), "fish"))
    for line, offered in COMPLETED.items():
        ask = f"source overtile.fish; complete -C {shlex.quote(line)}"
        assert words_after(["fish", "-c", ask], place) == offered, line


@pytest.mark.skipif(shutil.which("zsh") is None, reason="zsh is not installed")
def test_zsh_accepts_its_script(place):
    (place / "_overtile").write_text(script(make_parser(), "zsh"))
    subprocess.run(["zsh", "-n", place / "_overtile"], check=True)


def test_every_value_that_is_a_file_completes_as_one():
    """A new metavar of a positional argument is a name, or among FILES."""
    (commands,) = [one for one in make_parser()._actions if one.choices]
    for name in set(COMMANDS) - {"cluster", "prefect", "submit", "completion"}:
        for action in commands.choices[name]._actions:
            known = action.metavar in FILES | CLUSTERS | {WEIGHTS}
            assert action.option_strings or known, (name, action.metavar)
