"""``overtile status``: shows the progress of an output, or of a training."""

from __future__ import annotations

import argparse
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.base.json_text import inner_object
from pipeline.base.redaction import command_text
from pipeline.base.text import aligned_rows, counted, duration_text, rate_text, voxel_rate_text

from ..text.ago import ago_text
from ..text.terminal import show

if TYPE_CHECKING:
    from pipeline.ledger.progress import Progress
    from pipeline.ledger.status import RunStatus

MOST_NAMED = 8


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``overtile status``."""
    parser.add_argument(
        "output", metavar="OUTPUT",
        help="output of segment, objects or convert: a path, s3://… or https://…; or weights of "
        "train, or its folder",
    )  # fmt: skip
    parser.add_argument("--json", action="store_true", help="print the status as JSON")


def run(options: argparse.Namespace) -> None:
    """Print the progress of an output, or of a training."""
    from unet.training.status import find_training

    if training := find_training(options.output):
        _show_training(*training, as_json=options.json)
        return
    from pipeline.base.errors import OutputError
    from pipeline.base.location import Location
    from pipeline.ledger.status import read_objects_status, read_status

    status = read_status(Location.parse(options.output, kind=OutputError))
    inside = read_objects_status(status.output)
    if options.json:
        found = inside and status_json(inside)
        print(json.dumps({**status_json(status), "labels/objects": found}, indent=2))
    else:
        show(status_text(status, inside=inside, now=datetime.now(UTC)))


def _show_training(directory: Path, weights: Path, *, as_json: bool) -> None:
    from unet.training.status import read_training_status

    from ..text.training_status import training_status_json, training_status_text

    status = read_training_status(directory, weights)
    if as_json:
        print(json.dumps(training_status_json(status), indent=2))
    else:
        show(training_status_text(status, now=datetime.now(UTC)))


def status_text(status: RunStatus, *, now: datetime, inside: RunStatus | None = None) -> str:
    """Return the progress of an output as aligned lines. inside: of its objects, if it has any."""
    rows = [("", str(status.output)), *_rows(status, now)]
    return aligned_rows([*rows, *(_inside_rows(inside) if inside else ())])


def _inside_rows(inside: RunStatus) -> list[tuple[str, str]]:
    found = "" if inside.objects is None else f"{counted(inside.objects, 'object')}; "
    return [
        ("objects", f"{found}{stage_text(inside)}"),
        ("", f"more: {command_text(['overtile', 'status', inside.output.uri])}"),
    ]


def _rows(status: RunStatus, now: datetime) -> list[tuple[str, str]]:
    made, figures, total = status.provenance, status.figures, status.total
    rows = [
        ("stage", stage_text(status)),
        ("blocks", f"{total.done:,} of {total.computed:,} done, {share_text(total)}"),
    ]
    if total.labelled:
        labelled = total.labelled + total.done
        rows.append(("labelled", f"{labelled:,} of {total.computed:,}"))
    if status.objects is not None:
        rows.append(("objects", f"{status.objects:,}"))
    if total.skipped:
        rows.append(("skipped", f"{counted(total.skipped, 'block')} without files"))
    if len(status.shares) > 1:
        rows += [_share_row(share) for share in status.shares]
    if total.set_aside:
        rows.append(("set aside", _set_aside_text(total)))
    if (speed := total.blocks_per_s) is not None:
        voxels = voxel_rate_text(figures.voxels / figures.seconds)
        each = " of a share" if len(status.shares) > 1 else ""
        rows.append(("speed", f"{rate_text(speed)} blocks/s, {voxels}{each}"))
        rows.append(("computed", f"{figures.voxels:,} voxels in {duration_text(figures.seconds)}"))
    if status.seconds_left:
        at_once = ", all shares at once" if len(status.shares) > 1 else ""
        rows.append(("left", f"{duration_text(status.seconds_left)} at this speed{at_once}"))
    rows.append(("last written", ago_text(status.written, now)))
    if made:
        place = f"{made.get('input', '?')} {made.get('input_path', '')}"
        by = f"overtile {made.get('overtile', '?')}, started {made.get('created', '?')}"
        rows += [("input", place.rstrip()), ("made by", by)]
    if digest := inner_object(made, "weights").get("digest"):
        rows.append(("weights", str(digest)[:12]))
    return rows


def _share_row(share: Progress) -> tuple[str, str]:
    aside = f", {len(share.set_aside)} set aside" if share.set_aside else ""
    labelled = f", {share.labelled:,} labelled" if share.labelled else ""
    done = f"{share.done:,} of {share.computed:,} done{labelled}{aside}"
    return f"shard {share.number}/{share.of}", done


def stage_text(status: RunStatus) -> str:
    """Return the stage of a run, and what to do about it."""
    if status.pyramid:
        return "complete"
    if not status.created:
        return "being created, or its creation was interrupted: start the run again"
    if status.total.set_aside and not status.total.missing:
        return "blocks failed: start the run again to retry them"
    if len(status.shares) > 1 and status.total.labelled == status.total.left > 0:
        return "all blocks are labelled: run overtile objects without --shard, or with --merge-only"
    if not status.total.left:
        finish = "objects without --shard" if status.job.get("kind") == "objects" else "finish"
        how = f"run overtile {finish}" if len(status.shares) > 1 else "the run builds it"
        what = "the table or the pyramid" if status.job.get("kind") == "objects" else "the pyramid"
        return f"all blocks are done, {what} is missing: {how}"
    return "not complete: a run is writing it, or must be started again"


def share_text(total: Progress) -> str:
    """Return the percentage of blocks that are done; 100 % only if all are.

    Rounded down: 999 of 1,000 are 99.9 %, and 9,999 of 10,000 too.
    """
    done = total.done * 1000 // total.computed if total.computed else 1000
    return f"{done / 10:.1f} %"


def _set_aside_text(total: Progress) -> str:
    named = "; ".join(",".join(map(str, index)) for index in total.set_aside[:MOST_NAMED])
    more = len(total.set_aside) - MOST_NAMED
    return f"{counted(len(total.set_aside), 'block')} (z,y,x): {named}" + (
        f" and {more} more" if more > 0 else ""
    )


def status_json(status: RunStatus) -> dict[str, Any]:
    """Return the progress of an output as JSON values."""
    total = status.total
    return {
        "output": str(status.output),
        "blocks": total.blocks,
        "done": total.done,
        "skipped": total.skipped,
        "labelled": total.labelled,
        "missing": total.missing,
        "set_aside": [list(index) for index in total.set_aside],
        "pyramid": status.pyramid,
        "levels": status.levels,
        "intermediates": status.intermediates,
        "created": status.created,
        "objects": status.objects,
        "blocks_per_s": total.blocks_per_s,
        "seconds_left": status.seconds_left,
        "figures": status.figures.to_json(),
        "shares": [
            {
                "shard": f"{share.number}/{share.of}",
                "blocks": share.blocks,
                "done": share.done,
                "skipped": share.skipped,
                "labelled": share.labelled,
                "set_aside": len(share.set_aside),
                "blocks_per_s": share.blocks_per_s,
            }
            for share in status.shares
        ],
        "last_written": status.written.isoformat() if status.written else None,
        "job": dict(status.job),
        "provenance": dict(status.provenance),
    }
