"""Records of processes on a home that several machines and users share."""

import os
import subprocess
import sys
import time
from dataclasses import asdict, replace

import pytest

from deploy.processes.background import Background
from deploy.processes.identity import ProcessIdentity, identify, read_record
from deploy.processes.limits import explained_limits
from pipeline.base.errors import ClusterError

SINCE = "2026-11-29T01:00:00"


@pytest.fixture
def bystander():
    """Run a process that no record means; it starts in another tick of the clock."""
    time.sleep(2 / os.sysconf("SC_CLK_TCK"))
    with subprocess.Popen(["sleep", "600"], start_new_session=True) as process:
        yield process
        assert process.poll() is None, "it was killed"
        process.kill()


@pytest.fixture
def sleeper(tmp_path):
    """Run a process in the background, with its record: (what was started, its process)."""
    background = Background(folder=tmp_path / "state", name="server")
    with background.start(["sleep", "600"]) as process:
        background.write({**asdict(identify(process.pid)), "since": SINCE})
        yield background, process
        process.kill()


def test_a_start_that_is_interrupted_leaves_no_process(tmp_path):
    def interrupted():
        raise KeyboardInterrupt

    background = Background(folder=tmp_path / "state", name="server")
    process = background.start(["sleep", "600"])
    with pytest.raises(KeyboardInterrupt):
        background.wait_until(interrupted, process, within_s=60)
    assert process.poll() is not None


OTHERS = {
    "host": {"host": "login1"},
    "restart": {"boot": "another"},
    "user": {"user": os.getuid() + 1},
    "container": {"namespace": "pid:[1]"},
    "start": {"start": "1"},
    "machine": {"host": "login1", "boot": "another", "start": "1"},
}


@pytest.mark.parametrize("other", OTHERS)
def test_a_process_is_stopped_only_if_all_of_its_record_matches(sleeper, other):
    background, process = sleeper
    background.write({**background.read(), **OTHERS[other]})
    assert not background.stop()
    with pytest.raises(ClusterError, match=f"^the server runs on .* since {SINCE}") as refused:
        background.check_here("the server")
    assert OTHERS[other].get("host", os.uname().nodename) in str(refused.value)
    assert process.poll() is None


@pytest.mark.parametrize("is_locked", [True, False], ids=["runs elsewhere", "has ended"])
def test_another_process_of_the_same_number_is_never_signalled(sleeper, bystander, is_locked):
    background, process = sleeper
    background.write({**background.read(), "pid": bystander.pid})
    if not is_locked:
        process.kill()
        process.wait()
    assert not background.stop()
    assert background.where() == ("elsewhere" if is_locked else "ended")


def test_a_record_of_another_machine_counts_although_its_lock_is_not_seen_here(sleeper):
    background, process = sleeper
    process.kill()
    process.wait()
    assert background.where() == "ended"
    background.write({**background.read(), "boot": "before the restart"})
    assert background.where() == "ended"
    background.write({**background.read(), "host": "login1"})
    assert background.where() == "elsewhere"


def test_a_second_start_is_refused_and_leaves_the_log_of_the_first(sleeper):
    background, process = sleeper
    background.log.write_text("of the first")
    with pytest.raises(ClusterError, match=f"runs on .* since {SINCE}"):
        background.start(["sleep", "600"])
    assert background.log.read_text() == "of the first"
    assert background.stop()
    assert process.wait(timeout=10) != 0


def test_a_record_of_an_earlier_version_is_reported_not_acted_on(sleeper):
    background, process = sleeper
    background.write({"pid": process.pid, "since": SINCE})
    assert not background.stop()
    with pytest.raises(ClusterError, match=f"another version .*, as process {process.pid}"):
        background.check_here("the server")
    assert process.poll() is None


def test_identities_differ_between_processes_and_stay_the_same(bystander):
    own, other = identify(os.getpid()), identify(bystander.pid)
    assert own == identify(os.getpid())
    assert own.is_alive_here()
    assert {own.start, other.start} != {own.start}, "it began later"
    assert read_record(ProcessIdentity, {**asdict(own), "of a later version": 1}) == own
    assert read_record(ProcessIdentity, {**asdict(own), "pid": "1"}) is None


HIDDEN = ("user", "container", "host", "machine")
"""Records of processes that this user may not see from here, or that run elsewhere."""


@pytest.mark.parametrize("other", OTHERS)
def test_a_process_has_ended_only_where_it_could_be_seen(bystander, other):
    identity = identify(bystander.pid)
    assert not identity.has_ended()
    assert replace(identity, **OTHERS[other]).has_ended() == (other not in HIDDEN)


def test_a_process_that_is_hidden_from_this_user_has_not_ended(bystander, monkeypatch):
    """A mount of /proc with hidepid shows other users' processes to nobody else."""
    identity = identify(bystander.pid)
    monkeypatch.setattr("deploy.processes.identity.identify", lambda pid: None)
    assert not identity.has_ended()
    with subprocess.Popen(["true"]) as process:
        process.wait()
    assert replace(identity, pid=process.pid).has_ended()


def test_the_same_number_in_another_container_is_another_process(sleeper, monkeypatch):
    """Even if both began in the same moment: times of start count in hundredths of a second."""
    background, process = sleeper
    recorded = identify(process.pid)
    monkeypatch.setattr("os.readlink", lambda path: "pid:[of a container]")
    twin = identify(process.pid)
    assert (twin.host, twin.pid, twin.start) == (recorded.host, recorded.pid, recorded.start)
    assert not recorded.is_alive_here()
    assert not background.stop()
    assert process.poll() is None


def test_a_refused_process_is_reported_in_one_line():
    code = (
        "import resource, os\n"
        "from deploy.processes.limits import explained_limits\n"
        "import subprocess, sys\n"
        "if os.getuid() == 0:\n"
        "    os.setuid(61_234)\n"
        "resource.setrlimit(resource.RLIMIT_NPROC, (1, 1))\n"
        "with explained_limits('start the server'):\n"
        "    subprocess.Popen(['true'])\n"
    )
    done = subprocess.run(
        [sys.executable, "-P", "-c", code], capture_output=True, text=True, check=False
    )
    last = done.stderr.splitlines()[-1]
    assert "ClusterError: cannot start the server (Resource temporarily unavailable)" in last
    with pytest.raises(RuntimeError, match="another"), explained_limits("start"):
        raise RuntimeError("another error stays what it is")
