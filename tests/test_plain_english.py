"""Plain English: phrases that must not come back, and what to write instead."""

from __future__ import annotations

import functools
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PATTERNS = (
    "README.md", "Makefile", "docs/**/*.md", "pipeline/**/*", "unet/**/*", "deploy/**/*",
    "flows/**/*", "overtile/**/*", "benchmarks/**/*",
)  # fmt: skip
SUFFIXES = {".md", ".py", ".sh", ".sbatch", ".yaml", ".toml", ".html", ""}


@functools.cache
def lines():
    """Return the place and the text of every line of the documents and the code."""
    return [
        (f"{path.relative_to(ROOT)}:{number}", line.strip())
        for pattern in PATTERNS
        for path in sorted(ROOT.glob(pattern))
        if path.is_file() and path.suffix in SUFFIXES
        for number, line in enumerate(path.read_text().splitlines(), 1)
    ]


INSTEAD = {
    r"(?<!there )\b(is|are|was|were) none\b": "is not a …; not found",
    r"(?<![Tt]here )\b(is|are|was|were) no (?!longer\b|more\b|less\b)\w+": "is not a …",
    r"\b(is|are) (not|no) there\b": "does not exist",
    r"\b(go|goes|going|gone|went) on (with|where|as)\b": "resume, continue",
    r"\b(run|job|training|command|it|rest)s? (goes|go|went) on\b": "resumes, continues",
    r"\b(told|tells)\b": "reported, shows, states",
    r"\bwho(ever)? (wants?|finds?|asks?|likes?)\b": "name the user or the process",
    r"\b([Ww]hoever|[Ss]omebody|[Nn]obody)\b": "name the user or the process",
    r"\bof (ours|theirs|yours)\b|\ban? \w+ of (its|their) own\b": "name the owner; separate",
    r"\bwhat (came|comes? out|it comes to|came of it)\b": "name the thing",
    r"\bas it is\b(?! (read|saved|validated|written))": "unchanged",
    r"(: |; |, )(say|give) (a|an|it|at|the|one|how|both|three|two)\b": "expected …; pass …",
    r"\b(say|give) --": "pass --",
    r"\b(gangs?|keepers?|fates?|seats?|doors?)\b":
        "process group, pool, action, rank, entry point",
}  # fmt: skip
"""Regular expressions of lines, and the words to write instead."""


@pytest.mark.parametrize("phrase", INSTEAD)
def test_documents_and_code_are_in_plain_english(phrase):
    pattern = re.compile(phrase)
    found = [f"{place}: {line}" for place, line in lines() if pattern.search(line)]
    assert not found, f"write {INSTEAD[phrase]!r} instead:\n" + "\n".join(found)


def test_all_packages_and_documents_are_checked():
    packages = {place.split(":")[0].split("/")[0] for place, _ in lines()}
    assert {"README.md", "docs", "pipeline", "unet", "deploy", "flows", "benchmarks"} <= packages
    assert len(lines()) > 20_000
