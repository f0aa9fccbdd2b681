"""Pages of the site that are made when it is built: the start, one per command, links to code."""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

from flows.cli.examples import EXAMPLES
from flows.cli.main import COMMANDS, make_parser

ROOT = Path(__file__).parents[2]
DECISIONS = ROOT / "docs" / "decisions"
IN_DOCS = re.compile(r"\]\(docs/")
OUTSIDE = re.compile(
    r"\[([^\]]*)\]\((?:\.\./)*((?:benchmarks|deploy|tests|flows|pipeline|unet)/[^)]*)\)"
)


def on_config(config: Any) -> Any:
    """List the pages of folders that the navigation names."""
    below = {
        "reference": [f"reference/{name}.md" for name in COMMANDS],
        "decisions": [f"decisions/{page.name}" for page in sorted(DECISIONS.glob("*.md"))],
    }
    for entry in config.nav:
        for pages in entry.values() if isinstance(entry, dict) else ():
            for number, page in enumerate(pages):
                if page in below:
                    pages[number] = {page.capitalize(): below[page]}
    return config


def on_files(files: Files, config: Any) -> Files:
    """Add the start page, which is the README, and a page for each command."""
    pages = {"index.md": readme(), **dict(commands())}
    for path, text in pages.items():
        files.append(File.generated(config, path, content=text))
    return files


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Name a file of the repository instead of linking to it: the site does not contain it."""
    text = markdown.replace("](../README.md", "](index.md")
    return OUTSIDE.sub(lambda link: f"{link[1]} (`{link[2]}`)", text)


def readme() -> str:
    """Return the README, its links as seen from the pages' folder."""
    return IN_DOCS.sub("](", (ROOT / "README.md").read_text())


def commands() -> Iterator[tuple[str, str]]:
    """Yield path and text of the page of each command."""
    parser = make_parser()
    (choices,) = (
        action.choices
        for action in parser._actions
        if isinstance(action, argparse._SubParsersAction)
    )
    for name, command in choices.items():
        yield f"reference/{name}.md", f"# overtile {name}\n\n{_described(command)}"


def _described(parser: argparse.ArgumentParser) -> str:
    """Return description, options and examples of one command, and of the commands below it."""
    parts = [parser.description or ""]
    if parser.prog in EXAMPLES:
        parts.append(f"```text\n{EXAMPLES[parser.prog].strip()}\n```")
    below = [a for a in parser._actions if isinstance(a, argparse._SubParsersAction)]
    for group in parser._action_groups:
        rows = [_row(action) for action in group._group_actions if action not in below]
        rows = [row for row in rows if row]
        if rows:
            parts.append(
                f"## {(group.title or '').capitalize()}\n\n| | |\n|---|---|\n" + "\n".join(rows)
            )
    for action in below:
        for name, command in action.choices.items():
            parts.append(f"## {name}\n\n" + _described(command).replace("\n## ", "\n### "))
    return "\n\n".join(parts) + "\n"


def _row(action: argparse.Action) -> str:
    if action.help == argparse.SUPPRESS or isinstance(action, argparse._HelpAction):
        return ""
    names = ", ".join(action.option_strings)
    values = "" if action.nargs == 0 else _values(action)
    text = (action.help or "") % {**vars(action), "prog": ""}
    cells = (f"`{names} {values}`".replace("` ", "`"), text)
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |".replace(
        "\n", " "
    )


def _values(action: argparse.Action) -> str:
    if action.metavar:
        return action.metavar if isinstance(action.metavar, str) else " ".join(action.metavar)
    if action.choices:
        return "{" + ",".join(map(str, action.choices)) + "}"
    return action.dest.upper()
