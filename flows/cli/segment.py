"""``overtile segment``: its arguments, and what it does."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from pipeline.base.errors import ClusterError

from ..signals.drain import drain_on_signal
from .arguments import checked, number_or_name

if TYPE_CHECKING:
    from deploy import ClusterSpec

    from ..options.segment import SegmentOptions


def _sizes(text: str) -> tuple[int, int, int]:
    try:
        sizes = tuple(int(n) for n in text.split(","))
    except ValueError:
        sizes = ()
    if len(sizes) != 3 or min(sizes) < 1:
        raise argparse.ArgumentTypeError(f"{text!r}: say three sizes as Z,Y,X, like 64,256,256")
    return sizes[0], sizes[1], sizes[2]


def _gibibytes(text: str) -> float:
    from deploy.clusters.units import size_bytes

    try:
        size = float(text)
    except ValueError:
        try:
            size = size_bytes(text + "iB" if text[-1:] in set("MGT") else text) / 2**30
        except ClusterError:
            size = 0.0
    if not 0 < size < 2**20:
        raise argparse.ArgumentTypeError(f"{text!r}: say GiB as a number above 0, or like 512MiB")
    return size


def _channels(text: str) -> list[int | str]:
    return [number_or_name(part) for part in text.split(",")]


def _outputs(text: str) -> list[str]:
    from pipeline.output.kinds import OUTPUT_KINDS

    outputs = text.split(",")
    if unknown := sorted(set(outputs) - set(OUTPUT_KINDS)):
        raise argparse.ArgumentTypeError(
            f"{unknown[0]!r}: say {' or '.join(OUTPUT_KINDS)}, or several, comma-separated"
        )
    return outputs


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``overtile segment``."""
    out = add_job_arguments(parser)
    out.add_argument("--overwrite", action="store_true", help="replace an output that is there")
    parser.add_argument_group("a share of a volume").add_argument(
        "--shard",
        metavar="i/N",
        help="do the i-th of N shares, from 1/N on; the others are runs of their own, at the same "
        "time, anywhere; then overtile finish ends the output",
    )


def add_job_arguments(parser: argparse.ArgumentParser) -> argparse._ArgumentGroup:
    """Add what says which job it is and how it is computed; return the group of the output's."""
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
        type=number_or_name,
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
        help="memory that one tile may take (default: 2); 512MiB is one, too",
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
    return out


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
    "allow_seams",
    "retries",
)


def run(options: argparse.Namespace) -> None:
    """Segment a volume, and tell a person about it."""
    with drain_on_signal() as drain:  # before the imports, which take their time
        from ..segmentation.run import run_segmentation

        run_segmentation(
            input=options.input,
            output=options.output,
            weights=options.weights,
            options=segment_options(options, shard=options.shard),
            spec=cluster_spec(options),
            drain=drain,
        )


def segment_options(options: argparse.Namespace, *, shard: str | None = None) -> SegmentOptions:
    """Return how to segment. shard: which share, ``i/N``. Raises PlanError."""
    from ..options.segment import SegmentOptions

    values = {name: getattr(options, name) for name in _REQUEST_FIELDS}
    overwrite = getattr(options, "overwrite", False)  # finish has no such option
    parameters: SegmentOptions = checked(SegmentOptions, **values, overwrite=overwrite, shard=shard)
    return parameters


def cluster_spec(options: argparse.Namespace) -> ClusterSpec:
    """Return where to segment. Raises ClusterError."""
    from ..options.segment import ClusterOptions

    spec: ClusterSpec = checked(
        ClusterOptions, cluster=options.cluster, workers=options.workers
    ).spec()
    return spec
