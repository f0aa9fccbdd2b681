"""What a cluster is asked to be: frozen values, checked where they are made. Pure."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Literal, TypeAlias, get_args

from pipeline.base.errors import ClusterError
from pipeline.base.text import clock_text

JobKind: TypeAlias = Literal["slurm", "lsf", "pbs", "sge"]
StartedKind: TypeAlias = Literal["local", "cuda", JobKind]
Kind: TypeAlias = Literal[StartedKind, "address", "scheduler_file"]
JOB_KINDS: tuple[str, ...] = get_args(JobKind)
STARTED_KINDS: tuple[str, ...] = get_args(StartedKind)

CLOSE_S = 5.0
"""A worker that drains is closed this long before its walltime, whatever it still computes."""
START_S = 30.0
"""What a job must have beside its drain, to start a worker and take a block at all."""
DAY_S = 86_400.0


@dataclass(frozen=True, slots=True, kw_only=True)
class JobSpec:
    """One batch job that brings workers, and how many of them there are. All jobs are alike."""

    jobs: int | None = None
    """Always as many; 1 if nothing is said of the number."""
    minimum_jobs: int | None = None
    """With ``maximum_jobs``: as many as there is work for, between these."""
    maximum_jobs: int | None = None
    walltime_s: int = 3600
    drain_s: float | None = None
    """How long before the walltime workers take no more blocks: longer than a block takes. By
    default a tenth of the walltime, at least 30 s and at most 10 minutes."""
    idle_s: float = 60.0
    """Without work for so long, a job above ``minimum_jobs`` ends."""
    death_s: float = 30.0
    """Workers that do not reach their scheduler for so long end themselves, and their job."""
    cpus_per_job: int = 4
    memory_per_job_bytes: int = 16 * 2**30
    gpus_per_job: int = 0
    """Of NVIDIA: each has a dask-cuda worker of its own."""
    workers_per_job: int | None = None
    """Processes that share the job's cores and memory; one per GPU, otherwise 1."""
    queue: str | None = None
    """Slurm's partition; the queue of LSF, PBS and SGE."""
    account: str | None = None
    """Account or project that pays."""
    qos: str | None = None
    gres: str | None = None
    """Of Slurm; by default ``gpu:N`` where a job has GPUs."""
    constraint: str | None = None
    parallel_environment: str = "smp"
    """Of SGE, for jobs of several cores."""
    directives: tuple[str, ...] = ()
    """More options of the batch system, one per line of the script's head, like ``--exclusive``."""
    modules: tuple[str, ...] = ()
    prologue: tuple[str, ...] = ()
    """Lines of shell that a job runs before its workers."""
    container: tuple[str, ...] = ()
    """Goes before the Python command: ``("apptainer", "exec", "--nv", "overtile.sif")``."""
    python: str | None = None
    """Python on the compute nodes; by default this one, in a container ``python``."""
    interface: str | None = None
    """Network interface of scheduler and workers, like ``ib0``."""
    local_directory: str | None = None
    """Where workers spill to; ``$NAME`` is the job's."""
    log_directory: str | None = None
    """Where jobs write their logs: seen from everywhere."""
    job_name: str = "overtile"

    def __post_init__(self) -> None:
        self._check_numbers()
        self._check_texts()
        self._check_gpus()
        if self.jobs is not None and self.maximum_jobs is not None:
            raise ClusterError(
                f"jobs {self.jobs} and maximum_jobs {self.maximum_jobs}: say jobs for a fixed "
                "number, or minimum_jobs and maximum_jobs for as many as there is work for"
            )
        if self.minimum_jobs is not None and self.maximum_jobs is None:
            raise ClusterError(f"minimum_jobs {self.minimum_jobs}: say maximum_jobs too")
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
                "has one worker; leave workers_per_job out"
            )

    def _check_numbers(self) -> None:
        for name, least in _LEAST.items():
            value = getattr(self, name)
            if value is not None and value < least:
                raise ClusterError(f"{name} {value}: give at least {least}")

    def _check_texts(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            for text in value if isinstance(value, tuple) else (value,):
                if isinstance(text, str) and (not text or not text.isprintable()):
                    raise ClusterError(
                        f"{field.name} {text!r}: give one line of text, without control characters"
                    )

        if "/" in self.job_name:
            raise ClusterError(f"job_name {self.job_name!r}: it names a log too, leave out slashes")

    def _check_gpus(self) -> None:
        """Refuse GPUs that Slurm would hold and no worker use."""
        parts = [part.partition("(")[0].split(":") for part in (self.gres or "").split(",")]
        gpus = [words[-1] for words in parts if words[0].removeprefix("gres/") == "gpu"]
        asked = sum(int(count) if count.isdecimal() else 1 for count in gpus)
        if gpus and asked != (self.gpus_per_job or 0):
            raise ClusterError(
                f"gres {self.gres!r} asks for {asked} GPU(s), gpus_per_job says "
                f"{self.gpus_per_job or 0}: give both the same number"
            )

    @property
    def margin_s(self) -> float:
        """How long before the walltime workers take no more blocks."""
        return min(600.0, max(30.0, self.walltime_s / 10)) if self.drain_s is None else self.drain_s

    @property
    def fewest(self) -> int:
        """How many jobs there are at least."""
        return (self.minimum_jobs or 0) if self.maximum_jobs is not None else (self.jobs or 1)

    @property
    def most(self) -> int:
        """How many jobs there are at most."""
        return self.maximum_jobs if self.maximum_jobs is not None else (self.jobs or 1)

    @property
    def workers(self) -> int:
        """How many worker processes a job brings."""
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
    submit jobs that bring them; all end what they started. ``address`` and ``scheduler_file`` name
    a cluster that somebody else started, which goes on afterwards.
    """

    kind: Kind = "local"
    where: str = ""
    """The address, or the scheduler file's path."""
    workers: int | None = None
    """Local processes; by default one per core, eight at most, and as many as there is memory."""
    devices: tuple[str, ...] = ()
    """GPUs of a ``cuda`` cluster, by index or UUID; by default all that are visible."""
    threads_per_worker: int = 3
    """Blocks that a worker has in hand: one reads, one computes, one writes."""
    job: JobSpec | None = None
    """What is submitted; of the kinds that submit something."""
    dashboard: str = "127.0.0.1:8787"
    """Where the dashboard of a scheduler of ours listens; a taken port moves to a free one."""
    scheduler_port: int = 0
    """Where our scheduler listens for workers in jobs; 0 is any free port."""
    timeout_s: float = 10.0
    """How long a scheduler may take to answer."""
    first_worker_s: float | None = None
    """How long the first worker may take to come; by default as long as the scheduler, and a day
    where it waits in a queue."""

    def __post_init__(self) -> None:
        if self.workers is not None and self.workers < 1:
            raise ClusterError(f"{self.workers} workers: give at least one")
        if self.threads_per_worker < 1:
            raise ClusterError(f"{self.threads_per_worker} threads per worker: give at least one")
        if self.kind not in STARTED_KINDS and not self.where:
            raise ClusterError(f"cluster {self.kind}: say where it is")
        if self.workers is not None and self.kind != "local":
            raise ClusterError(
                f"--workers goes with --cluster local; {self.where or self.kind}: "
                f"{_INSTEAD[self.kind]}"
            )
        if (self.kind in JOB_KINDS) != (self.job is not None):
            raise ClusterError(f"cluster {self.kind}: a job is for {', '.join(JOB_KINDS)}")
        for name, kinds in ONLY_OF.items():
            owner = self if hasattr(self, name) else self.job
            if self.kind not in kinds and owner is not None and _is_given(owner, name):
                raise ClusterError(f"{name} goes with cluster {', '.join(kinds)}, not {self.kind}")

    @property
    def first_worker_limit_s(self) -> float:
        """How long the first worker may take to come."""
        if self.first_worker_s is not None:
            return self.first_worker_s
        return DAY_S if self.job else self.timeout_s


ONLY_OF: dict[str, tuple[str, ...]] = {
    "devices": ("cuda",), "workers": ("local",), "scheduler_port": JOB_KINDS,
    **dict.fromkeys(("qos", "gres", "constraint"), ("slurm",)), "parallel_environment": ("sge",),
}  # fmt: skip
"""Fields that not every kind of cluster has."""


def _is_given(owner: ClusterSpec | JobSpec, name: str) -> bool:
    """Return whether a field has another value than its default."""
    default = next(field.default for field in fields(owner) if field.name == name)
    return bool(getattr(owner, name) != default)


_INSTEAD: dict[str, str] = {
    "cuda": "it has one per GPU; choose these by devices",
    **dict.fromkeys(JOB_KINDS, "say jobs and workers_per_job"),
    **dict.fromkeys(("address", "scheduler_file"), "it has the workers it has"),
}
