"""A process that has imported overtile; each command is forked from it.

A command is a process like one that a shell starts: it has its own session, environment, folder and
output files, and starts its own workers. Only the imports are shared, which saves some five seconds
of CPU per command. Also the fork server and the resource tracker of ``multiprocessing`` are forked
instead of executed; they are children of the command, as usual.

Reads a JSON request per line on standard input and answers on standard output. It ends with its
standard input, and kills what it has started.
"""

from __future__ import annotations

import faulthandler
import gc
import importlib
import json
import os
import runpy
import signal
import sys
import tempfile
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from multiprocessing import forkserver, resource_tracker, util
from typing import Any

WARM = (
    "torch", "torch._dynamo", "zarr", "zarr.storage", "s3fs", "pandas", "cryptography.x509",
    "distributed.worker", "distributed.nanny", "distributed.dashboard.scheduler",
    "distributed.http.scheduler.prometheus", "distributed.http.worker.prometheus",
    "distributed.cli.dask_worker", "distributed.cli.dask_scheduler", "numba.typed",
    "flows.cli.entry", "flows.cli.main", "flows.cli.segment", "flows.cli.objects",
    "flows.cli.convert", "flows.cli.evaluate", "flows.cli.train", "flows.segmentation.run",
    "flows.preflight.checks",
    "flows.training.run", "flows.training.prepare", "deploy.cluster", "deploy.clusters.local",
    "pipeline.conversion.run", "pipeline.objects.run", "pipeline.evaluation.run",
    "unet.predict.predictor", "unet.training.loop",
    "pipeline.volume.formats.ome_zarr.tensorstore_reader",
)  # fmt: skip
"""What the commands import anyway."""
_execute: Callable[..., Any] = util.spawnv_passfds


def main() -> int:
    """Serve requests; in a forked command, return its exit code."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C: the tests end, and close its input
    for name in WARM:
        importlib.import_module(name)
    _warm_numba()
    threads = len(os.listdir("/proc/self/task"))
    if threads != 1:  # they would not survive a fork
        print(f"the zygote has {threads} threads", file=sys.stderr)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for who ends the commands
    gc.freeze()  # commands neither copy nor collect what they share
    util.spawnv_passfds = _forked_instead  # type: ignore[assignment]
    started: set[int] = set()
    _answer({"threads": threads})
    while line := sys.stdin.buffer.readline():
        request = json.loads(line)
        if "poll" in request:
            _answer({"code": _ended(request["poll"])})
            continue
        if "reap" in request:  # until then its number is not used again
            started.discard(request["reap"])
            _answer({"reaped": os.waitpid(request["reap"], 0)[0]})
            continue
        pid = os.fork()
        if not pid:
            return _command(request)
        started.add(pid)
        _answer({"pid": pid})
    for pid in started:
        with suppress(ProcessLookupError):
            os.killpg(pid, signal.SIGKILL)
    return 0


def _warm_numba() -> None:
    """Load what numba otherwise loads before the first compiled function runs."""
    from numba.core.registry import cpu_target

    cpu_target.typing_context.refresh()
    cpu_target.target_context.refresh()


def _answer(values: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(values) + "\n")
    sys.stdout.flush()


def _ended(pid: int) -> int | None:
    """Return the exit code of a command, negative for a signal; None while it runs."""
    ended = os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    if ended is None:
        return None
    return ended.si_status if ended.si_code == os.CLD_EXITED else -ended.si_status


def _command(request: dict[str, Any]) -> int:
    """Become a command, and return its exit code."""
    os.setsid()
    for number, path in enumerate((os.devnull, request["stdout"], request["stderr"])):
        flags = os.O_RDONLY if number == 0 else os.O_WRONLY | os.O_CREAT | os.O_APPEND
        opened = os.open(path, flags | os.O_NOCTTY, 0o666)
        os.dup2(opened, number)
        os.close(opened)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background ignores it
    faulthandler.register(signal.SIGUSR2, all_threads=True)
    tempfile.tempdir = None
    os.environ.clear()
    os.environ.update(request["environment"])
    os.chdir(request["folder"])
    if any(name.startswith("DASK_") for name in os.environ):
        import dask

        dask.config.refresh()
    for name, options in request["faults"]:
        _found(name)(**options)
    sys.argv = [request["call"], *request["words"]]
    return int(_found(request["call"])(request["words"]) or 0)


def overtile(words: Sequence[str]) -> int:
    """Run a command as its console script does; ``sys.argv`` holds the words too."""
    from flows.cli.entry import main as entry

    return entry()


def run_program(words: Sequence[str]) -> int:
    """Run a file of Python, the first word, as Python itself does; return its exit code."""
    sys.argv = list(words)
    sys.path.insert(0, os.path.dirname(words[0]))
    runpy.run_path(words[0], run_name="__main__")
    return 0


def _found(name: str) -> Callable[..., Any]:
    """Return the function ``module:function``."""
    module, _, function = name.partition(":")
    found: Callable[..., Any] = getattr(importlib.import_module(module), function)
    return found


def _forked_instead(path: object, arguments: Sequence[str], passed: Sequence[int]) -> int:
    """Run ``python -c CODE`` of ``multiprocessing`` in a fork, with these open files alone."""
    *_, flag, code = arguments
    if os.fsdecode(flag) != "-c":  # a worker that replaces a killed one: Dask starts it anew
        return int(_execute(path, arguments, passed))
    pid = os.fork()
    if pid:
        return pid
    try:
        for number in (signal.SIGTERM, signal.SIGCHLD, signal.SIGUSR1, signal.SIGALRM):
            signal.signal(number, signal.SIG_DFL)
        signal.setitimer(signal.ITIMER_REAL, 0)
        kept = {0, 1, 2, *passed}
        for name in os.listdir("/proc/self/fd"):
            if int(name) not in kept:
                with suppress(OSError):
                    os.close(int(name))
        # Their locks are held by the thread that starts this process.
        resource_tracker._resource_tracker._lock = threading.RLock()  # type: ignore[attr-defined]
        resource_tracker._resource_tracker._fd = None  # type: ignore[attr-defined]
        resource_tracker._resource_tracker._pid = None  # type: ignore[attr-defined]
        forkserver._forkserver._lock = threading.Lock()  # type: ignore[attr-defined]
        forkserver._forkserver._forkserver_pid = None  # type: ignore[attr-defined]
        exec(os.fsdecode(code), {})
    except SystemExit:
        pass
    except BaseException:
        faulthandler.dump_traceback()
    finally:
        os._exit(0)
