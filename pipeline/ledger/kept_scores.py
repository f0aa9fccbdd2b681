"""Scores against a truth, kept beside the ledger of the result, and shown in its report.

``run/scores-NAME.json``, one file per comparison: a repeated one replaces it. Blocks that are
computed later make the scores old; then they are not shown any more.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Any, Final

from ..base.errors import OvertileError
from ..base.json_text import json_value
from ..base.location import Location
from ..base.stores import list_names, read_node
from ..output.guard import RUN_GROUP, read_beside_ledger, write_beside_ledger
from ..report.report import REPORT_FILE, with_scores
from ..report.score_section import ScoreSection
from .progress import blocks_done

_FILE: Final = "scores-{}.json"
_LABELS: Final = "labels"


def keep_scores(
    scored: Location, section: ScoreSection, *, identity: Mapping[str, Any], figures: Any
) -> tuple[Location, ...]:
    """Keep scores with every result that they are about; return the reports that show them.

    scored: what was evaluated; nothing is kept for what overtile did not make. identity: JSON
    values that tell this comparison from others. figures: JSON values for other programs. Raises
    OvertileError where a result cannot be written.
    """
    canonical = json.dumps(identity, sort_keys=True, default=str)
    name = hashlib.sha256(canonical.encode()).hexdigest()[:12]
    reports = []
    for output in _results(scored):
        kept = {"blocks_done": blocks_done(output), "shown": section.to_json(), "figures": figures}
        text = json.dumps(kept, allow_nan=False) + "\n"
        write_beside_ledger(output, _FILE.format(name), text.encode())
        page = read_beside_ledger(output, REPORT_FILE)
        changed = None if page is None else with_scores(page.decode(), read_scores(output))
        if changed is not None:
            write_beside_ledger(output, REPORT_FILE, changed.encode())
            reports.append(output / RUN_GROUP / REPORT_FILE)
    return tuple(reports)


def read_scores(output: Location) -> tuple[ScoreSection, ...]:
    """Return the scores that are kept with a result and belong to the blocks that it has now.

    A file that cannot be read is left out. Raises OutputError for a ledger that cannot be read.
    """
    start, end = _FILE.split("{}")
    names = list_names(output / RUN_GROUP) or ()
    files = [name for name in names if name.startswith(start) and name.endswith(end)]
    if not files:
        return ()
    done, found = blocks_done(output), []
    for name in files:
        with suppress(OvertileError, ValueError, KeyError, TypeError):
            kept = json_value(read_beside_ledger(output, name) or b"{}")
            if kept["blocks_done"] == done:
                found.append(ScoreSection.from_json(kept["shown"]))
    return tuple(found)


def _results(scored: Location) -> Iterator[Location]:
    """Yield the results with a ledger that an evaluation is about: labels, then their image."""
    parent = scored.parent
    image = parent.parent if parent is not None and parent.name == _LABELS else None
    for place in (scored, image):
        run = None if place is None else read_node(place, path=RUN_GROUP)
        if place is not None and run is not None and "job" in run.attributes:
            yield place
