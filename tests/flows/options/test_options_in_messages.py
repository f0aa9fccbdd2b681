"""A message advises only options that the commands which can show it have."""

from __future__ import annotations

import argparse
import ast
import functools
import re
from pathlib import Path

import pipeline
from flows.cli.main import COMMANDS, make_parser

ROOT = Path(pipeline.__file__).parents[1]
SEGMENT = ("segment", "plan", "preflight")
TRAIN, EVALUATE, CONVERT = ("train",), ("evaluate",), ("convert",)
FILES = {"input", "prediction", "scores", "volume"}
"""Names of arguments that take an image."""


@functools.cache
def parsers():
    return next(one for one in make_parser()._actions if hasattr(one.choices, "items")).choices


def actions_of(command):
    return parsers()[command]._actions


READERS = [name for name in COMMANDS if FILES & {one.dest for one in actions_of(name)}]
OBJECTS = ("objects",)
SIZED = (*SEGMENT, "finish", "preview", "objects", "convert", "train")
SHOWN_BY = {
    "flows/demo": ("demo",),
    "flows/preflight": SEGMENT,
    "flows/segmentation": ("segment", "plan", "finish"),
    "flows/text/corrections.py": ("corrections",),
    "flows/text/objects.py": ("objects", "segment"),
    "flows/text/plan.py": ("plan",),
    "flows/text/training_status.py": ("train",),
    "flows/text/verification.py": ("verify",),
    "pipeline/ledger": ("segment", "objects", "plan"),
    "pipeline/objects": OBJECTS,
    "pipeline/objects/meshes": ("meshes",),
    "pipeline/objects/outlines": ("outlines",),
    "pipeline/objects/table/finished.py": ("outlines", "meshes"),
    "pipeline/output": ("segment", "objects", "convert"),
    "pipeline/output/into_input.py": ("segment", "objects"),
    "pipeline/output/viewing.py": ("view",),
    **{f"flows/cli/{name}.py": (name,) for name in COMMANDS},
    "flows/cli/submit_checks.py": ("submit",),
    "flows/cli/train_plan.py": TRAIN,
    "pipeline/volume": READERS,
    "pipeline/volume/intensity.py": (*SEGMENT, *TRAIN),
    "pipeline/volume/fingerprint.py": SEGMENT,
    "pipeline/volume/box_text.py": SEGMENT,
    "pipeline/volume/given_size.py": SIZED,
    "pipeline/volume/size_text.py": SIZED,
    "pipeline/volume/mask.py": SEGMENT,
    "pipeline/volume/labelled.py": TRAIN,
    "pipeline/volume/label_placement.py": TRAIN,
    "pipeline/volume/held_out.py": TRAIN,
    "pipeline/volume/labelled_volumes.py": TRAIN,
    "pipeline/segmentation": SEGMENT,
    "pipeline/planning": SEGMENT,
    "pipeline/models": SEGMENT,
    "pipeline/evaluation": EVALUATE,
    "pipeline/conversion": CONVERT,
    "pipeline/corrections": ("corrections",),
    "pipeline/masking": ("mask",),
    "pipeline/preview": ("preview",),
    "unet/training": TRAIN,
    "unet/recipe": TRAIN,
    "unet/samples": TRAIN,
}
"""Commands that run the code of a folder or module; the longest path that fits counts."""
ELSEWHERE = {
    "flows/cli/finish.py": {"--shard"},  # of segment
    "flows/cli/status.py": {"--merge-only", "--shard"},  # of objects
    "flows/cli/submit.py": {"--workers"},  # it is in the arguments, and refused
    "flows/cli/view.py": {"--plugin"},  # of napari
    "flows/preflight/device.py": {"--format", "--id", "--query-gpu"},  # of nvidia-smi
    "flows/text/corrections.py": {"--from", "--labels", "--since", "--volume", "--weights"},
    "flows/text/objects.py": {"--merge-only"},  # of objects, which label in shares
    "pipeline/corrections": {"--outputs"},  # of segment
    "pipeline/evaluation": {"--outputs"},
    "pipeline/ledger/ledger.py": {"--repair"},  # of verify
    "pipeline/output/documents.py": {"--repair"},  # of verify
    "pipeline/objects": {"--objects", "--outputs"},  # of segment
    "pipeline/objects/outlines/read_outlines.py": {"--overwrite"},  # of objects
    "pipeline/objects/outlines/write_outlines.py": {"--per-slice"},  # of objects
    "pipeline/objects/table/finished.py": {"--objects", "--per-slice"},
    "pipeline/output/guard.py": {"--shard"},  # of segment, to finish
    "pipeline/output/viewing.py": {"--plugin"},  # of napari
}
"""Options of another command, which the message names."""


def options_of(command):
    return {
        text for action in actions_of(command) for text in (*action.option_strings, *_below(action))
    }


def _below(action):
    """Yield the options of the commands below a command."""
    if isinstance(action, argparse._SubParsersAction):
        for sub in action.choices.values():
            for one in sub._actions:
                yield from one.option_strings


def messages():
    """Yield (file, options) for every text in the code that names options."""
    for folder in ("pipeline", "unet", "flows"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            tree = ast.parse(path.read_text())
            docstrings = {
                id(node.body[0].value)
                for node in ast.walk(tree)
                if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef)
                and node.body
                and isinstance(node.body[0], ast.Expr)
            }
            texts = [
                node.value
                for node in ast.walk(tree)
                if isinstance(node, ast.Constant)
                and isinstance(node.value, str)
                and id(node) not in docstrings
            ]
            named = set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", " ".join(texts)))
            if named:
                yield str(path.relative_to(ROOT)), named


@functools.cache
def named():
    return dict(messages())


def commands_of(file):
    fitting = [place for place in SHOWN_BY if file.startswith(place)]
    return SHOWN_BY[max(fitting, key=len)] if fitting else ()


def test_every_command_that_shows_a_message_has_the_options_that_it_names():
    assert [
        f"{file}: overtile {command} has not {option}"
        for file in named()
        for command in commands_of(file)
        for option in sorted(named()[file] - elsewhere(file) - options_of(command))
    ] == []


def elsewhere(file):
    return set().union(*(options for place, options in ELSEWHERE.items() if file.startswith(place)))


def test_the_messages_of_volumes_are_among_them():
    assert "--axes" in named()["pipeline/volume/formats/axes.py"]
    assert "--time" in named()["pipeline/volume/selection.py"]
    assert commands_of("pipeline/volume/formats/tiff.py") == READERS
