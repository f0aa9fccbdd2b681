"""Ranks: all or none, none waits for ever, and a lost rank is replaced."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import cloudpickle
import dask
import psutil
import pytest
import torch
import torch.distributed as dist
from distributed import Client

from deploy import YIELDED, RankLimits, RankReport, RanksResumed, open_cluster, run_ranks
from deploy.ranks.channel import choose_rendezvous
from deploy.ranks.messages import Arrived, Codec
from deploy.ranks.process_group import describe_failure, interface_of, peer_failed
from deploy.ranks.topic import topic_name
from faults.commands import PROGRAM
from pipeline.base.errors import ClusterError, RunError, VolumeError
from pipeline.base.workers import workers_of

cloudpickle.register_pickle_by_value(sys.modules[__name__])  # workers cannot import the tests


@dataclass(frozen=True)
class Progress:
    step: int = 0
    at: float = 0.0


class Events:
    """Records the events of a run; calls functions at reports and resumptions."""

    def __init__(self, at_report=lambda: None, at_resume=lambda: None):
        self.reports, self.resumed = [], []
        self._at_report, self._at_resume = at_report, at_resume

    def __call__(self, event):
        if isinstance(event, RankReport):
            self.reports.append(event)
            self._at_report()
        if isinstance(event, RanksResumed):
            self.resumed.append(event)
            self._at_resume()


@pytest.fixture(scope="module")
def client():
    soon = {"distributed.scheduler.events-cleanup-delay": "100ms"}
    with (
        dask.config.set(soon),
        open_cluster("local", workers=2, dashboard=":0", tls="off") as client,
    ):
        yield client


@pytest.fixture(autouse=True)
def no_trace_is_left(request):
    """Assert after every test that nothing of the ranks stays on workers, scheduler or client."""
    yield
    if "client" in request.fixturenames:
        client = request.getfixturevalue("client")
        client.wait_for_workers(2, timeout=30)
        assert not eventually_left(client)


def eventually_left(client, *, within_s=5):
    until = time.monotonic() + within_s
    while (left := left_on(client)) and time.monotonic() < until:
        time.sleep(0.1)
    return left


def left_on(client):
    """Return the traces of ranks on the workers, in the scheduler and in the client."""
    left = [state for state in client.run(rank_state).values() if state]
    left += client.run_on_scheduler(scheduler_state)
    return left + list(client.futures)


def rank_state():
    threads = [t.name for t in threading.enumerate() if t.name.startswith("rank-")]
    listening = [c for c in psutil.Process().net_connections("inet") if c.status == "LISTEN"]
    own = 2  # every worker has these: for other workers, and its dashboard
    group = ["process group"] if dist.is_initialized() else []
    interface = ["interface"] if "GLOO_SOCKET_IFNAME" in os.environ else []
    return [*threads, *group, *interface, *listening[own:]]


def scheduler_state(dask_scheduler):
    events = [t for t in dask_scheduler.get_events() if "overtile" in t]
    return [*dask_scheduler.extensions["variables"].variables, *dask_scheduler.tasks, *events]


def pids(client):
    return set(client.run(os.getpid).values())


def add_up(rank):
    """Return the sum of (rank + 1) over all ranks, by an all_reduce."""
    value = torch.tensor([float(rank.rank + 1)])
    dist.all_reduce(value)
    return int(value)


def agree_to_stop(rank):
    wish = torch.tensor([float(rank.should_stop())])
    dist.all_reduce(wish)
    return bool(wish > 0)


def until_asked(rank, *, note=None):
    """Work until the driver asks to leave; then write a file, as if to save state."""
    rank.report(Progress())
    while not agree_to_stop(rank):
        time.sleep(0.05)
    if note:
        time.sleep(1)
        (note / f"saved-{rank.rank}").touch()
    return YIELDED


def test_two_runs_in_the_same_workers_each_return_a_result_per_rank(client):
    def describe(rank):
        listening = psutil.Process().net_connections("inet")
        return {
            "numbers": (rank.rank, rank.world_size, rank.attempt, add_up(rank)),
            "device": rank.device,
            "listens on": {c.laddr.ip for c in listening if c.status == "LISTEN"},
            "interface": os.environ["GLOO_SOCKET_IFNAME"],
            "pid": os.getpid(),
        }

    before = pids(client)
    for _ in range(2):
        results = run_ranks(describe, client=client, ranks=2)
        assert [result["numbers"] for result in results] == [(0, 2, 0, 3), (1, 2, 0, 3)]
        assert {result["pid"] for result in results} == before
        for result in results:
            assert result["device"] == ("cuda:0" if torch.cuda.is_available() else "cpu")
            assert result["listens on"] == {"127.0.0.1"}, "it listens to the whole network"
            assert result["interface"] == interface_of("127.0.0.1")
        assert not eventually_left(client)


def test_one_rank_needs_no_process_group(client):
    assert run_ranks(lambda rank: (rank.world_size, dist.is_initialized()), client=client,
                     ranks=1) == [(1, False)]  # fmt: skip


def test_the_default_is_a_rank_per_worker_and_reports_arrive_in_order(client):
    def chat(rank):
        for step in range(20):
            rank.report(Progress(step))
        return rank.world_size

    events = Events()
    assert run_ranks(chat, client=client, message_types=[Progress], on_event=events) == [2, 2]
    for rank in range(2):
        reported = [report.payload for report in events.reports if report.rank == rank]
        assert reported == [Progress(step) for step in range(20)]


@dataclass(frozen=True)
class Figures:
    scores: tuple[float, ...]
    names: dict[str, Progress]
    note: str | None = None


def test_a_message_arrives_as_the_dataclass_that_was_sent():
    codec = Codec([Progress, Figures])
    figures = Figures((0.5, 1.0), {"a": Progress(3)})
    assert codec.decode(codec.encode(figures)) == figures
    with pytest.raises(ValueError, match="not a message of a listed type"):
        Codec([Progress]).decode(codec.encode(figures))
    with pytest.raises(ValueError, match="Progress: expected dataclasses with different names"):
        Codec([Progress, Progress])


@pytest.mark.parametrize("payload", [Figures((), {}), Progress(at=object()), {1, 2}])
def test_a_report_that_cannot_be_sent_fails_on_its_rank_and_names_the_type(client, payload):
    with pytest.raises(TypeError, match=r"message value of type .* list its dataclass in message"):
        run_ranks(lambda rank: rank.report(payload), client=client, ranks=1,
                  message_types=[Progress])  # fmt: skip


def test_too_few_workers_are_an_error_in_time_and_no_rank_begins(client):
    start = time.monotonic()
    with pytest.raises(ClusterError, match=r"3 ranks need 3 workers, 2 run after 1 s"):
        run_ranks(add_up, client=client, ranks=3, limits=RankLimits(start_s=1))
    assert time.monotonic() - start < 5


@pytest.mark.parametrize(
    ("ranks", "least", "most"),
    [(0, 1, None), (2, 3, None), (2, 0, None), (None, 0, None), (2, 1, 1), (None, 2, 1)],
)
def test_an_impossible_number_of_ranks_is_a_one_line_error(client, ranks, least, most):
    with pytest.raises(ClusterError, match="expected 1 or more, and min_ranks up to ranks"):
        run_ranks(
            add_up, client=client, ranks=ranks, max_ranks=most, limits=RankLimits(min_ranks=least)
        )


def test_threads_of_one_process_cannot_be_several_ranks():
    with Client(processes=False, n_workers=2, threads_per_worker=1, dashboard_address=None,
                set_as_default=False) as threads:  # fmt: skip
        with pytest.raises(ClusterError, match="worker processes"):
            run_ranks(add_up, client=threads, ranks=2)
        assert run_ranks(lambda rank: rank.rank, client=threads, ranks=1) == [0]


@pytest.mark.parametrize("others", ["in a collective", "computing"])
def test_an_error_of_the_callable_is_raised_once_unchanged_and_the_other_ranks_end(
    client, tmp_path, others
):
    def fail(rank):
        (tmp_path / f"called-{rank.rank}-{rank.attempt}").touch()
        add_up(rank)
        if rank.rank == 1:
            raise VolumeError("volume x is gone")
        if others == "in a collective":
            return add_up(rank)
        while not rank.should_stop():
            time.sleep(0.05)
        return YIELDED

    before = pids(client)
    start = time.monotonic()
    with pytest.raises(VolumeError, match=r"^volume x is gone$"):
        run_ranks(fail, client=client, ranks=2, limits=RankLimits(collective_s=60))
    assert time.monotonic() - start < 20
    assert sorted(p.name for p in tmp_path.iterdir()) == ["called-0-0", "called-1-0"]
    assert pids(client) == before, "a worker was restarted"


def test_sys_exit_in_the_callable_is_an_error(client):
    with pytest.raises(RuntimeError, match=r"rank 0 called sys.exit\(3\)"):
        run_ranks(lambda rank: sys.exit(3), client=client, ranks=1)


def test_after_a_killed_worker_the_other_ranks_leave_and_all_start_again(client, tmp_path):
    def killed_once(rank):
        if rank.attempt:
            return add_up(rank)
        add_up(rank)
        killed_at = time.monotonic()  # one clock for all processes of a machine
        if rank.rank == 1:
            (tmp_path / "killed_at").write_text(str(killed_at))
            os.kill(os.getpid(), signal.SIGKILL)
        while not rank.should_stop():  # it does not talk to its peer at all
            time.sleep(0.05)
        (tmp_path / "stopped_at").write_text(str(time.monotonic()))
        return YIELDED

    events = Events()
    assert run_ranks(killed_once, client=client, ranks=2, on_event=events) == [3, 3]
    (resumed,) = events.resumed
    assert (resumed.attempt, resumed.world_size) == (1, 2)
    assert "rank 1 was lost" in resumed.reason
    stopped, killed = (float((tmp_path / n).read_text()) for n in ("stopped_at", "killed_at"))
    assert stopped - killed < 15


def channels_of(dask_scheduler):
    return list(dask_scheduler.extensions["variables"].variables)


def test_a_rank_that_leaves_deletes_neither_the_next_order_nor_the_events(client):
    def killed_once(rank):
        if rank.rank == 1 and not rank.attempt:
            os.kill(os.getpid(), signal.SIGKILL)
        while not rank.attempt and not rank.should_stop():
            time.sleep(0.05)
        rank.report(Progress())
        return rank.attempt

    seen = []

    def disturb():  # the scheduler logs on this topic, and any client may
        (channel,) = client.run_on_scheduler(channels_of)
        foreign = {"action": "remove-client", "client": "x"}, "hello", None, {"dataclass": "Left"}
        unknown = {"dataclass": "Left", "fields": {"rank": 0}}, {"dataclass": [], "fields": 1}
        for event in foreign + unknown:
            client.log_event(topic_name(channel), event)

    events = Events(disturb, at_resume=lambda: seen.append(client.run_on_scheduler(channels_of)))
    results = run_ranks(
        killed_once, client=client, ranks=2, message_types=[Progress], on_event=events
    )
    assert results == [1, 1]
    assert [report.attempt for report in events.reports] == [0, 1, 1]
    assert [len(channels) for channels in seen] == [1], "the next attempt's order was deleted"


def test_no_worker_seems_lost_while_the_client_updates_its_scheduler_info(client):
    over = threading.Event()

    def callback():  # the client does so every two seconds; here all the time
        while not over.is_set():
            client.sync(client._update_scheduler_info)

    side = threading.Thread(target=callback)
    side.start()
    try:
        seen = [len(workers_of(client)) for _ in range(300)]
    finally:
        over.set()
        side.join()
    assert set(seen) == {2}


@pytest.mark.slow
def test_a_frozen_worker_is_detected_at_the_timeout_and_restarted(client, monkeypatch):
    monkeypatch.setattr("deploy.ranks.attempt.LEAVE_S", 1.0)

    def frozen_once(rank):
        add_up(rank)
        if rank.rank == 0 and not rank.attempt:
            rank.report(Progress(at=time.monotonic()))
            time.sleep(0.5)
            os.kill(os.getpid(), signal.SIGSTOP)
        return add_up(rank)

    resumed_at = []
    events = Events(at_resume=lambda: resumed_at.append(time.monotonic()))
    results = run_ranks(
        frozen_once, client=client, ranks=2, message_types=[Progress], on_event=events,
        limits=RankLimits(collective_s=2),
    )  # fmt: skip
    assert results == [3, 3]
    (resumed,) = events.resumed
    assert resumed.attempt == 1
    assert "rank 0" in resumed.reason
    assert "did not answer" in resumed.reason
    assert 2 < resumed_at[0] - events.reports[0].payload.at < 30


def test_a_rank_that_always_kills_its_worker_ends_the_run_with_a_one_line_error(client):
    def die(rank):
        time.sleep(1)  # a nanny does not restart a worker that dies while it starts
        os.kill(os.getpid(), signal.SIGKILL)

    events = Events()
    with pytest.raises(RunError, match=r"^stopped after 2 losses .* rank 0 was lost.*memory"):
        run_ranks(die, client=client, ranks=1, limits=RankLimits(max_losses=2), on_event=events)
    assert len(events.resumed) == 1


@pytest.mark.slow
def test_losses_with_progress_between_them_are_counted_separately(client):
    def die_on_the_way(rank):
        rank.report(Progress(step=rank.attempt))
        time.sleep(1)  # the message is on its way before the process ends
        if rank.attempt < 2:
            os.kill(os.getpid(), signal.SIGKILL)
        return rank.attempt

    limits = RankLimits(max_losses=2)
    assert run_ranks(
        die_on_the_way, client=client, ranks=1, message_types=[Progress], limits=limits
    ) == [2]


QUICK = RankLimits(collective_s=1.5)


@pytest.mark.slow
def test_a_barrier_waits_longer_than_the_timeout_of_a_collective(client):
    def validate(rank):
        if rank.rank == 0:
            time.sleep(2.2)
        rank.barrier()
        return rank.attempt, add_up(rank)

    assert run_ranks(validate, client=client, ranks=2, limits=QUICK) == [(0, 3), (0, 3)]


def test_rank_0_serves_the_store_until_the_other_ranks_have_returned(client):
    def one_is_late(rank):
        time.sleep(2.2 * rank.rank)
        store = dist.distributed_c10d._get_default_store()  # rank 0 serves it
        return rank.attempt, store.add("visitors", 1)

    assert run_ranks(one_is_late, client=client, ranks=2, limits=QUICK) == [(0, 1), (0, 2)]


def test_a_process_runs_one_rank_at_a_time():
    def stay(rank):
        start = time.monotonic()
        time.sleep(0.5)
        return start, time.monotonic()

    with Client(processes=False, n_workers=1, threads_per_worker=2, dashboard_address=None,
                set_as_default=False) as threads, ThreadPoolExecutor(2) as pool:  # fmt: skip
        runs = [pool.submit(run_ranks, stay, client=threads, ranks=1) for _ in range(2)]
        (first, second) = sorted(run.result(timeout=30)[0] for run in runs)
    assert first[1] <= second[0]


def test_an_error_in_the_driver_ends_the_ranks(client):
    def fail(event):
        raise OSError("no space left on the driver's disk")

    before = pids(client)
    with pytest.raises(OSError, match="no space left"):
        run_ranks(until_asked, client=client, ranks=2, message_types=[Progress], on_event=fail)
    assert not eventually_left(client)
    assert pids(client) == before


def test_ctrl_c_lets_the_ranks_save_and_leaves_none_running(client, tmp_path, monkeypatch):
    def interrupt(event):
        raise KeyboardInterrupt

    monkeypatch.setattr("deploy.ranks.attempt.LEAVE_S", 0.5)  # shorter than they take to save

    before = pids(client)
    with pytest.raises(KeyboardInterrupt):
        run_ranks(lambda rank: until_asked(rank, note=tmp_path), client=client, ranks=2,
                  message_types=[Progress], on_event=interrupt)  # fmt: skip
    assert {path.name for path in tmp_path.iterdir()} == {"saved-0", "saved-1"}
    assert pids(client) == before


def test_ranks_yield_when_the_stop_is_set(client):
    stop = threading.Event()
    results = run_ranks(until_asked, client=client, ranks=2, stop=stop,
                        message_types=[Progress], on_event=lambda event: stop.set())  # fmt: skip
    assert results == [YIELDED, YIELDED]
    assert run_ranks(until_asked, client=client, ranks=2, stop=stop) == [YIELDED, YIELDED]


@pytest.mark.slow
def test_the_worker_of_a_rank_that_does_not_leave_is_restarted(client, monkeypatch):
    monkeypatch.setattr("deploy.ranks.attempt.LEAVE_S", 1.0)

    def deaf(rank):
        rank.report(Progress())
        time.sleep(600)

    before = pids(client)
    stop = threading.Event()
    start = time.monotonic()
    run_ranks(deaf, client=client, ranks=1, stop=stop, limits=RankLimits(leave_s=0.5),
              message_types=[Progress], on_event=lambda event: stop.set())  # fmt: skip
    client.wait_for_workers(2, timeout=30)
    assert time.monotonic() - start < 30
    assert len(pids(client) - before) == 1


def test_yielding_unasked_or_not_together_is_an_error(client):
    with pytest.raises(RuntimeError, match="YIELDED before should_stop"):
        run_ranks(lambda rank: YIELDED, client=client, ranks=2)
    with pytest.raises(RuntimeError, match=r"ranks \[1\] returned YIELDED and the others did not"):
        run_ranks(lambda rank: YIELDED if rank.rank else 0, client=client, ranks=2)


def test_two_runs_on_the_same_workers_at_once_both_finish(client):
    with Client(client.scheduler.address, set_as_default=False) as other, ThreadPoolExecutor() as p:
        runs = [
            p.submit(run_ranks, add_up, client=one, ranks=2, limits=RankLimits(device_s=60))
            for one in (client, other)
        ]
        assert [run.result(timeout=90) for run in runs] == [[3, 3], [3, 3]]


def test_ranks_release_a_worker_that_an_earlier_channel_needs(client, tmp_path):
    def arrive(number):  # like a rank that holds its worker until the others have theirs
        (tmp_path / str(number)).touch()
        until = time.monotonic() + 60
        while time.monotonic() < until and len(list(tmp_path.iterdir())) < 2:
            time.sleep(0.05)
        return len(list(tmp_path.iterdir()))

    def submit(number):
        return client.submit(
            arrive, number, key=("overtile-ranks-000000000000-0", number), priority=100,
            workers=[addresses[number]], allow_other_workers=False, resources={"device": 1},
        )  # fmt: skip

    addresses = sorted(workers_of(client))
    second = submit(1)  # holds the worker of the second rank of `run`
    while not (tmp_path / "1").exists():
        time.sleep(0.05)
    with ThreadPoolExecutor() as pool:
        run = pool.submit(run_ranks, add_up, client=client, ranks=2, limits=RankLimits(device_s=40))
        while not client.processing([addresses[0]])[addresses[0]]:
            time.sleep(0.05)
        time.sleep(0.5)  # the first rank of `run` has the other worker
        first = submit(0)
        assert [first.result(timeout=60), second.result(timeout=60)] == [2, 2]
        assert run.result(timeout=60) == [3, 3]


DRIVER = """
import time, sys
from dataclasses import dataclass
from distributed import Client
from deploy import run_ranks

