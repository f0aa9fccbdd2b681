"""Specifications of clusters and batch jobs: frozen values, checked on creation. Pure."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import Literal, TypeAlias, get_args

from pipeline.base.errors import ClusterError
from pipeline.base.text import brief, clock_text

from .written_options import check_skipped, stated_memory_bytes

JobKind: TypeAlias = Literal["slurm", "lsf", "pbs", "sge"]
StartedKind: TypeAlias = Literal["local", "cuda", JobKind]
Kind: TypeAlias = Literal[StartedKind, "address", "scheduler_file"]
JOB_KINDS: tuple[str, ...] = get_args(JobKind)
STARTED_KINDS: tuple[str, ...] = get_args(StartedKind)

CLOSE_S = 5.0
"""A draining worker is closed this long before its walltime, even if a task still runs."""
START_S = 30.0
"""A job needs this much time in addition to its drain, to start a worker and a first block."""
DAY_S = 86_400.0


@dataclass(frozen=True, slots=True, kw_only=True)
class JobSpec:
    """A batch job that runs workers, and how many such jobs there are. All jobs are alike."""

    jobs: int | None = None
    """A fixed number of jobs; default 1."""
    minimum_jobs: int | None = None
    """With ``maximum_jobs``: between these, as many jobs as there is work for."""
    maximum_jobs: int | None = None
    walltime_s: int = 3600
    drain_s: float | None = None
    """Workers accept no more blocks this long before the walltime; should exceed the time of a
    block. Default: a tenth of the walltime, at least 30 s and at most 10 minutes."""
    idle_s: float = 60.0
    """A job beyond ``minimum_jobs`` ends after being idle for this long."""
    death_s: float = 30.0
    """Workers, and their job, end if they cannot reach their scheduler for this long."""
    cpus_per_job: int = 4
    memory_per_job_bytes: int = 16 * 2**30
    gpus_per_job: int = 0
    """NVIDIA GPUs; one dask-cuda worker each."""
    workers_per_job: int | None = None
    """Processes that share the job's cores and memory; default one per GPU, otherwise 1."""
    queue: str | None = None
    """Slurm's partition; the queue of LSF, PBS and SGE."""
    account: str | None = None
    """Account or project to charge."""
    qos: str | None = None
    gres: str | None = None
    """For Slurm; default ``gpu:N`` if ``gpus_per_job`` is N."""
    constraint: str | None = None
    parallel_environment: str = "smp"
    """For SGE, in jobs with several cores."""
    directives: tuple[str, ...] = ()
    """Further options of the batch system, one per directive, like ``--exclusive``. They replace
    our line of the same option; ``--mem-per-cpu`` replaces ``--mem``."""
    skip_directives: tuple[str, ...] = ()
    """Options that are left out of the script, like ``--mem``."""
    modules: tuple[str, ...] = ()
    prologue: tuple[str, ...] = ()
    """Shell lines that a job runs before its workers."""
    container: tuple[str, ...] = ()
    """Prefix of the Python command: ``("apptainer", "exec", "--nv", "overtile.sif")``."""
    python: str | None = None
    """Python on the compute nodes; default this interpreter, in a container ``python``."""
    interface: str | None = None
    """Network interface of scheduler and workers, like ``ib0``."""
    local_directory: str | None = None
    """Folder to which workers spill; ``$NAME`` is expanded in the job."""
    log_directory: str | None = None
    """Folder of the jobs' logs; must be visible from all nodes."""
    job_name: str = "overtile"

    def __post_init__(self) -> None:
        self._check_numbers()
        self._check_texts()
        self._check_gpus()
        if self.jobs is not None and self.maximum_jobs is not None:
            raise ClusterError(
                f"jobs {self.jobs} and maximum_jobs {self.maximum_jobs}: set jobs for a fixed "
                "number, or minimum_jobs and maximum_jobs for a number that follows the work"
            )
        if self.minimum_jobs is not None and self.maximum_jobs is None:
            raise ClusterError(f"minimum_jobs {self.minimum_jobs}: set maximum_jobs too")
        if self.fewest > self.most:
            raise ClusterError(
                f"minimum_jobs {self.fewest} is more than maximum_jobs {self.most}: swap them"
            )
        if self.walltime_s < self.margin_s + START_S:
            raise ClusterError(
                f"walltime {clock_text(self.walltime_s)} leaves no time for a block: workers "
                f"take none in its last {self.margin_s:.0f} s (drain_s) and need {START_S:.0f} s "
                "to start; ask for a longer walltime"
            )
        if self.gpus_per_job and self.workers_per_job not in (None, self.gpus_per_job):
            raise ClusterError(
                f"workers_per_job {self.workers_per_job} with {self.gpus_per_job} GPUs: each GPU "
                "has one worker; remove workers_per_job"
            )

    def _check_numbers(self) -> None:
        for name, least in _LEAST.items():
            value = getattr(self, name)
            if value is not None and not least <= value < math.inf:
                raise ClusterError(f"{name} {brief(value)}: expected at least {least}")

    def _check_texts(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            for text in value if isinstance(value, tuple) else (value,):
                if isinstance(text, str) and (not text or not text.isprintable()):
                    raise ClusterError(
                        f"{field.name} {text!r}: expected one line without control characters"
                    )

        if "/" in self.job_name:
            raise ClusterError(
                f"job_name {self.job_name!r}: remove the slashes, it names a log too"
            )

    def _check_gpus(self) -> None:
        """Reject GPUs that Slurm would reserve and no worker would use."""
        parts = [part.partition("(")[0].split(":") for part in (self.gres or "").split(",")]
        gpus = [words[-1] for words in parts if words[0].removeprefix("gres/") == "gpu"]
        requested = sum(int(count) if count.isdecimal() else 1 for count in gpus)
        if gpus and requested != (self.gpus_per_job or 0):
            raise ClusterError(
                f"gres {self.gres!r} requests {requested} GPU(s), gpus_per_job "
                f"{self.gpus_per_job or 0}: set both to the same number"
            )

    @property
    def margin_s(self) -> float:
        """How long before the walltime workers stop accepting blocks."""
        return min(600.0, max(30.0, self.walltime_s / 10)) if self.drain_s is None else self.drain_s

    @property
    def memory_bytes(self) -> int:
        """Memory of a job, for its workers: that of the directives, if they request some."""
        stated = stated_memory_bytes(self.directives, cpus=self.cpus_per_job)
        return stated or self.memory_per_job_bytes

    @property
    def fewest(self) -> int:
        """Minimum number of jobs."""
        return (self.minimum_jobs or 0) if self.maximum_jobs is not None else (self.jobs or 1)

    @property
    def most(self) -> int:
        """Maximum number of jobs."""
        return self.maximum_jobs if self.maximum_jobs is not None else (self.jobs or 1)

    @property
    def workers(self) -> int:
        """Number of worker processes in a job."""
        return self.gpus_per_job or self.workers_per_job or 1


_LEAST = {
    "jobs": 1, "minimum_jobs": 0, "maximum_jobs": 1, "walltime_s": 60, "drain_s": CLOSE_S + 5,
    "idle_s": 1, "death_s": 5, "cpus_per_job": 1, "memory_per_job_bytes": 2**28, "gpus_per_job": 0,
    "workers_per_job": 1,
}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterSpec:
    """Where a run's workers are.

    ``local`` and ``cuda`` start worker processes here; ``slurm``, ``lsf``, ``pbs`` and ``sge``
    submit jobs that start them; all stop what they started. ``address`` and ``scheduler_file`` name
    an existing cluster, which keeps running afterwards.
    """

    kind: Kind = "local"
    where: str = ""
    """The address, or the scheduler file's path."""
    workers: int | None = None
    """Local processes; default one per core, at most eight, and limited by the memory."""
    devices: tuple[str, ...] = ()
    """GPUs of a ``cuda`` cluster, by index or UUID; default all visible ones."""
    threads_per_worker: int = 3
    """Blocks that a worker processes at a time: one is read, one computed, one written."""
    job: JobSpec | None = None
    """The job to submit, for batch systems."""
    dashboard: str = "127.0.0.1:8787"
    """Address of the dashboard; if the port is in use, a free one is taken."""
    scheduler_port: int = 0
    """Port on which the scheduler accepts workers in jobs; 0 is any free port."""
    tls: str | None = None
    """``auto``, ``off``, a folder with ca.pem, cert.pem and key.pem, or three paths with commas
    between them. Default: ``auto`` where the cluster is started here; else Dask's own settings."""
    timeout_s: float = 10.0
    """Timeout for an answer of the scheduler."""
    first_worker_s: float | None = None
    """Timeout for the first worker; default ``timeout_s``, and a day if it waits in a queue."""

    def __post_init__(self) -> None:
        for name, (least, most) in _RANGES.items():
            value = getattr(self, name)
            if value is not None and not least <= value <= most:
                bound = f"most {most:,}" if value > most else f"least {least}"
                raise ClusterError(f"{name} {brief(value)}: expected at {bound}")
        if self.kind not in STARTED_KINDS and not self.where:
            raise ClusterError(f"cluster {self.kind}: set its address or file")
        if self.workers is not None and self.kind != "local":
            raise ClusterError(
                f"--workers applies to --cluster local only; {self.where or self.kind}: "
                f"{_INSTEAD[self.kind]}"
            )
        if (self.kind in JOB_KINDS) != (self.job is not None):
            raise ClusterError(f"cluster {self.kind}: only {', '.join(JOB_KINDS)} have a job")
        if self.job is not None:
            check_skipped(self.job.skip_directives, kind=self.kind)
        if self.kind not in STARTED_KINDS and self.tls == "auto":
            raise ClusterError(
                f"tls auto: {self.where} is already running; pass the folder of its certificates"
            )
        for name, kinds in ONLY_OF.items():
            owner = self if hasattr(self, name) else self.job
            if self.kind not in kinds and owner is not None and _is_given(owner, name):
                raise ClusterError(f"{name} applies to cluster {', '.join(kinds)}, not {self.kind}")

    @property
    def first_worker_limit_s(self) -> float:
        """How long a run waits for its first worker."""
        if self.first_worker_s is not None:
            return self.first_worker_s
        return DAY_S if self.job else self.timeout_s


_RANGES: dict[str, tuple[float, int]] = {
    "workers": (1, 1024), "threads_per_worker": (1, 1024), "scheduler_port": (0, 65_535),
    "timeout_s": (0.1, 86_400), "first_worker_s": (0.1, 10**8),
}  # fmt: skip
"""Least and largest value."""

ONLY_OF: dict[str, tuple[str, ...]] = {
    "devices": ("cuda",), "workers": ("local",), "scheduler_port": JOB_KINDS,
    **dict.fromkeys(("qos", "gres", "constraint"), ("slurm",)), "parallel_environment": ("sge",),
}  # fmt: skip
"""Fields of some kinds of cluster only."""


def _is_given(owner: ClusterSpec | JobSpec, name: str) -> bool:
    """Return whether a field differs from its default."""
    default = next(field.default for field in fields(owner) if field.name == name)
    return bool(getattr(owner, name) != default)


_INSTEAD: dict[str, str] = {
    "cuda": "one worker per GPU; set devices",
    **dict.fromkeys(JOB_KINDS, "set jobs and workers_per_job in a profile"),
    **dict.fromkeys(("address", "scheduler_file"), "its workers are already running"),
}
