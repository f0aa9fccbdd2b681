"""``overtile corrections``: creates a volume to paint in, lists what is painted, applies it."""

from __future__ import annotations

import argparse
import json

from pipeline.base.text import printable

from ..options.corrections import CorrectionsFiles, CorrectionsOptions
from ..text.terminal import Counter, show
from .arguments import add_options, read_options


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``overtile corrections``."""
    parser.description = (
        "Create a volume beside an output, in which a person paints the true classes of some "
        "voxels, or list what is painted there. Painted voxels are never changed."
    )
    add_options(parser, CorrectionsFiles, CorrectionsOptions)
    parser.add_argument("--json", action="store_true", help="print the result as JSON")


def run(options: argparse.Namespace) -> None:
    """Create corrections, or list or apply them. Raises kinds of OvertileError, RunError."""
    from pipeline.base.errors import OutputError
    from pipeline.base.location import Location
    from pipeline.corrections.apply import apply_corrections
    from pipeline.corrections.create import beside, create_corrections, find_corrections
    from pipeline.corrections.painted import count_painted
    from pipeline.corrections.segmented import find_segmented

    from ..text.corrections import applied_lines, corrections_json, created_lines, painted_lines

    parameters = read_options(CorrectionsOptions, options)
    segmented = find_segmented(Location.parse(options.output, kind=OutputError))
    out = parameters.out
    place = Location.parse(out, kind=OutputError) if out else beside(segmented.output)
    corrections = find_corrections(place, segmented)
    painted = applied = None
    if corrections is not None:
        painted = count_painted(corrections, segmented, on_chunk=Counter("chunks"))
    if parameters.apply is not None:
        if corrections is None or painted is None:
            raise OutputError(
                f"{place} does not exist: create it with overtile corrections, and paint in it "
                "before --apply"
            )
        applied = apply_corrections(
            segmented, corrections, Location.parse(parameters.apply, kind=OutputError),
            painted=painted, overwrite=parameters.overwrite, on_block=Counter("blocks"),
        )  # fmt: skip
    elif corrections is None:
        create_corrections(place, segmented)
    if options.json:
        print(json.dumps(corrections_json(place, segmented, painted, applied), indent=2))
        return
    if applied is not None:
        lines = applied_lines(applied, segmented)
    elif painted is not None:
        lines = painted_lines(place, segmented, painted)
    else:
        lines = created_lines(place, segmented)
    for line in lines:
        show(printable(line))