@dataclass(frozen=True)
class Begun:
    rank: int

def forever(rank):
    rank.report(Begun(rank.rank))
    while not rank.should_stop():
        time.sleep(0.05)

with Client(sys.argv[1]) as client:
    run_ranks(forever, client=client, ranks=2, message_types=[Begun],
              on_event=lambda event: print(event, flush=True))
"""


@pytest.mark.slow
def test_ranks_leave_when_their_driver_is_killed(client, commands, tmp_path):
    (tmp_path / "driver.py").write_text(DRIVER)
    driver = commands.start([tmp_path / "driver.py", client.scheduler.address], call=PROGRAM)
    try:
        while driver.printed.count("Begun") < 2:
            assert driver.poll() is None, driver.text
            time.sleep(0.02)
        assert left_on(client)
    finally:
        driver.kill()
    assert not eventually_left(client, within_s=15)


def test_a_cluster_ends_even_if_its_nannies_cannot_kill_their_workers(monkeypatch, capfd):
    async def give_up(*_, **__):  # as on a machine that is too busy to end a process within 5 s
        raise TimeoutError

    monkeypatch.setattr("deploy.clusters.local.KILL_S", 0.5)
    with open_cluster("local", workers=1, dashboard=":0") as client:
        (process,) = map(psutil.Process, pids(client))
        monkeypatch.setattr("distributed.nanny.WorkerProcess.kill", give_up)
    process.wait(timeout=10)
    assert "Traceback" not in "".join(capfd.readouterr())


@pytest.mark.slow
def test_a_worker_lost_again_when_the_cluster_checks_the_first_loss_is_restarted(client):
    lost_at = time.monotonic()
    for after_s in (0, 14.6):  # distributed checks 15 s after the first loss
        client.wait_for_workers(2, timeout=60)
        time.sleep(max(0, lost_at + after_s - time.monotonic()))
        (name,) = (a for a, w in client.scheduler_info()["workers"].items() if w["name"] == 0)
        os.kill(client.run(os.getpid, workers=[name])[name], signal.SIGKILL)
        while name in client.nthreads():
            time.sleep(0.05)
    client.wait_for_workers(2, timeout=60)
    time.sleep(4)  # a nanny that was ended takes its new worker with it
    assert len(client.nthreads()) == 2


@pytest.mark.slow
def test_a_lost_scheduler_ends_the_run_with_a_one_line_error(tmp_path):
    def until_stopped(rank):
        rank.report(Progress())
        while not rank.should_stop():
            time.sleep(0.05)

    file = str(tmp_path / "scheduler.json")
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    here = ["--scheduler-file", file, "--host", "127.0.0.1", "--no-dashboard"]
    dask_command = [sys.executable, "-m", "dask"]
    scheduler = subprocess.Popen([*dask_command, "scheduler", *here, "--port", "0"], **quiet)
    worker = subprocess.Popen([*dask_command, "worker", *here, "--no-nanny"], **quiet)
    try:
        with Client(scheduler_file=file, timeout=60, set_as_default=False) as client:
            client.wait_for_workers(1, timeout=60)
            with pytest.raises(RunError, match="scheduler was lost: start the run again"):
                run_ranks(until_stopped, client=client, ranks=1,
                          message_types=[Progress],
                          on_event=lambda event: scheduler.kill())  # fmt: skip
    finally:
        for process in (scheduler, worker):
            process.kill()
            process.wait()


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (RuntimeError("[gloo/transport/tcp/pair.cc:553] Connection closed by peer"), True),
        (dist.DistStoreError("wait timeout"), True),
        (dist.DistBackendError("NCCL communicator was aborted on rank 1"), True),
        (RuntimeError("CUDA error: out of memory"), False),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), False),
        (ValueError("gloo"), False),
        (ConnectionResetError("Connection reset by peer"), False),
        (VolumeError("no such volume"), False),
    ],
)  # fmt: skip
def test_a_lost_peer_is_distinguished_from_an_error_of_the_callable(error, expected):
    assert peer_failed(error) is expected
    wrapped = ValueError("wrapped")
    wrapped.__cause__ = error
    assert peer_failed(wrapped) is expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[/__w/pytorch/gloo/transport/tcp/unbound_buffer.cc:78] Timed out waiting 30000ms for "
         "recv operation to complete", "another rank did not answer in time"),
        ("[../gloo/transport/tcp/pair.cc:553] Connection closed by peer [127.0.0.1]:40123",
         "the connection to another rank broke"),
    ],
)  # fmt: skip
def test_gloo_s_messages_are_translated(text, expected):
    assert describe_failure(RuntimeError(text)) == expected


@pytest.mark.parametrize(
    ("gpus", "backend"),
    [
        ([("a", "GPU-1", True), ("a", "GPU-2", True)], "cpu:gloo,cuda:nccl"),
        ([("a", "GPU-1", True), ("a", "GPU-1", True)], "gloo"),
        ([("a", "GPU-1", True), ("b", None, False)], "gloo"),
        ([("a", None, False), ("b", None, False)], "gloo"),
    ],
)
def test_the_backend_is_nccl_if_each_rank_has_its_own_gpu(gpus, backend):
    arrived = [
        Arrived(attempt=0, rank=rank, host=host, port=1, gpu=gpu, nccl=nccl)
        for rank, (host, gpu, nccl) in enumerate(gpus)
    ]
    assert choose_rendezvous(arrived).backend == backend


def test_gloo_uses_the_interface_of_the_worker_s_address():
    interface = interface_of("127.0.0.1")
    assert "127.0.0.1" in {address.address for address in psutil.net_if_addrs()[interface]}
    assert interface_of("192.0.2.1") is None
