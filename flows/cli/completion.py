"""``overtile completion``: prints a script that completes commands in bash, zsh or fish.

shtab makes the script from the parser, so that pressing TAB starts no Python.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from typing import Any

SHELLS = ("bash", "zsh", "fish")
FILES = frozenset({
    "DIR", "FILE", "FILE.toml", "FOLDER", "IMAGE", "INPUT", "MASK", "OBJECTS", "OTHER",
    "OUT.geojson", "OUTPUT", "PNG", "PREDICTION", "RAW", "SCORES", "TRUTH", "URI", "WEIGHTS",
    "auto|off|FOLDER",
})  # fmt: skip
"""Metavars of files and folders."""
WEIGHTS = "FILE|URI|NAME"
CLUSTERS = frozenset({"WHERE", "PROFILE|FILE.toml", "PROFILE|FILE.toml|KIND"})
# Files by any other name are left out: bash expands the words once more.
_PROFILES = """sh -c 'cd "${XDG_CONFIG_HOME:-$HOME/.config}/overtile" 2>/dev/null && \
for file in *.toml; do case "$file" in *[!A-Za-z0-9._-]*) continue;; esac; \
test -f "$file" && echo "${file%.toml}"; done; true'"""
_STARTED = """sh -c 'cd "${XDG_STATE_HOME:-$HOME/.local/state}/overtile/clusters" 2>/dev/null && \
for file in */cluster.json; do case "${file%/*}" in *[!A-Za-z0-9._-]*) continue;; esac; \
test -f "$file" && echo "${file%/*}"; done; true'"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``overtile completion``."""
    parser.description = (
        "Print a script that completes commands, options, choices, files, bundled weights, and "
        "the names of profiles and started clusters. Write it where the shell looks for it, then "
        "start a new shell; write it again after an update of overtile."
    )
    parser.epilog = "zsh finds the script if a folder of its fpath contains it, before compinit."
    parser.add_argument("shell", metavar="SHELL", choices=SHELLS, help=", ".join(SHELLS))


def run(options: argparse.Namespace) -> None:
    """Print the script."""
    from .main import make_parser

    print(script(make_parser(), options.shell))


def script(parser: argparse.ArgumentParser, shell: str) -> str:
    """Return the script that completes the commands of a parser in one of SHELLS."""
    import shtab

    for action in _actions(parser):
        if (how := _how(action)) is not None:
            action.complete = shtab.FILE if how == "files" else how  # type: ignore[attr-defined]
    made: str = shtab.complete(parser, shell)
    return made


def _actions(parser: argparse.ArgumentParser) -> Iterator[argparse.Action]:
    """Yield the arguments of all commands."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for sub in action.choices.values():
                yield from _actions(sub)
        else:
            yield action


def _how(action: argparse.Action) -> Any:
    """Return how a value is completed: as files, as shtab's functions by shell, or not at all."""
    if action.dest in ("weights", "start_from"):
        from unet.weights.location import bundled_names

        return _names("weights_or_files", *bundled_names(), with_files=True)
    if action.metavar in CLUSTERS:
        from deploy.clusters.spec import STARTED_KINDS

        return _names("clusters", *STARTED_KINDS, lists=(_PROFILES, _STARTED))
    if action.metavar == "NAME":
        return _names("started_clusters", lists=(_STARTED,))
    return "files" if action.metavar in FILES else None


def _names(
    function: str, *words: str, lists: tuple[str, ...] = (), with_files: bool = False
) -> dict[str, Any]:
    """Return a completion of words, of the output of commands, and of files where it says so."""
    name, known = f"_overtile_{function}", " ".join(words)
    outputs = " ".join(f"$({command})" for command in lists)
    files = {"bash": 'compgen -f -- "$1"', "zsh": "_files",
             "fish": "__fish_complete_path (commandline -ct)"} if with_files else {}  # fmt: skip
    printed = "; ".join([f"string join \\n -- {known}", *lists][0 if known else 1 :])
    return {
        "bash": name,
        "zsh": name,
        "fish": f"({name})",
        "preamble": {
            "bash": f'{name}() {{\n  compgen -W "{known} {outputs}" -- "$1"\n'
            f"  {files.get('bash', 'true')}\n}}",
            "zsh": f"{name}() {{\n  compadd -- {known} {outputs}\n  {files.get('zsh', 'true')}\n}}",
            "fish": f"function {name}\n  {printed}\n  {files.get('fish', 'true')}\nend",
        },
    }
