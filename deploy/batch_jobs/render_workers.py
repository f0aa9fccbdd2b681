"""Batch jobs as text: what dask-jobqueue is told, and the script that it makes of it.

Nothing is submitted here. Every value that reaches a shell is quoted.
"""

from __future__ import annotations

import shlex
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.base.scheduling import DEVICE_RESOURCE
from pipeline.base.text import clock_text

from ..clusters.local import KEPT_MEMORY, torch_threads
from ..clusters.spec import CLOSE_S, ClusterSpec, JobSpec
from .quoting import word_with_variables, words

if TYPE_CHECKING:
    from dask_jobqueue.core import Job

_JOBS = {
    "slurm": ("dask_jobqueue.slurm", "SLURMJob"),
    "lsf": ("dask_jobqueue.lsf", "LSFJob"),
    "pbs": ("dask_jobqueue.pbs", "PBSJob"),
    "sge": ("dask_jobqueue.sge", "SGEJob"),
}


def job_class(kind: str) -> type[Job]:
    """Return dask-jobqueue's class for a batch system."""
    module, name = _JOBS[kind]
    with _signals_left_alone():
        found: type[Job] = getattr(import_module(module), name)
    return found


@contextmanager
def _signals_left_alone() -> Iterator[None]:
    """Let nobody set a signal handler while inside.

    dask-jobqueue 0.9.0 takes Ctrl-C for itself when it is imported (dask-jobqueue#696), and for
    that reason can be imported by the main thread only (#667).
    """
    set_handler = signal.signal
    signal.signal = lambda number, handler: signal.getsignal(number)  # type: ignore[assignment]
    try:
        yield
    finally:
        signal.signal = set_handler


def render_job(spec: ClusterSpec, *, scheduler: str, name: str, logs: Path) -> str:
    """Return the script of one job.

    scheduler: the address that its workers connect to. name: theirs; with several workers each has
    a number behind it. logs: the folder of its log.
    """
    assert spec.job is not None
    job = job_class(spec.kind)(scheduler, name=name, **_arguments(spec, spec.job, logs))
    script: str = job.job_script()
    return script


def _arguments(spec: ClusterSpec, job: JobSpec, logs: Path) -> dict[str, Any]:
    """Return what dask-jobqueue is told of every batch system, and of this one."""
    own = {"slurm": _slurm, "lsf": _lsf, "pbs": _pbs, "sge": _sge}[spec.kind]
    special, directives = own(job, shlex.quote(str(logs)))
    return {
        **special,
        "job_name": shlex.quote(job.job_name),
        "queue": None if job.queue is None else shlex.quote(job.queue),
        "cores": job.workers * spec.threads_per_worker,
        "processes": job.workers,
        "memory": f"{job.memory_per_job_bytes * 7 // 8}B",  # of the workers; the rest is for Python
        "job_extra_directives": [*directives, *job.directives],
        "job_directives_skip": (),
        "job_script_prologue": prologue(job),
        "python": _python(job),
        "worker_command": "dask_cuda.cli" if job.gpus_per_job else "distributed.cli.dask_worker",
        "worker_extra_args": _worker_options(spec, job),
        "death_timeout": round(job.death_s),
        "local_directory": job.local_directory and word_with_variables(job.local_directory),
        "log_directory": None,  # said in our directives: dask-jobqueue would not quote it
        "nanny": True,
        "shebang": "#!/usr/bin/env bash",
    }


def _worker_options(spec: ClusterSpec, job: JobSpec) -> list[str]:
    options = [
        f"--resources {DEVICE_RESOURCE}={spec.threads_per_worker}",
        "--preload deploy.batch_jobs.drain",
    ]
    if job.gpus_per_job:
        options.append("--device-memory-limit 0")  # what our tasks return lies on the host
    if job.interface is not None:
        options.append(f"--interface {shlex.quote(job.interface)}")
    return options


