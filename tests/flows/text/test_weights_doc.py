"""The commands of docs/weights.md: each parses, and its weights exist."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

from flows.cli.main import make_parser
from unet.weights.bundled_models import MODELS

PAGE = (Path(__file__).parents[3] / "docs/weights.md").read_text()
COMMANDS = re.findall(r"(?:^ +|`)overtile ([^`#\n]+)", PAGE, re.MULTILINE)


def test_every_command_of_the_page_parses():
    complete = [command for command in COMMANDS if "…" not in command]
    assert len(complete) >= 9
    for command in complete:
        make_parser().parse_args(shlex.split(command))


def test_every_bundled_name_in_the_commands_is_in_the_list_and_the_reverse():
    names = {model.name for model in MODELS}
    found = set(re.findall(r"--(?:weights|from) ([\w-]+)(?![\w.])", " ".join(COMMANDS)))
    assert found - {"list"} <= names
    assert set(re.findall(r"^\| `([\w-]+)` \|", PAGE, re.MULTILINE)) == names
