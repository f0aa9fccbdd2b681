"""The console script ``overtile``. Exit 0: done; 1: failed, says how to resume; 2: bad input."""

from __future__ import annotations

import argparse
import json
import re
import signal
import sys
from collections.abc import Sequence
from types import FrameType
from typing import TYPE_CHECKING, NoReturn

from pipeline.errors import OvertileError, PlanError, RunError

from .terminal import say

if TYPE_CHECKING:
    from deploy import ClusterSpec


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    options = _parser().parse_args(_joined(sys.argv[1:] if arguments is None else arguments))
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        options.command(options)
    except OvertileError as error:
        say(f"overtile: {error}")
        return 2
    except RunError as error:
        say(f"overtile: {error}")
        return 1
    except KeyboardInterrupt:
        say("overtile: stopped; what is done is kept: start the same command again to go on")
        return 1
    except BrokenPipeError:
        return 1
    return 0


def _joined(arguments: Sequence[str]) -> list[str]:
    """Return the arguments with a value that starts like ``-2,4`` tied to its option by ``=``.

    argparse would take it for an option, and complain of a missing value instead of a bad one.
    """
    joined: list[str] = []
    for argument in arguments:
        if joined and joined[-1].startswith("--") and re.match(r"-\d", argument):
            joined[-1] += f"={argument}"
        else:
            joined.append(argument)
    return joined


def _interrupt(signum: int, frame: FrameType | None) -> None:
    """Let SIGTERM end a run as Ctrl-C does: blocks cancelled, ledger written, cluster closed."""
    raise KeyboardInterrupt


