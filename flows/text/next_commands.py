"""The commands that repeat a run, for its report."""

from __future__ import annotations

import os
from collections.abc import Sequence

from pipeline.base.redaction import PLACEHOLDER, command_text
from pipeline.base.shell_words import positional
from pipeline.report.report import Command

from ..options.declared import valued, words_of
from ..options.objects import ObjectDefinition, ObjectsOptions
from ..options.segment import SegmentOptions


def commands_after(
    *,
    input: str,  # noqa: A002
    output: str,
    weights: str,
    options: SegmentOptions,
    objects: ObjectDefinition | None,
    cluster: Sequence[str],
) -> tuple[Command, ...]:
    """Return the commands that a report lists, without passwords and signatures in URIs.

    cluster: the options that choose the cluster.
    """
    afresh = options.model_copy(update={"overwrite": False})
    words = [
        positional(input), positional(output), *valued("--weights", weights), *words_of(afresh)
    ]  # fmt: skip
    if objects is not None:
        words += ["--objects", *words_of(objects)]
    return (_repeat(["overtile", "segment", *words, *cluster]),)


def objects_commands_after(
    *, scores: str, output: str, options: ObjectsOptions, cluster: Sequence[str]
) -> tuple[Command, ...]:
    """Return the commands that the report of ``overtile objects`` lists."""
    afresh = options.model_copy(update={"overwrite": False})
    words = [positional(scores), positional(output), *words_of(afresh)]
    return (_repeat(["overtile", "objects", *words, *cluster]),)


def _repeat(words: Sequence[str]) -> Command:
    command = command_text(words)
    note = f" {PLACEHOLDER} stands for what is hidden here." if PLACEHOLDER in command else ""
    text = (
        f"This command, in the folder {os.getcwd()}, made the result. Run again, it computes what "
        f"is missing; with --overwrite, everything.{note}"
    )
    return Command(text=text, command=command)
