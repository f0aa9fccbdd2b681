"""A process that reads examples of wrong files, one after the other, as overtile's commands do.

It takes a folder, then lines of JSON from standard input: the ``target``, ``files`` (base64) and
``links`` to put into ``FOLDER/work``, and ``words``. It answers each with a line: the outcome and
a text. ``read`` and ``refused`` are right; ``traceback``, ``hang``, ``memory``, ``wrote`` and
``warned`` (a warning of Python, which would be a second line) are not.
"""

from __future__ import annotations

import base64
import json
import os
import resource
import shutil
import signal
import sys
import time
import traceback
import warnings
from pathlib import Path

from pipeline.base.errors import OvertileError
from pipeline.base.location import Location
from pipeline.volume.formats.ome_zarr.zarr_image import EMPTY_FILTERS

HANG_S = 10
"""Without the time that the machine let its threads wait for a processor."""
UNSEEN = (DeprecationWarning, PendingDeprecationWarning, ImportWarning, ResourceWarning)
"""Python does not show these."""
MOST_BYTES = 2**30
LIMIT_BYTES = 2**32
"""Of address space above that of the process: keeps a fault from filling the machine."""


class HangError(BaseException):
    """An example takes longer than HANG_S."""


def read_volume(work, words):
    """Find a volume in every role, and plan a segmentation of it."""
    from flows.options.segment import SegmentOptions
    from pipeline.segmentation.prepare import prepare
    from pipeline.volume.volume import find_volume

    for holds in ("grey values", "labels", "anything"):
        find_volume(str(work / "x"), holds=holds)
    options = SegmentOptions()
    request = options.request(input=str(work / "x"), output=str(work / "out.zarr"))
    prepare(request, options.predictor("demo"))


def read_output(work, words):
    """Show the status of an output, and prepare runs that resume, replace and view it."""
    from datetime import UTC, datetime
    from functools import partial

    from flows.cli.status import status_json, status_text
    from flows.options.segment import SegmentOptions
    from pipeline.ledger.status import read_objects_status, read_status
    from pipeline.objects.table.finished import find_finished
    from pipeline.segmentation.prepare import prepare
    from pipeline.viewing.layers import find_view

    place = Location.parse(work / "x")
    options = SegmentOptions(precision="fp32")
    first = None

    def show_status():
        status = read_status(place)
        inside = read_objects_status(place)
        status_text(status, inside=inside, now=datetime.now(UTC))
        json.dumps(status_json(status))

    for look in (show_status, *(partial(one, place) for one in (find_view, find_finished))):
        try:
            look()
        except OvertileError as error:
            first = error
    for changes in ({}, {"overwrite": True}, {"shard": "1/2"}):
        how = options.model_copy(update=changes)
        request = how.request(input=str(work.parent / "in.zarr"), output=str(place))
        try:
            prepare(request, how.predictor("demo"))
        except OvertileError as error:
            first = error
    if first is not None:
        raise first


def read_weights(work, words):
    """Read what a weights file states and, if it is right, its tensors."""
    from flows.text.weights import weights_json, weights_text
    from unet import load_weights, read_weights_info

    info = read_weights_info(str(work / "x"))
    weights_text(info)
    json.dumps(weights_json(info))
    load_weights(str(work / "x"))


def read_profile(work, words):
    """Read a file as a cluster's profile, as a training's config and as a scheduler file."""
    from deploy import parse_cluster
    from deploy.batch_jobs.render_segment import Submission, render_segment
    from deploy.clusters.existing import address_in
    from deploy.clusters.profiles import settings_of_toml
    from unet.recipe.config_file import read_config

    first = None
    try:
        spec = parse_cluster(str(work / "x.toml"))
        if spec.kind == "slurm":
            paths = {"directory": "/", "folder": "/logs"}
            render_segment(Submission(cluster=spec, arguments=("a", "b"), **paths))
    except OvertileError as error:
        first = error
    for read in (read_config, address_in):
        try:
            read(str(work / "x.toml"))
        except OvertileError as error:
            first = error
    settings_of_toml((work / "x.toml").read_text(errors="replace"))
    if first is not None:
        raise first