class _Parser(argparse.ArgumentParser):
    """A parser whose complaints are one line, as all of ours."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"overtile: {message}; see {self.prog} --help\n")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="overtile",
        description="Segment microscopy volumes that fit on no single machine. Tiled equals whole.",
        epilog="Exit codes: 0 done; 1 failed, start the same command again to resume; 2 bad input.",
    )
    parser.add_argument("--version", action="version", version=_version())
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for name, about, add, command in (
        ("segment", "segment a volume: Zarr in, OME-Zarr out", _add_segment, _segment),
        ("plan", "print what segment would do and cost; runs nothing", _add_plan, _plan),
        ("train", "train a U-Net on labelled volumes, on the same cluster", _add_train, _train),
        ("evaluate", "score a prediction against the truth", _add_evaluate, _evaluate),
        ("weights", "print what a weights file is", _add_weights, _weights),
        ("cluster", "start, look at or stop one that outlives a run", _add_cluster, _keep_cluster),
        ("demo", "segment a volume that it makes itself, and score it", _add_demo, _demo),
    ):
        sub = commands.add_parser(name, help=about, description=about[0].upper() + about[1:] + ".")
        add(sub)
        sub.set_defaults(command=command)
    return parser


def _version() -> str:
    from importlib.metadata import version

    return f"overtile {version('overtile')}"


def _sizes(text: str) -> tuple[int, int, int]:
    try:
        sizes = tuple(int(n) for n in text.split(","))
    except ValueError:
        sizes = ()
    if len(sizes) != 3 or min(sizes) < 1:
        raise argparse.ArgumentTypeError(f"{text!r}: say three sizes as Z,Y,X, like 64,256,256")
    return sizes[0], sizes[1], sizes[2]


def _gibibytes(text: str) -> float:
    try:
        size = float(text)
    except ValueError:
        size = 0.0
    if not 0 < size < 2**20:
        raise argparse.ArgumentTypeError(f"{text!r}: say GiB as a number above 0, like 2 or 0.5")
    return size


def _number_or_name(text: str) -> int | str:
    return int(text) if text.lstrip("-").isdigit() else text


def _channels(text: str) -> list[int | str]:
    return [_number_or_name(part) for part in text.split(",")]


def _outputs(text: str) -> list[str]:
    from pipeline.output_kinds import OUTPUT_KINDS

    outputs = text.split(",")
    if unknown := sorted(set(outputs) - set(OUTPUT_KINDS)):
        raise argparse.ArgumentTypeError(
            f"{unknown[0]!r}: say {' or '.join(OUTPUT_KINDS)}, or several, comma-separated"
        )
    return outputs


def _add_segment(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "input",
        metavar="INPUT",
        help="OME-Zarr 0.4 or 0.5, or a Zarr v2 or v3 array: a path, s3://…, https://…",
    )
    parser.add_argument(
        "output",
        metavar="OUTPUT",
        help="OME-Zarr to be made; if it is there from the same job, the run resumes",
    )
    parser.add_argument(
        "--weights",
        required=True,
        metavar="FILE_OR_URI",
        help="a weights file, or the name of bundled weights (demo, fib25-boundary)",
    )
    what = parser.add_argument_group("what is read")
    what.add_argument(
        "--level",
        type=_number_or_name,
        metavar="L",
        help="resolution level, by number or name (default: the finest)",
    )
    what.add_argument(
        "--channel",
        type=_channels,
        metavar="C",
        help="channel(s) by index or name, comma-separated (default: all)",
    )
    what.add_argument("--time", type=int, metavar="T", help="time point of a time series")
    what.add_argument(
        "--axes",
        metavar="AXES",
        help="axes of the stored array, like zyx or yxc, if not in the metadata",
    )
    what.add_argument(
        "--normalisation",
        metavar="KIND[:LOW:HIGH][@LEVEL]",
        help="none, dtype, range:LOW:HIGH, percentile:LOW:HIGH or zscore "
        "(default: what the weights were trained with)",
    )
    out = parser.add_argument_group("what is written")
    out.add_argument(
        "--outputs",
        type=_outputs,
        default=["classes"],
        metavar="classes,scores",
        help="classes per voxel, probabilities per class, or both (default: classes)",
    )
    out.add_argument(
        "--scores-dtype",
        choices=["uint8", "float16", "float32"],
        default="uint8",
        help="how probabilities are stored; uint8 means 0..255 (default)",
    )
    out.add_argument(
        "--format",
        choices=["0.5", "0.4"],
        default="0.5",
        help="OME-Zarr version: 0.5 with shards (default), 0.4 without",
    )
    out.add_argument("--overwrite", action="store_true", help="replace an output that is there")
    how = parser.add_argument_group("how it is computed")
    how.add_argument(
        "--cluster",
        default="local",
        metavar="WHERE",
        help="where the Dask workers are: local (default), cuda, slurm, lsf, pbs, sge; a profile, "
        "a FILE.toml, a started cluster; an address or a scheduler file",
    )
    how.add_argument("--workers", type=int, metavar="N", help="processes of a local cluster")
    how.add_argument("--block", type=_sizes, metavar="Z,Y,X", help="voxels that one task writes")
    how.add_argument(
        "--tile", type=_sizes, metavar="Z,Y,X", help="voxels of one pass through the network"
    )
    how.add_argument(
        "--tile-memory",
        type=_gibibytes,
        default=2.0,
        metavar="GIB",
        dest="tile_memory_gib",
        help="memory that one tile may take (default: 2)",
    )
    how.add_argument(
        "--precision",
        choices=["auto", "bf16", "fp32"],
        default="auto",
        help="auto: bfloat16 where the device computes in it natively",
    )
    how.add_argument(
        "--tta",
        choices=["none", "rotations", "full"],
        default="none",
        help="average the scores of every tile over 4 quarter turns, or over these with mirrors: "
        "4, 8 or (3-D) 16 times the arithmetic (default: none)",
    )
    how.add_argument(
        "--engine",
        choices=["store", "map_overlap"],
        default="store",
        help="halos read from the store (default), or exchanged between workers",
    )
    how.add_argument(
        "--retries",
        type=int,
        default=2,
        metavar="N",
        help="how often a failing block is tried again (default: 2)",
    )
    how.add_argument(
        "--allow-seams",
        action="store_true",
        help="run networks whose layers look at statistics of a whole tile",
    )


def _add_plan(parser: argparse.ArgumentParser) -> None:
    _add_segment(parser)
    parser.add_argument("--json", action="store_true", help="print the plan as JSON")


def _add_weights(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "weights", metavar="FILE", help="a weights file, or the name of bundled ones"
    )
    parser.add_argument("--json", action="store_true", help="print it as JSON")


def _add_demo(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--directory",
        default="overtile-demo",
        metavar="DIR",
        help="where volume and result go (default: overtile-demo)",
    )
    parser.add_argument("--workers", type=int, metavar="N", help="processes of a local cluster")


_REQUEST_FIELDS = (
    "level",
    "channel",
    "time",
    "axes",
    "outputs",
    "scores_dtype",
    "normalisation",
    "block",
    "tile",
    "tile_memory_gib",
    "precision",
    "tta",
    "engine",
    "format",
    "overwrite",
    "allow_seams",
    "retries",
)


def _segment(options: argparse.Namespace) -> None:
    from .doors import run_segmentation

    parameters = _options(options)
    run_segmentation(
        input=options.input,
        output=options.output,
        weights=options.weights,
        options=parameters,
        spec=_cluster(options),
    )


def _plan(options: argparse.Namespace) -> None:
    from pipeline.prepare import prepare

    from .plan_text import plan_json, plan_text

    parameters = _options(options)
    _cluster(options)  # what segment would refuse
    request = parameters.request(input=options.input, output=options.output)
    prepared = prepare(request, parameters.predictor(options.weights))
    print(json.dumps(plan_json(prepared), indent=2) if options.json else plan_text(prepared))


def _options(options: argparse.Namespace):  # type: ignore[no-untyped-def]
    from .parameters import SegmentOptions

    return _checked(SegmentOptions, **{name: getattr(options, name) for name in _REQUEST_FIELDS})


def _cluster(options: argparse.Namespace) -> ClusterSpec:
    from .parameters import ClusterOptions

    spec: ClusterSpec = _checked(
        ClusterOptions, cluster=options.cluster, workers=options.workers
    ).spec()
    return spec


def _checked(model, **values):  # type: ignore[no-untyped-def]
    """Return a pydantic model of these values, or raise PlanError with its first complaint."""
    from pydantic import ValidationError

    try:
        return model(**values)
    except ValidationError as error:
        first = error.errors()[0]
        option = str(first["loc"][0]).replace("_", "-")
        raise PlanError(
            f"--{option} {first['input']!r}: {first['msg'].lower().replace('input', 'it')}"
        ) from error


def _add_train(parser: argparse.ArgumentParser) -> None:
    from .cli_train import add_train

    add_train(parser)


def _train(options: argparse.Namespace) -> None:
    from .cli_train import train

    train(options, checked=_checked)


def _add_evaluate(parser: argparse.ArgumentParser) -> None:
    from .cli_evaluate import add_evaluate

    add_evaluate(parser)


def _evaluate(options: argparse.Namespace) -> None:
    from .cli_evaluate import evaluate

    evaluate(options, checked=_checked)


def _add_cluster(parser: argparse.ArgumentParser) -> None:
    from .cli_cluster import add_cluster

    add_cluster(parser)


def _keep_cluster(options: argparse.Namespace) -> None:
    from .cli_cluster import cluster

    cluster(options)


def _weights(options: argparse.Namespace) -> None:
    from unet import read_weights_info

    from .weights_text import weights_json, weights_text

    info = read_weights_info(options.weights)
    print(json.dumps(weights_json(info), indent=2) if options.json else weights_text(info))


def _demo(options: argparse.Namespace) -> None:
    from .demo import run_demo

    run_demo(options.directory, workers=options.workers)


if __name__ == "__main__":
    sys.exit(main())
