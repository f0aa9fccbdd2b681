"""What the documents name exists: files, folders, tests and links."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGES = (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")))
FOLDERS = "pipeline|unet|deploy|flows|overtile|faults|tests|benchmarks|docs"
IN_PROJECT = re.compile(rf"`((?:{FOLDERS})/[\w./-]+)`")
PICTURE = re.compile(r"\b(?:docs/)?pictures/([\w-]+\.\w+)")
MADE = re.compile(r"\b(?:kept|photographed)\([^\n]*?\"([\w-]+\.jpg)\"")
LINK = re.compile(r"\]\(([^)#:\s]+)(?:#[^)]*)?\)")
TEST = re.compile(r"`(test_\w+)`")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_file_and_link_in_a_document_exists(page):
    text = page.read_text()
    named = [ROOT / path for path in IN_PROJECT.findall(text)]
    linked = [page.parent / path for path in LINK.findall(text)]
    assert [str(path) for path in (*named, *linked) if not path.exists()] == []


def test_make_pictures_makes_every_picture_of_the_documents_and_one_page_shows_all():
    """Plots, which are drawings (SVG), are made by the benchmarks that their pages name."""
    made = set(MADE.findall((ROOT / "docs/site/pictures.py").read_text()))
    named = {name for page in PAGES for name in PICTURE.findall(page.read_text())}
    shown = set(PICTURE.findall((ROOT / "docs/screenshots.md").read_text()))
    stored = {path.name for path in (ROOT / "docs/pictures").iterdir()}
    assert len(made) > 8
    assert made == named == shown == stored


def test_pictures_of_the_old_state_are_small_and_stand_beside_those_of_the_present_one():
    page = (ROOT / "docs/screenshots.md").read_text()
    rows = re.findall(
        r"^\| !\[[^]]*\]\(before/([\w-]+\.jpg)\) \| .*\(pictures/", page, re.MULTILINE
    )
    stored = {path.name: path.stat().st_size for path in (ROOT / "docs/before").iterdir()}
    assert len(rows) > 4
    assert set(rows) == set(stored)
    assert sum(stored.values()) < 400_000


def test_every_test_in_the_laws_exists():
    laws = (ROOT / "docs/laws.md").read_text()
    tests = "\n".join(path.read_text() for path in (ROOT / "tests").rglob("test_*.py"))
    missing = [name for name in TEST.findall(laws) if f"def {name}(" not in tests]
    assert missing == []