def _python(job: JobSpec) -> str:
    """Return the Python command of the compute nodes."""
    if job.container:
        return f"{words(job.container)} {shlex.quote(job.python or 'python')}"
    return shlex.quote(job.python or sys.executable)


def prologue(job: JobSpec) -> list[str]:
    """Return the lines of shell before the workers: the user's own have the last word."""
    ends_at = f"$(($(date +%s) + {job.walltime_s}))"  # before modules, which may take their time
    exports = {
        "PYTHONSAFEPATH": "1",  # a folder pipeline/ in the job's directory is not our package
        **torch_threads(max(1, job.cpus_per_job // job.workers)),
        "DASK_DISTRIBUTED__WORKER__DAEMON": "False",
        **KEPT_MEMORY,
        "OVERTILE_DRAIN_S": f"{job.margin_s:g}",
        "OVERTILE_CLOSE_S": f"{CLOSE_S:g}",
    }
    if job.gpus_per_job:
        exports["OVERTILE_NEEDS_GPU"] = "1"
    return [
        "ulimit -c 0",  # a worker that is cut at its walltime leaves no file of its memory
        f"export OVERTILE_JOB_ENDS_AT={ends_at}",
        *(module_load(module) for module in job.modules),
        *(f"export {name}={value}" for name, value in exports.items()),  # a module may set OMP's
        *job.prologue,
    ]


def module_load(module: str) -> str:
    """Return the line of shell that loads a module, or ends the job."""
    return f"module load {shlex.quote(module)} || exit 1"


def _slurm(job: JobSpec, logs: str) -> tuple[dict[str, Any], list[str]]:
    logs = logs.replace("%", "%%")  # in the name of a log, % begins a pattern
    gres = job.gres or (f"gpu:{job.gpus_per_job}" if job.gpus_per_job else None)
    options = {"qos": job.qos, "gres": gres, "constraint": job.constraint}
    given = [f"--{name}={shlex.quote(value)}" for name, value in options.items() if value]
    special = {
        "account": job.account and shlex.quote(job.account),
        "job_cpu": job.cpus_per_job,
        "job_mem": f"{-(-job.memory_per_job_bytes // 2**20)}M",
        "walltime": clock_text(job.walltime_s),
    }
    return special, [f"--output={logs}/%x-%j.log", *given]


def _lsf(job: JobSpec, logs: str) -> tuple[dict[str, Any], list[str]]:
    special = {
        "project": job.account,  # dask-jobqueue quotes it
        "ncpus": job.cpus_per_job,
        "mem": job.memory_per_job_bytes,
        "lsf_units": "mb",
        "walltime": clock_text(job.walltime_s + 59)[:-3],  # LSF counts minutes
        "use_stdin": True,
    }
    gpus = [f'-gpu "num={job.gpus_per_job}"'] if job.gpus_per_job else []
    return special, [f"-o {logs}/{shlex.quote(job.job_name)}-%J.log", *gpus]


def _pbs(job: JobSpec, logs: str) -> tuple[dict[str, Any], list[str]]:
    memory_mb = -(-job.memory_per_job_bytes // 2**20)
    chunk = f"select=1:ncpus={job.cpus_per_job}:mem={memory_mb}mb"
    special = {
        "account": job.account and shlex.quote(job.account),
        "resource_spec": chunk + (f":ngpus={job.gpus_per_job}" if job.gpus_per_job else ""),
        "walltime": clock_text(job.walltime_s),
    }
    return special, ["-S /bin/bash", "-j oe", f"-o {logs}/"]


def _sge(job: JobSpec, logs: str) -> tuple[dict[str, Any], list[str]]:
    special = {
        "project": job.account and shlex.quote(job.account),
        "walltime": clock_text(job.walltime_s),
    }
    several = [f"-pe {shlex.quote(job.parallel_environment)} {job.cpus_per_job}"]
    gpus = [f"-l gpu={job.gpus_per_job}"] if job.gpus_per_job else []
    head = ["-S /bin/bash", f"-o {logs}/"]
    return special, [*head, *(several if job.cpus_per_job > 1 else []), *gpus]
