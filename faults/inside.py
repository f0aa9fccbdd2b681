"""Faults inside a command and its workers, which are forked from it.

Each is called before the command, and replaces a function of overtile or of the system by one that
fails. How often it fails is counted in a folder, because the workers are other processes.
"""

from __future__ import annotations

import ctypes
import errno
import functools
import importlib
import os
import resource
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

DAC_OVERRIDE, DAC_READ_SEARCH = 1 << 1, 1 << 2
"""Capabilities of Linux (capability.h)."""


def device_out_of_memory(*, counter: str, times: int) -> None:
    """Let the network fail ``times`` times as torch does where a device has too little memory."""
    import torch

    from unet.predict import forward

    kept = forward.within_memory

    def within_memory(work: Callable[[], Any], **options: Any) -> Any:
        def failing() -> Any:
            if _counted(counter, times):
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
            return work()

        return kept(failing, **options)

    _replace("within_memory", kept, within_memory)


def training_out_of_memory(*, counter: str, times: int, after: int = 0, patches: int = 1) -> None:
    """Let the network in training fail as torch does where a device has too little memory.

    after: passes of this process before the first that fails. patches: the fewest that do not fit.
    """
    import torch

    from unet.network.model import UNet

    kept, seen = UNet.forward, [0]

    def forward(self: Any, x: Any, *rest: Any, **options: Any) -> Any:
        if self.training and len(x) >= patches:
            seen[0] += 1
            if seen[0] > after and _counted(counter, times):
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return kept(self, x, *rest, **options)

    UNet.forward = forward  # type: ignore[method-assign]


def block_fails(
    *, counter: str, times: int, how: str, where: str, index: list[int], group: str = ""
) -> None:
    """Let one block fail ``times`` times, before it reads.

    where: ``module:function``, whose second argument is the index of the block. how: ``eio`` for an
    error of the system, ``kill`` for SIGKILL to the worker, ``grow`` for memory without limit.
    group: the file of a control group that the worker joins before, which limits its memory.
    """
    module_name, _, name = where.partition(":")
    module = importlib.import_module(module_name)
    kept = getattr(module, name)

    @functools.wraps(kept)
    def failing(job: Any, at: Any, *rest: Any) -> Any:
        if list(at) == index and _counted(counter, times):
            if group:
                Path(group).write_text(str(os.getpid()))
            HOW[how]()
        return kept(job, at, *rest)

    _replace(name, kept, failing)


def worker_dies_at_start(*, counter: str, times: int) -> None:
    """Kill the first ``times`` workers of this machine while they start."""
    from deploy.clusters import forked

    kept = forked.dask_setup

    def dask_setup(worker: Any) -> None:
        if _counted(counter, times):
            _kill()
        kept(worker)

    forked.dask_setup = dask_setup


def killed_at_write(*, counter: str, number: int) -> None:
    """Kill the driver at its rename with this number, from 0, before or after it.

    Files are written under another name and renamed, so this is in the middle of a write. Even
    numbers die before the rename, odd ones after it; the fault happens once.
    """
    kept, seen, driver = os.replace, [0], os.getpid()

    def replace(source: Any, target: Any, **options: Any) -> None:
        is_now = os.getpid() == driver and seen[0] == number // 2 and _counted(counter, 1)
        seen[0] += 1
        if is_now and number % 2 == 0:
            _kill()
        kept(source, target, **options)
        if is_now:
            _kill()

    os.replace = replace  # type: ignore[assignment]


def files_at_most(*, size: int) -> None:
    """Refuse to write files of more bytes than this, as a full disk does."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))


def permissions_apply() -> None:
    """Let the permissions of files and folders apply to root as to any user."""

    class Header(ctypes.Structure):
        _fields_ = (("version", ctypes.c_uint32), ("pid", ctypes.c_int))

    class Sets(ctypes.Structure):
        _fields_ = tuple(
            (name, ctypes.c_uint32) for name in ("effective", "permitted", "inherited")
        )

    system, header, sets = ctypes.CDLL(None), Header(0x20080522, 0), (Sets * 2)()
    assert system.capget(ctypes.byref(header), sets) == 0
    for name in ("effective", "permitted"):
        setattr(sets[0], name, getattr(sets[0], name) & ~(DAC_OVERRIDE | DAC_READ_SEARCH))
    assert system.capset(ctypes.byref(header), sets) == 0


def _grow() -> None:
    """Take memory until the nanny or the kernel kills the worker."""
    taken = []
    for _ in range(200):
        taken.append(bytearray(os.urandom(1)) * 2**25)
        time.sleep(0.01)
    time.sleep(60)


def _kill() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _fail() -> None:
    raise OSError(errno.EIO, os.strerror(errno.EIO))


HOW: dict[str, Callable[[], None]] = {"eio": _fail, "kill": _kill, "grow": _grow}


def _counted(folder: str, times: int) -> bool:
    """Return whether this is one of the first ``times`` calls of all processes."""
    for number in range(times):
        try:
            os.close(os.open(Path(folder) / str(number), os.O_CREAT | os.O_EXCL))
        except FileExistsError:
            continue
        return True
    return False


def _replace(name: str, kept: Any, new: Any) -> None:
    """Replace a function in every module that has imported it."""
    for module in list(sys.modules.values()):
        if vars(module).get(name) is kept:
            setattr(module, name, new)
