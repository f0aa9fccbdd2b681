"""``overtile evaluate``: its arguments, and what it does."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

from pipeline.base.errors import RunStoppedError

from ..signals.interrupted import interrupted
from ..text.json_file import check_json_place, write_json
from ..text.terminal import say
from .arguments import checked, number_or_name, slices

SAY_EVERY_S = 5.0
MOST_THRESHOLDS = 1000


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``overtile evaluate``."""
    parser.add_argument(
        "prediction", metavar="PREDICTION",
        help="an output of overtile, or a Zarr array of classes, ids or scores",
    )  # fmt: skip
    parser.add_argument(
        "truth", metavar="TRUTH", help="Zarr array of classes or object ids, of the same shape"
    )
    parser.add_argument("--json", metavar="FILE", help="write every figure and setting to a file")
    what = parser.add_argument_group("what is compared")
    what.add_argument(
        "--scores", type=number_or_name, metavar="CLASS",
        help="scores of this class (the boundary, where there are objects) at every threshold, "
        "by name or number (default: the predicted classes)",
    )  # fmt: skip
    what.add_argument("--slices", type=slices, metavar="A:B", help="only slices A to B-1 of z")
    what.add_argument(
        "--box", type=_box, metavar="Z0:Z1,Y0:Y1,X0:X1", help="only the voxels inside"
    )
    what.add_argument("--ignore", type=int, metavar="N", help="label of truth that does not count")
    what.add_argument(
        "--thresholds", type=_thresholds, metavar="T,T,… or A:B:STEP",
        help="of the score (default: 0.05:0.95:0.05)",
    )  # fmt: skip
    objects = parser.add_argument_group("objects")
    objects.add_argument(
        "--objects", choices=["ids", "components", "watershed"],
        help="predicted objects are stored ids, connected components where the score is below "
        "the threshold, or a watershed from seeds there",
    )  # fmt: skip
    objects.add_argument(
        "--truth-objects", type=_ids_or_class, default="ids", metavar="ids|CLASS",
        help="true objects are the truth's ids (default), or the connected components of a class",
    )  # fmt: skip
    objects.add_argument(
        "--per-slice", action="store_true",
        help="every slice is an image of its own: figures are means over slices",
    )  # fmt: skip
    objects.add_argument(
        "--seed-distance", type=float, default=2.0, metavar="VOXELS",
        help="watershed: how deep inside a seed lies (default: 2); 0 only thins the borders of "
        "components",
    )  # fmt: skip
    objects.add_argument(
        "--seed-voxels", type=int, default=0, metavar="N", help="watershed: least size of a seed"
    )
    how = parser.add_argument_group("where it is computed")
    how.add_argument(
        "--cluster", default="local", metavar="local|ADDRESS|SCHEDULER_FILE",
        help="where the Dask workers are (default: local)",
    )  # fmt: skip
    how.add_argument("--workers", type=int, metavar="N", help="processes of a local cluster")


def _ids_or_class(text: str) -> int | str:
    if text != "ids" and not text.isdigit():
        raise argparse.ArgumentTypeError(f"{text!r}: say ids, or the number of a class, like 0")
    return int(text) if text.isdigit() else text


def _range(text: str) -> tuple[int, int]:
    first, _, end = text.partition(":")
    return int(first), int(end)


def _box(text: str) -> tuple[tuple[int, ...], tuple[int, ...]]:
    try:
        (z0, z1), (y0, y1), (x0, x1) = map(_range, text.split(","))
    except ValueError as error:
        raise argparse.ArgumentTypeError(
            f"{text!r}: say a box as Z0:Z1,Y0:Y1,X0:X1, like 0:32,0:256,0:256"
        ) from error
    return (z0, y0, x0), (z1, y1, x1)


def _thresholds(text: str) -> list[float]:
    try:
        if ":" not in text:
            return [float(part) for part in text.split(",")]
        first, last, step = (float(part) for part in text.split(":"))
        count = round((last - first) / step) + 1
        if count > MOST_THRESHOLDS:
            raise argparse.ArgumentTypeError(
                f"{text!r} is {count:,} thresholds: give {MOST_THRESHOLDS:,} or fewer"
            )
        return [round(first + step * n, 6) for n in range(count)]
    except (ValueError, ZeroDivisionError, OverflowError) as error:
        raise argparse.ArgumentTypeError(
            f"{text!r}: say thresholds as 0.1,0.5 or as 0.05:0.95:0.05"
        ) from error


_OPTION_FIELDS = (
    "scores", "objects", "truth_objects", "per_slice", "slices", "box", "ignore", "seed_distance",
    "seed_voxels",
)  # fmt: skip


def run(options: argparse.Namespace) -> None:
    """Score a prediction and print the figures."""
    from deploy import open_cluster
    from pipeline.evaluation.plan import plan_evaluation
    from pipeline.evaluation.run import evaluate as run

    from ..options.evaluate import EvaluateOptions
    from ..options.segment import ClusterOptions
    from ..preflight.checks import check_before_start
    from ..text.scores import evaluation_text

    values = {name: getattr(options, name) for name in _OPTION_FIELDS}
    if options.thresholds is not None:
        values["thresholds"] = options.thresholds
    parameters = checked(EvaluateOptions, **values)
    spec = checked(ClusterOptions, cluster=options.cluster, workers=options.workers).spec()
    check_json_place(options.json)
    plan = plan_evaluation(parameters.request(prediction=options.prediction, truth=options.truth))
    try:
        with open_cluster(spec) as client:
            check_before_start(client, tell=say)
            evaluation = run(plan, client, watch=_progress())
    except (KeyboardInterrupt, Exception) as error:
        if not interrupted(error):
            raise
        raise RunStoppedError("stopped: nothing was written") from None
    write_json(options.json, evaluation.to_json())
    print(evaluation_text(evaluation))


def _progress() -> Callable[[str, int, int], None]:
    """Return a function that says how far it is, every few seconds."""
    said = time.monotonic()

    def watch(what: str, done: int, total: int) -> None:
        nonlocal said
        if time.monotonic() - said >= SAY_EVERY_S:
            said = time.monotonic()
            say(f"{what}: {done}/{total}")

    return watch
