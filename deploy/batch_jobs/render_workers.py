"""The script of a job that brings workers to a scheduler, as text. Nothing is submitted here."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

from pipeline.base.scheduling import DEVICE_RESOURCE

from ..clusters.spec import CLOSE_S, ClusterSpec, JobSpec
from ..clusters.worker_environment import KEPT_MEMORY, torch_threads
from ..clusters.worker_memory import worker_memory_bytes
from ..tls.files import CertificateFiles, find_files, names_files
from .directives import directives
from .lsf_units import limit_unit_bytes
from .quoting import word_with_variables


def render_workers(spec: ClusterSpec, *, scheduler: str, name: str, logs: Path) -> str:
    """Return the script of one job.

    scheduler: the address that its workers connect to. name: of its worker; Dask numbers several
    workers, ``NAME-0`` and so on. logs: the folder of its log. Keys for TLS are in files that the
    job reads: the script has their paths only.
    """
    assert spec.job is not None
    files = find_files(spec.tls) if names_files(spec.tls) else None
    lines = [
        "#!/usr/bin/env bash",
        "",
        *directives(spec.job, kind=spec.kind, logs=str(logs), lsf_unit=limit_unit_bytes()),
        *prologue(spec.job),
        *([] if files is None else [_key_check(files)]),
        _worker_command(spec, spec.job, scheduler=scheduler, name=name, files=files),
    ]
    return "\n".join(lines) + "\n"


def _key_check(files: CertificateFiles) -> str:
    """Return the line of shell that ends the job, with the reason, if it cannot read its key."""
    key = shlex.quote(files.key)
    why = "is not readable on this node: set log_directory, or tls, to a folder that all nodes see"
    return f"[ -r {key} ] || {{ echo {key} {shlex.quote(why)}; exit 1; }}"


def prologue(job: JobSpec) -> list[str]:
    """Return the lines of shell before the workers; the profile's own lines come last."""
    ends_at = f"$(($(date +%s) + {job.walltime_s}))"  # before modules, which may load slowly
    exports = {
        "PYTHONSAFEPATH": "1",  # a folder pipeline/ in the job's directory must not be imported
        **torch_threads(max(1, job.cpus_per_job // job.workers)),
        "DASK_DISTRIBUTED__WORKER__DAEMON": "False",
        "DASK_DISTRIBUTED__WORKER__PROFILE__ENABLED": "False",  # see pipeline/base/worker_profile
        **KEPT_MEMORY,
        "OVERTILE_DRAIN_S": f"{job.margin_s:g}",
        "OVERTILE_CLOSE_S": f"{CLOSE_S:g}",
    }
    if job.gpus_per_job:
        exports["OVERTILE_NEEDS_GPU"] = "1"
    return [
        "ulimit -c 0",  # a worker killed at the walltime must not write a core file
        f"export OVERTILE_JOB_ENDS_AT={ends_at}",
        *(module_load(module) for module in job.modules),
        *(f"export {name}={value}" for name, value in exports.items()),  # a module may set OMP's
        *job.prologue,
    ]


LOOPBACK_DASHBOARD = ("--no-dashboard", "--dashboard-address", "127.0.0.1:0")
"""Options of a worker: it serves no pages, and its metrics on its own machine only."""


def tls_options(files: CertificateFiles) -> list[str]:
    """Return the options of a Dask process that make it use TLS."""
    paths = {"ca-file": files.ca, "cert": files.certificate, "key": files.key}
    return [word for name, path in paths.items() for word in (f"--tls-{name}", path)]


def module_load(module: str) -> str:
    """Return the line of shell that loads a module, or ends the job."""
    return f"module load {shlex.quote(module)} || exit 1"


def python_command(job: JobSpec) -> list[str]:
    """Return the words that start Python on a compute node."""
    return [*job.container, job.python or ("python" if job.container else sys.executable)]


def _worker_command(
    spec: ClusterSpec, job: JobSpec, *, scheduler: str, name: str, files: CertificateFiles | None
) -> str:
    """Return the command that starts a job's workers."""
    memory_mib = (worker_memory_bytes(spec) or 0) // 2**20
    cuda = ["dask_cuda.cli", "--device-memory-limit", "0"]  # results of our tasks are on the host
    cpu = ["distributed.cli.dask_worker", "--nworkers", str(job.workers), "--nanny"]
    words = [
        *python_command(job), "-m", *(cuda if job.gpus_per_job else cpu), scheduler,
        "--name", name, "--nthreads", str(spec.threads_per_worker),
        "--memory-limit", f"{memory_mib}MiB", "--death-timeout", str(round(job.death_s)),
        "--resources", f"{DEVICE_RESOURCE}={spec.threads_per_worker}",
        "--preload", "deploy.clusters.steady_clock", "--preload", "deploy.batch_jobs.drain",
        *LOOPBACK_DASHBOARD,
        *([] if files is None else tls_options(files)),
        *(["--interface", job.interface] if job.interface else []),
    ]  # fmt: skip
    spill = job.local_directory
    return shlex.join(words) + (f" --local-directory {word_with_variables(spill)}" if spill else "")
