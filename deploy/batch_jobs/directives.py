"""The head of a batch script: what a job requests, as directives of its batch system.

Pure text. Every value of a profile is quoted, except the lines in ``JobSpec.directives``.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Sequence
from functools import partial

from pipeline.base.text import clock_text

from ..clusters.spec import JobSpec
from ..clusters.written_options import kept_lines

PREFIXES = {"slurm": "#SBATCH", "lsf": "#BSUB", "pbs": "#PBS", "sge": "#$"}


def directives(
    job: JobSpec,
    *,
    kind: str,
    logs: str,
    nodes: int = 1,
    tasks: int | None = None,
    more: Sequence[str] = (),
    lsf_unit: int = 1024,
) -> list[str]:
    """Return the lines that request a job, those of the profile last, which replace ours.

    kind: the batch system. logs: folder of the job's log. nodes: each brings what ``job`` states.
    tasks: size of a job array, numbered from 1; by default a single job. more: further options.
    lsf_unit: bytes of the unit of LSF's memory limit.
    Only Slurm supports several nodes and arrays.
    """
    assert kind == "slurm" or (nodes == 1 and tasks is None)
    if kind == "slurm":
        options = _slurm(job, logs, nodes=nodes, tasks=tasks)
    else:
        heads: dict[str, Callable[[JobSpec, str], list[str]]] = {
            "lsf": partial(_lsf, unit=lsf_unit), "pbs": _pbs, "sge": _sge
        }  # fmt: skip
        options = heads[kind](job, shlex.quote(logs))
    kept = kept_lines(
        (*options, *more), kind=kind, directives=job.directives, skip=job.skip_directives
    )
    return [f"{PREFIXES[kind]} {option}" for option in (*kept, *job.directives)]


def _slurm(job: JobSpec, logs: str, *, nodes: int, tasks: int | None) -> list[str]:
    gres = job.gres or (f"gpu:{job.gpus_per_job}" if job.gpus_per_job else None)
    texts = {
        "job-name": job.job_name, "partition": job.queue, "account": job.account, "qos": job.qos,
        "gres": gres, "constraint": job.constraint,
    }  # fmt: skip
    folder = shlex.quote(logs.replace("%", "%%"))  # in the name of a log, % begins a pattern
    return [
        *(f"--{name}={shlex.quote(text)}" for name, text in texts.items() if text is not None),
        f"--nodes={nodes}",
        "--ntasks-per-node=1",
        f"--cpus-per-task={job.cpus_per_job}",
        f"--mem={_mib(job)}M",
        f"--time={clock_text(job.walltime_s)}",
        *([] if tasks is None else [f"--array=1-{tasks}"]),
        f"--output={folder}/{'%x-%j' if tasks is None else '%x-%A_%a'}.log",
    ]


def _lsf(job: JobSpec, logs: str, *, unit: int) -> list[str]:
    name = shlex.quote(job.job_name)
    return [
        f"-J {name}",
        *_optional(q=job.queue, P=job.account),
        f"-n {job.cpus_per_job}",
        *(['-R "span[hosts=1]"'] if job.cpus_per_job > 1 else []),
        f"-M {-(-job.memory_per_job_bytes // unit)}",
        f"-W {clock_text(job.walltime_s + 59)[:-3]}",  # LSF counts minutes
        f"-o {logs}/{name}-%J.log",
        *([f'-gpu "num={job.gpus_per_job}"'] if job.gpus_per_job else []),
    ]


def _pbs(job: JobSpec, logs: str) -> list[str]:
    gpus = f":ngpus={job.gpus_per_job}" if job.gpus_per_job else ""
    return [
        f"-N {shlex.quote(job.job_name)}",
        *_optional(q=job.queue, A=job.account),
        f"-l select=1:ncpus={job.cpus_per_job}:mem={_mib(job)}mb{gpus}",
        f"-l walltime={clock_text(job.walltime_s)}",
        "-S /bin/bash",
        "-j oe",
        f"-o {logs}/",
    ]


def _sge(job: JobSpec, logs: str) -> list[str]:
    cores = f"-pe {shlex.quote(job.parallel_environment)} {job.cpus_per_job}"
    return [
        f"-N {shlex.quote(job.job_name)}",
        *_optional(q=job.queue, P=job.account),
        f"-l h_rt={clock_text(job.walltime_s)}",
        "-cwd",
        "-j y",
        "-S /bin/bash",
        f"-o {logs}/",
        *([cores] if job.cpus_per_job > 1 else []),
        *([f"-l gpu={job.gpus_per_job}"] if job.gpus_per_job else []),
    ]


def _optional(**texts: str | None) -> list[str]:
    """Return ``-LETTER VALUE`` for every value that is set."""
    return [f"-{letter} {shlex.quote(text)}" for letter, text in texts.items() if text is not None]


def _mib(job: JobSpec) -> int:
    return -(-job.memory_per_job_bytes // 2**20)