def read_arguments(work, words):
    """Parse a command line, and make the models of its options; no command is run."""
    from flows.cli.arguments import read_options
    from flows.cli.main import COMMANDS, _joined, make_parser
    from flows.options import cluster, convert, evaluate, mask, objects, segment, train

    given = _joined(words)
    options = make_parser(name for name in COMMANDS if name in given).parse_args(given)
    models = (
        segment.SegmentOptions, convert.ConvertOptions, evaluate.EvaluateOptions,
        mask.MaskOptions, objects.ObjectsOptions, train.TrainOptions, cluster.ClusterOptions,
    )  # fmt: skip
    for model in models:
        fields = [name for name in model.model_fields if hasattr(options, name)]
        if len(fields) > 1:
            made = read_options(model, options)
            if isinstance(made, cluster.ClusterOptions):
                made.spec()
    if given[0] == "segment":
        made = read_options(segment.SegmentOptions, options)
        made.request(input=options.input, output=options.output)
    if given[0] == "evaluate":
        made = read_options(evaluate.EvaluateOptions, options)
        made.request(prediction=options.prediction, truth=options.truth)
    if given[0] == "objects":
        made = read_options(objects.ObjectsOptions, options)
        made.request(scores=options.scores, output=options.output)
    if given[0] == "mask":
        made = read_options(mask.MaskOptions, options)
        made.request(input=options.input, mask=options.mask)


TARGETS = {
    "volume": read_volume, "output": read_output, "weights": read_weights,
    "profile": read_profile, "arguments": read_arguments,
}  # fmt: skip


def put(work, example):
    """Write the files and links of an example into an empty folder."""
    work.mkdir()
    for name, content in example.get("files", {}).items():
        path = work / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(base64.b64decode(content))
    for name, target in example.get("links", {}).items():
        path = work / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.symlink_to(target)


def listing(folder):
    """Return all paths below a folder, with their times."""
    return {path: path.lstat().st_mtime_ns for path in folder.rglob("*")}


def waited_s():
    """Return how long threads of this process were ready to run, and had no processor."""
    threads = Path("/proc/self/task").glob("*/schedstat")
    return sum(int(thread.read_text().split()[1]) for thread in threads) / 1e9


def outcome_of(target, work, words):
    """Run one example; return the outcome and a text."""
    began_at, waited = time.monotonic(), waited_s()

    def alarm(*_):
        left_s = HANG_S - (time.monotonic() - began_at) + (waited_s() - waited)
        if left_s < 0.01:
            raise HangError
        signal.setitimer(signal.ITIMER_REAL, left_s)

    signal.signal(signal.SIGALRM, alarm)
    signal.setitimer(signal.ITIMER_REAL, HANG_S)
    try:
        TARGETS[target](work, words)
    except OvertileError as error:
        return "refused", str(error)[:2000]
    except SystemExit as exit_:
        return ("refused", "") if exit_.code == 2 else ("traceback", f"exit code {exit_.code}")
    except HangError:
        return "hang", traceback.format_exc(limit=-12)
    except BaseException:
        return "traceback", traceback.format_exc(limit=-12)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
    return "read", ""


def answer(folder, example):
    """Return the outcome of an example, memory and written files considered."""
    work = folder / "work"
    put(work, example)
    before, most = listing(folder), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for kind in UNSEEN:
            warnings.simplefilter("ignore", kind)
        warnings.filterwarnings("ignore", EMPTY_FILTERS, UserWarning)  # as overtile does
        outcome, text = outcome_of(example["target"], work, example.get("words", []))
    if caught and outcome == "refused":
        outcome, text = "warned", f"{caught[0].message} ({caught[0].filename})"
    used = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - most) * 1024
    if used > MOST_BYTES:
        outcome, text = "memory", f"{used:,} bytes"
    elif listing(folder) != before:
        outcome, text = "wrote", str({*listing(folder)} ^ {*before})
    shutil.rmtree(work)
    return outcome, text


def main():
    """Answer every line of standard input."""
    folder = Path(sys.argv[1])
    channel = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what the product prints must not come between the answers
    for target in TARGETS:  # what is loaded once does not count as an example's memory
        answer(folder, {"target": target, "words": ["segment", "a", "b", "--weights", "demo"]})
    limit = LIMIT_BYTES + int(Path("/proc/self/statm").read_text().split()[0]) * 4096
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    for line in sys.stdin:
        outcome, text = answer(folder, json.loads(line))
        channel.write(json.dumps([outcome, text]) + "\n")
        channel.flush()


if __name__ == "__main__":
    main()
