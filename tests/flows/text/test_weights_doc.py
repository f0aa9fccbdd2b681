"""The commands of docs/weights.md: each parses, and its weights exist."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

from flows.cli.main import make_parser
from unet.weights.bundled_models import MODELS

PAGE = (Path(__file__).parents[3] / "docs/weights.md").read_text()
COMMANDS = re.findall(r"(?:^ +|`)overtile ([^`#\n]+)", PAGE, re.MULTILINE)
LIST = "--weights list"
"""Works without the other options, and ends the command before they are parsed."""


def test_every_command_of_the_page_parses():
    complete = [one for one in COMMANDS if " " in one and "…" not in one and LIST not in one]
    assert len(complete) >= 9
    for command in complete:
        make_parser().parse_args(shlex.split(command))


def test_every_bundled_name_in_the_commands_exists_and_the_page_lists_all():
    names = {model.name for model in MODELS}
    found = set(re.findall(r"--(?:weights|from) ([\w-]+)(?![\w.-])", " ".join(COMMANDS)))
    assert {"nuclei-2d", "nuclei-3d"} <= found <= {*names, "list"}
    assert set(re.findall(r"^\| `([\w-]+)` \|", PAGE, re.MULTILINE)) - {"--weights"} == names
