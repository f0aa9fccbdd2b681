"""Checks of a cluster before a run: real workers, each with one difference."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time

import cloudpickle
import pytest
from distributed import Client

from deploy import open_cluster
from deploy.preflight.ask import Reply, _clocks, _Outcome, run_checks
from deploy.preflight.findings import Check, Failure, Finding, refuse_errors
from deploy.preflight.process_checks import installed_versions, version_findings
from pipeline.base.errors import ClusterError
from pipeline.base.workers import workers_of

cloudpickle.register_pickle_by_value(sys.modules[__name__])  # workers cannot import the tests


def levels(findings):
    return {finding.check: finding.level for finding in findings}


def test_a_sound_cluster_passes_within_five_seconds(three_workers):
    run_checks(three_workers)  # workers import what they are asked, once
    start = time.monotonic()
    findings = run_checks(three_workers)
    assert time.monotonic() - start < 5
    assert levels(findings) == {"clocks": "fine", "versions": "fine", "packages": "fine"}
    refuse_errors(findings)
    assert all("\n" not in finding.text for finding in findings)


def test_a_frozen_worker_is_reported_and_delays_no_other(three_workers, monkeypatch):
    silence_s = 1.5
    monkeypatch.setattr("deploy.preflight.ask.SILENCE_S", silence_s)
    pids = three_workers.run(os.getpid)
    name = next(iter(three_workers.scheduler_info(n_workers=-1)["workers"].values()))["name"]
    (address,) = (
        one for one, record in three_workers.scheduler_info(n_workers=-1)["workers"].items()
        if record["name"] == name
    )  # fmt: skip
    os.kill(pids[address], signal.SIGSTOP)
    try:
        start = time.monotonic()
        findings = run_checks(three_workers, within_s=2.0)
        assert time.monotonic() - start < 2 + silence_s + 3
    finally:
        os.kill(pids[address], signal.SIGCONT)
    (silent,) = [finding for finding in findings if finding.check == "answers"]
    assert silent.level == "warning"
    assert silent.text.startswith(f"worker {name} on 127.0.0.1 did not answer")
    assert levels(findings)["versions"] == "fine", "the others were heard"


def test_a_question_that_fails_or_hangs_on_a_worker_is_reported(one_worker):
    def hang():
        time.sleep(9)

    heard = []

    def judge(answers):
        heard.extend(answers.values())
        return ()

    fails = Check(name="fails", ask=lambda: 1 / 0, judge=judge)
    hangs = Check(name="disk", ask=hang, judge=judge)
    findings = run_checks(one_worker, [fails, hangs], within_s=2.0)
    assert heard == [Failure("ZeroDivisionError: division by zero")]
    (slow,) = [finding for finding in findings if finding.check == "disk"]
    assert slow.level == "warning", "a busy worker does not keep a run from starting"
    assert "did not report its disk within 2 s" in slow.text


@pytest.mark.parametrize("noticed_late", [False, True])
def test_the_worker_that_replaces_the_only_one_is_asked_too(noticed_late, monkeypatch, tmp_path):
    asked, seen = tmp_path / "asked", []

    def end_the_first_time():
        if not asked.exists():
            asked.touch()
            os.kill(os.getpid(), signal.SIGKILL)

    def still_there(client):
        seen.append(present if len(seen) < 3 else workers_of(client))
        return seen[-1]

    ends = Check(name="ends", ask=end_the_first_time, judge=lambda answers: ())
    with open_cluster("local", workers=1, dashboard=":0") as client:  # restores the environment
        present = workers_of(client)
        if noticed_late:
            monkeypatch.setattr("deploy.preflight.ask.workers_of", still_there)
        findings = run_checks(client, [ends])
    assert asked.exists()
    assert "answers" not in levels(findings)
    assert levels(findings)["versions"] == "fine"
    refuse_errors(findings)


ODD = {
    "old dask": (
        {"dask-2025.1.0.dist-info/METADATA": "Name: dask\nVersion: 2025.1.0"},
        "versions", r"has dask 2025\.1\.0, this machine 2026.*: install the same version",
    ),
    "second owner": (
        {"thief-1.0.dist-info/METADATA": "Name: thief\nVersion: 1.0",
         "thief-1.0.dist-info/top_level.txt": "flows\n"},
        "packages", r"has 'flows' from thief as well as from overtile: pip uninstall thief",
    ),
    "folder in the way": (
        {"unet/__init__.py": ""}, "packages", r"imports the package 'unet' from .*/unet, not from",
    ),
    "no overtile": (
        {"deploy.py": ""}, "packages",
        r"cannot run this overtile \(.*No module named 'deploy\.preflight'.*\): install it in",
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def odd_cluster(tmp_path_factory):
    """Return a client of one sound worker and one of each kind in ODD."""
    folder = tmp_path_factory.mktemp("odd")
    with Client(
        n_workers=0, dashboard_address=None, host="127.0.0.1", set_as_default=False
    ) as client:
        processes = []
        for number, name in enumerate(["sound", *ODD]):
            place = folder / f"{number}"
            place.mkdir()
            for path, text in ODD[name][0].items() if name in ODD else ():
                (place / path).parent.mkdir(exist_ok=True)
                (place / path).write_text(text)
            command = [
                sys.executable, "-P", "-m", "distributed.cli.dask_worker",
                client.scheduler.address, "--name", name, "--nthreads", "1",
                "--host", "127.0.0.1", "--no-dashboard", "--no-nanny",
            ]  # fmt: skip
            processes.append(
                subprocess.Popen(
                    command,
                    env={**os.environ, "PYTHONPATH": str(place)},
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                )
            )
        client.wait_for_workers(len(processes), timeout=180)
        yield client
        for process in processes:
            process.kill()
            process.wait()


@pytest.fixture(scope="module")
def odd_findings(odd_cluster):
    return run_checks(odd_cluster)


@pytest.mark.parametrize("name", ODD)
def test_a_differing_worker_is_an_error_that_names_it_and_the_remedy(name, odd_findings):
    _, check, says = ODD[name]
    (text,) = (
        finding.text for finding in odd_findings
        if finding.level == "error" and f"worker {name} on" in finding.text
    )  # fmt: skip
    assert levels([f for f in odd_findings if f.text == text]) == {check: "error"}
    assert re.search(says, text), text
    assert "\n" not in text


def test_a_sound_worker_beside_others_is_not_named(odd_findings):
    assert not [finding for finding in odd_findings if "worker sound on" in finding.text]


def test_errors_are_raised_in_one_line_that_counts_the_others(odd_findings):
    with pytest.raises(ClusterError, match=r"\(and 3 more: overtile preflight\)$") as caught:
        refuse_errors(odd_findings)
    assert "\n" not in str(caught.value)
    refuse_errors([Finding(level="warning", check="clocks", text="late")])


def version_levels(changed, *, who="worker a on b"):
    answers = {who: {**installed_versions(), **changed}}
    return [finding.level for finding in version_findings(installed_versions(), answers)]


@pytest.mark.parametrize(
    ("changed", "level"),
    [
        ({}, "fine"),
        ({"torch": installed_versions()["torch"].split("+")[0] + "+cu130"}, "fine"),
        ({"numpy": ".".join([*installed_versions()["numpy"].split(".")[:2], "99"])}, "warning"),
        ({"numpy": "1.26.0"}, "error"),
        ({"python": "3.9.1"}, "error"),
        ({"distributed": ".".join([*installed_versions()["distributed"].split(".")[:2], "99"])},
         "error"),
        ({"overtile": "not installed"}, "error"),
        ({"torch": "not installed"}, "error"),
    ],
)  # fmt: skip
def test_different_versions_are_errors_third_numbers_warnings_builds_nothing(changed, level):
    assert version_levels(changed) == [level]


def test_a_scheduler_needs_no_torch():
    assert version_levels({"torch": "not installed"}, who="the scheduler") == ["fine"]


@pytest.mark.parametrize(
    ("came_at", "said"), [(100.5, "fine"), (109.0, "warning"), (91.0, "warning")]
)
def test_a_clock_difference_counts_only_beyond_the_travel_time_of_the_message(came_at, said):
    reply = Reply(answers={}, executable="", came_at=came_at, left_at=came_at + 1)
    heard = {"worker a on b": _Outcome(reply, 100.0, 102.0)}
    (finding,) = _clocks(heard)
    assert finding.level == said
    slow = {"worker a on b": _Outcome(reply, 60.0, 142.0)}
    assert [finding.level for finding in _clocks(slow)] == ["fine"]
