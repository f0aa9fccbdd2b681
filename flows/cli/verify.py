"""``overtile verify``: checks the files of an output against the digests of its ledger."""

from __future__ import annotations

import argparse
import json
from typing import TYPE_CHECKING

from pipeline.base.text import printable

from ..text.terminal import Counter, say, show

if TYPE_CHECKING:
    from pipeline.verification.finding import Verification


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``overtile verify``."""
    parser.description = (
        "Check the files of an output against the digests of its ledger, with those of the objects "
        "inside it. Exits with 0 if all is well, with 1 if something is missing, torn or changed."
    )
    parser.add_argument("output", metavar="OUTPUT", help="output of a run: a path or s3://…")
    parser.add_argument(
        "--repair", action="store_true",
        help="mark what is damaged, and what was made from it, as not done",
    )  # fmt: skip
    parser.add_argument("--json", action="store_true", help="print the result as JSON")


def run(options: argparse.Namespace) -> None:
    """Check an output. Raises RunError if something is missing, torn or changed."""
    from pipeline.base.errors import OutputError, RunError
    from pipeline.base.location import Location
    from pipeline.verification.verify import check_no_run, ledgers_in, verify_output

    from ..text.verification import damage_text, lines_of

    output = Location.parse(options.output, kind=OutputError)
    places = ledgers_in(output)
    for place in places:
        check_no_run(place, notify=say)
    results = [verify_output(place, on_cell=Counter("blocks and shards")) for place in places]
    repaired = _repair(results) if options.repair else None
    if options.json:
        marked = None if repaired is None else [count for count, _ in repaired]
        found = [result.to_json() for result in results]
        print(json.dumps({"verified": found, "marked": marked}, indent=2))
    else:
        for result in results:
            for line in lines_of(result):
                show(printable(line))
    if damage := damage_text(results, repaired):
        raise RunError(damage)


def _repair(results: list[Verification]) -> list[tuple[int, Verification]]:
    """Mark what is damaged; return how many blocks of which output are to be computed again."""
    from pipeline.verification.repair import repair_objects_of, repair_output

    first, *inside = results
    marked = [(repair_output(first), first)] if first.findings else []
    for objects in inside:
        if repair_objects_of(first):
            marked.append((objects.done, objects))
        elif objects.findings:
            marked.append((repair_output(objects), objects))
    return marked
