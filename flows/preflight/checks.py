"""Checks of every worker before a run starts.

Each worker must see the same input, output and weights as this process, with space for the output;
its device is reported. Workers import this module, so it imports nothing heavy at the top.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING
from uuid import uuid4

from deploy.preflight.ask import run_checks
from deploy.preflight.findings import (
    Answers,
    Check,
    Finding,
    failures,
    grouped,
    named,
    refuse_errors,
)

from .device import device_check
from .output import output_check, room_check

if TYPE_CHECKING:
    from deploy import Client
    from pipeline.segmentation.prepare import Prepared
    from pipeline.volume.volume import VolumeSource


def check_before_start(
    client: Client,
    prepared: Prepared | None = None,
    *,
    weights: str | None = None,
    notify: Callable[[str], None],
) -> None:
    """Check the cluster for a run that is about to start, and report warnings.

    prepared, weights: of a segmentation; without them only the checks for every run are made.
    Raises ClusterError for the first error.
    """
    findings = preflight(client, prepared, weights=weights)
    refuse_errors(findings)
    for finding in findings:
        if finding.level == "warning":
            notify(f"warning: {finding.text}")


def preflight(
    client: Client, prepared: Prepared | None = None, *, weights: str | None = None
) -> tuple[Finding, ...]:
    """Return the findings on a cluster, errors first. Leaves no files behind."""
    if prepared is None:
        return run_checks(client, [device_check()])
    with _segment_checks(prepared, weights) as checks:
        return run_checks(client, [*checks, device_check(prepared.budget.tile_memory_bytes)])


@contextmanager
def _segment_checks(prepared: Prepared, weights: str | None) -> Iterator[list[Check]]:
    from unet.weights.location import settle_uri

    source, output = prepared.source, prepared.request.output
    expected = prepared.sample_digest.split()[0]
    read = partial(input_findings, str(source.store), expected)
    checks = [Check(name="input", ask=partial(first_sample, source), judge=read)]
    if weights is not None:
        same = partial(weights_findings, prepared.predictor.digest)
        uri = settle_uri(weights)  # relative paths mean another folder on a worker
        checks.append(Check(name="weights", ask=partial(weights_digest, uri), judge=same))
    checks.append(room_check(prepared))
    with output_check(output, token=f".overtile-preflight-{uuid4().hex[:12]}") as check:
        yield [*checks, check]


def first_sample(source: VolumeSource) -> str:
    """Return the digest of the volume's middle, the first box of the plan's sample."""
    from hashlib import sha256

    from pipeline.base.sample_digest import UNREAD
    from pipeline.volume.fingerprint import sample_boxes
    from pipeline.volume.volume import open_volume

    volume = open_volume(source)
    try:
        part = volume.read(sample_boxes(source.shape_zyx)[0])
    except Exception:  # usually a damaged chunk, which the plan has noted
        return UNREAD
    return sha256(part.tobytes()).hexdigest()[:8]


def input_findings(uri: str, expected: str, answers: Answers) -> Iterator[Finding]:
    """Yield which workers do not read the same voxels as this process."""
    from pipeline.base.sample_digest import UNREAD

    problems = {}
    for worker, digest in answers.items():
        if worker in (failed := failures(answers)):
            problems[worker] = (
                f"cannot read the input ({failed[worker]}): use a path that every worker sees"
            )
        elif digest != expected and expected != UNREAD:
            why = "cannot read" if digest == UNREAD else "reads other voxels in"
            problems[worker] = f"{why} {uri}: use a path that is the same disk on every machine"
    for text, workers in grouped(problems):
        yield Finding(level="error", check="input", text=f"{named(workers)} {text}")
    if not problems:
        yield Finding(level="fine", check="input", text=f"every worker reads {uri}")


def weights_digest(uri: str) -> str:
    """Return the digest of a weights file, read by this process."""
    from unet import read_weights_info

    return read_weights_info(uri).digest


def weights_findings(expected: str, answers: Answers) -> Iterator[Finding]:
    """Yield which workers have no weights, or different ones."""
    problems = {}
    for worker, digest in answers.items():
        if worker in (failed := failures(answers)):
            problems[worker] = (
                f"cannot read the weights ({failed[worker]}): use a path that it sees"
            )
        elif digest != expected:
            problems[worker] = (
                f"has different weights at this path ({digest[:12]}, expected {expected[:12]}): "
                "copy them from this machine"
            )
    for text, workers in grouped(problems):
        yield Finding(level="error", check="weights", text=f"{named(workers)} {text}")
    if not problems:
        yield Finding(
            level="fine", check="weights", text=f"every worker has weights {expected[:12]}"
        )
