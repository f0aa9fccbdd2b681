"""No function is longer than 55 lines, and none takes more than eight parameters."""

from __future__ import annotations

import ast
from pathlib import Path

ROOT = Path(__file__).parent.parent
PACKAGES = ("overtile", "pipeline", "unet", "deploy", "flows")
MOST_LINES, MOST_PARAMETERS = 55, 8


def functions():
    """Yield (place, function) for every function and method of the packages."""
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                    yield f"{path.relative_to(ROOT)}:{node.lineno} {node.name}", node


def parameters_of(function):
    """Return the names of a function's parameters, without ``self`` and ``cls``."""
    given = function.args
    named = [*given.posonlyargs, *given.args, *given.kwonlyargs]
    packed = [argument for argument in (given.vararg, given.kwarg) if argument]
    return [argument.arg for argument in (*named, *packed) if argument.arg not in ("self", "cls")]


def test_no_function_is_longer_than_55_lines():
    sizes = {place: node.end_lineno - node.lineno + 1 for place, node in functions()}
    assert len(sizes) > 1000
    assert {place: size for place, size in sizes.items() if size > MOST_LINES} == {}


def test_no_function_takes_more_than_eight_parameters():
    counts = {place: len(parameters_of(node)) for place, node in functions()}
    assert {place: count for place, count in counts.items() if count > MOST_PARAMETERS} == {}
