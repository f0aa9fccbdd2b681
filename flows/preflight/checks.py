"""What a run asks of every worker before it starts.

That it sees the same input and output, that there is room for these, that the weights are the
planned ones; and what it computes on.

This module is imported by workers: it is light until a question is asked.
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
    tell: Callable[[str], None],
) -> None:
    """Look at the cluster for a run that is about to start; tell warnings.

    prepared, weights: of a segmentation; without them only what every run needs is looked at.
    Raises ClusterError with the first thing that cannot be left as it is.
    """
    findings = preflight(client, prepared, weights=weights)
    refuse_errors(findings)
    for finding in findings:
        if finding.level == "warning":
            tell(f"warning: {finding.text}")


def preflight(
    client: Client, prepared: Prepared | None = None, *, weights: str | None = None
) -> tuple[Finding, ...]:
    """Return what was found on a cluster, errors first; nothing is left anywhere."""
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
        uri = settle_uri(weights)  # a worker's own folder is another one
        checks.append(Check(name="weights", ask=partial(weights_digest, uri), judge=same))
    checks.append(room_check(prepared))
    with output_check(output, token=f".overtile-preflight-{uuid4().hex[:12]}") as check:
        yield [*checks, check]


def first_sample(source: VolumeSource) -> str:
    """Return the digest of the volume's middle, as the plan's sample has it first."""
    from hashlib import sha256

    from pipeline.volume.fingerprint import UNREAD, sample_boxes
    from pipeline.volume.volume import open_volume

    volume = open_volume(source)
    try:
        part = volume.read(sample_boxes(source.shape_zyx)[0])
    except Exception:  # a damaged chunk, as a rule, which the plan has noted
        return UNREAD
    return sha256(part.tobytes()).hexdigest()[:8]


def input_findings(uri: str, expected: str, answers: Answers) -> Iterator[Finding]:
    """Yield which workers do not read the voxels that were read here."""
    from pipeline.volume.fingerprint import UNREAD

    said = {}
    for who, digest in answers.items():
        if who in (failed := failures(answers)):
            said[who] = f"cannot read the input ({failed[who]}): put it where every worker sees it"
        elif digest != expected and expected != UNREAD:
            why = "cannot read" if digest == UNREAD else "reads other voxels in"
            said[who] = f"{why} {uri}: is it the same disk there as here?"
    for text, workers in grouped(said):
        yield Finding(level="error", check="input", text=f"{named(workers)} {text}")
    if not said:
        yield Finding(level="fine", check="input", text=f"every worker reads {uri}")


def weights_digest(uri: str) -> str:
    """Return the digest of a weights file as this process reads it."""
    from unet import read_weights_info

    return read_weights_info(uri).digest


def weights_findings(expected: str, answers: Answers) -> Iterator[Finding]:
    """Yield which workers have other weights, or none."""
    said = {}
    for who, digest in answers.items():
        if who in (failed := failures(answers)):
            said[who] = f"cannot read the weights ({failed[who]}): put them where it sees them"
        elif digest != expected:
            said[who] = (
                f"has other weights at this place ({digest[:12]}, here {expected[:12]}): copy this "
                "machine's there"
            )
    for text, workers in grouped(said):
        yield Finding(level="error", check="weights", text=f"{named(workers)} {text}")
    if not said:
        yield Finding(level="fine", check="weights", text=f"weights {expected[:12]} everywhere")
