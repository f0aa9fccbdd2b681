"""Results and messages are printed by functions that escape what a name can hold."""

from __future__ import annotations

import ast
from pathlib import Path

import flows

ROOT = Path(flows.__file__).parent
AS_GIVEN = {
    "text/terminal.py": "the functions themselves",
    "cli/completion.py": "code of a shell",
    "cli/prefect.py": "code of a shell",
    "cli/submit.py": "a job script, or numbers of jobs",
    "cli/view.py": "an address made here",
}
"""Files that may print other texts, and which."""


def prints(path):
    """Yield the calls of print in a file, but for those of JSON."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "print":
            first = node.args[0] if node.args else None
            if not (isinstance(first, ast.Call) and ast.unparse(first.func) == "json.dumps"):
                yield node.lineno


def test_only_json_and_what_is_made_here_is_printed_as_it_stands():
    found = {str(path.relative_to(ROOT)): list(prints(path)) for path in ROOT.rglob("*.py")}
    assert {name for name, lines in found.items() if lines} == set(AS_GIVEN)
