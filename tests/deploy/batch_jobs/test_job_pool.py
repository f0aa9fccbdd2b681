"""Jobs are neither lost nor doubled while the batch system does not answer."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace

import pytest

from deploy.batch_jobs import batch_system
from deploy.batch_jobs.batch_system import BatchSystem, LostSubmissionError, NoAnswerError
from deploy.batch_jobs.departure import Departure
from deploy.batch_jobs.job_pool import JobPool, PoolConfig
from deploy.batch_jobs.logs import last_error
from deploy.clusters.spec import JobSpec
from pipeline.base.errors import ClusterError

JOB = JobSpec(minimum_jobs=0, maximum_jobs=2)


class Slurm(BatchSystem):
    """Slurm's commands, of which some are not answered."""

    def __init__(self):
        super().__init__("slurm", follows=True)
        self.silent, self.jobs, self.cluster = frozenset(), {}, ""

    def _call(self, command, *, text=""):
        name, *words = command
        if name == "sbatch":
            number = str(100 + len(self.jobs))
            self.jobs[number] = words[0].partition("=")[2]
        if name in self.silent:
            raise NoAnswerError(f"{name} did not answer within 60 s")
        if name == "sbatch":
            return f"Submitted batch job {number}{self.cluster}\n"
        if name == "squeue":
            return "".join(f"{job}|{mark}\n" for job, mark in self.jobs.items())
        for word in words:
            self.jobs.pop(word, None)
        return ""


class Watched:
    """The jobs that the watchdog would cancel at the end."""

    def __init__(self):
        self.jobs = set()
        self.add, self.remove = self.jobs.add, self.jobs.discard


@pytest.fixture
def slurm(monkeypatch):
    monkeypatch.setattr(batch_system, "LOOK_AFTER_S", (0.0,))
    return Slurm()


@pytest.fixture
def pool(slurm):
    config = PoolConfig(
        job=JOB, slots=1, name="p", render=lambda name: "#!/bin/bash\n", logs=Path("/")
    )
    return JobPool(
        SimpleNamespace(), slurm, Watched(), config=config, report=lambda line: None,
        on_failure=lambda: None,
    )  # fmt: skip


def test_a_job_that_cannot_be_cancelled_is_cancelled_later(pool, slurm):
    job_id = slurm.submit("#!/bin/bash\n")
    pool._add("p-1", job_id)
    slurm.silent = {"scancel"}
    pool._drop(pool.records)
    assert (pool.records, pool._watchdog.jobs, set(slurm.jobs)) == ((), {job_id}, {job_id})
    slurm.silent = frozenset()
    pool._cancel()
    assert (pool._watchdog.jobs, slurm.jobs) == (set(), {})


def test_a_job_whose_submission_was_not_answered_is_taken_in_before_another_is_submitted(
    pool, slurm
):
    slurm.silent = {"sbatch", "squeue"}
    for _ in range(2):
        with pytest.raises(LostSubmissionError, match="comment overtile-"):
            pool._submit()
    assert len(slurm.jobs) == 1, "not submitted again while the first one may be there"
    slurm.silent = frozenset()
    pool._submit()
    assert [record.job_id for record in pool.records] == list(slurm.jobs)
    assert pool.records[0].name == "p-1"
    pool._submit()
    assert pool._watchdog.jobs == set(slurm.jobs)
    assert [record.name for record in pool.records] == ["p-1", "p-2"]


def test_a_lost_job_is_reported_to_the_watchdog_at_the_end(pool, slurm, monkeypatch):
    slurm.silent = {"sbatch", "squeue"}
    with pytest.raises(LostSubmissionError):
        pool._submit()
    slurm.silent = frozenset()
    monkeypatch.setattr(pool, "join", lambda: None)
    pool.__exit__(None, None, None)
    assert pool._watchdog.jobs == set(slurm.jobs) != set()


def test_jobs_of_another_cluster_are_refused_and_none_is_left(slurm, monkeypatch):
    slurm.cluster = " on cluster c2"
    with pytest.raises(ClusterError, match=r"go to the Slurm cluster c2, .*: unset SBATCH_"):
        slurm.submit("#!/bin/bash\n")
    assert slurm.jobs == {}


def test_a_block_longer_than_a_job_is_noticed_however_many_workers_have_left(pool):
    """Dask keeps the last 1,000 events."""
    good = Departure(name="w", tasks_done=5, ran_s=0, life_s=100)
    wasted = Departure(name="w", tasks_done=0, ran_s=90, life_s=100)
    events = [(float(number), asdict(good)) for number in range(1000)]
    pool._check_departures(events)
    for number in range(2):
        events = [*events[1:], (1000.0 + number, asdict(wasted))]
        assert pool.failure is None
        pool._check_departures(events)
    assert pool.is_too_short
    assert "a block did not finish within 90 s" in pool.failure


def test_the_log_of_a_job_is_its_own(tmp_path):
    (tmp_path / "overtile-117.log").write_text("own\n")
    (tmp_path / "overtile-4117.log").write_text("of another\n")
    assert last_error(tmp_path, "117").startswith("own (")
    assert last_error(tmp_path, "17") == f"no log in {tmp_path}"
