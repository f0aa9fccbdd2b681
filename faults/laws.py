"""The law of the suite, and what of it can be seen in one command."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from .commands import Ended, Running
from .small import Content, Small

TRACEBACK = re.compile(r"Traceback \(most recent call last\)|^Exception ignored", re.MULTILINE)
MOST_SHOWN = 5


def check_words(ended: Ended, *, codes: Iterable[int] = (0,)) -> None:
    """Raise AssertionError unless a command ended with one of the codes, and without a traceback.

    One that failed, and was not killed, has one line that says why.
    """
    assert ended.code in codes, f"exit code {ended.code}:\n{ended.text[-4000:]}"
    assert not TRACEBACK.search(ended.text), ended.text[-6000:]
    if ended.code > 0:
        assert ended.last_line.startswith("overtile: "), ended.text[-4000:]
        others = [line for line in ended.text.splitlines()[:-1] if line.startswith("overtile: ")]
        assert not others, f"more than one line says why:\n{ended.text[-4000:]}"


def check_alone(running: Running) -> None:
    """Raise AssertionError if a process of a command outlives it."""
    left = running.left()
    assert not left, f"{len(left)} processes outlive the command"


def check_same(small: Small, output: Path, expected: Content) -> None:
    """Raise AssertionError unless an output is that of an undisturbed run, byte by byte."""
    check_content(small.promised(output), expected)


def check_content(found: Content, expected: Content) -> None:
    """Raise AssertionError unless two contents are the same, byte by byte."""
    for what, names in (
        ("missing", expected.keys() - found.keys()),
        ("not in an undisturbed run", found.keys() - expected.keys()),
        ("different", {n for n in expected.keys() & found.keys() if found[n] != expected[n]}),
    ):
        shown = ", ".join(sorted(names)[:MOST_SHOWN])
        assert not names, f"{len(names)} of {len(expected)} files are {what}: {shown}"
