"""The devices of workers: GPU, driver, torch's build, and memory compared with a tile.

Workers import this module; torch is imported only if there is a driver.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from runpy import run_path
from typing import Any

from deploy.preflight.findings import Answers, Check, Finding, failures, grouped, named
from pipeline.base.text import size_text

SMI_S = 5.0
_CUDA = "'overtile[cuda]', or 'overtile[cuda12]' for CUDA 12"


def device_check(tile_bytes: int = 0) -> Check:
    """Return a check of the workers' devices. tile_bytes: memory that one tile takes."""
    return Check(name="device", ask=describe_device, judge=partial(device_findings, tile_bytes))


def describe_device() -> dict[str, Any] | None:
    """Return name, driver and memory of this process's GPU; None without a driver.

    torch is imported only if there is a driver: otherwise the answer is known without it.
    """
    if (smi := shutil.which("nvidia-smi")) is None or (values := _query(smi)) is None:
        return None
    from unet.predict.runtime import device_memory_bytes

    name, driver, total_mib, used_mib = values
    return {
        "name": name, "driver": driver, "memory_bytes": int(total_mib) * 2**20,
        "free_bytes": (int(total_mib) - int(used_mib)) * 2**20, "torch": version("torch"),
        "cuda": _cuda_of_torch(), "used_by_torch": device_memory_bytes() > 0,
    }  # fmt: skip


def _query(smi: str) -> list[str] | None:
    """Return name, driver, memory and used memory (MiB) of the first visible GPU."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "0").split(",")[0].strip()
    command = [
        smi, f"--id={visible}", "--query-gpu=name,driver_version,memory.total,memory.used",
        "--format=csv,noheader,nounits",
    ]  # fmt: skip
    try:
        ran = subprocess.run(  # noqa: S603  the driver's own command
            command, capture_output=True, text=True, timeout=SMI_S
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    values = [value.strip() for value in ran.stdout.partition("\n")[0].split(",")]
    is_complete = ran.returncode == 0 and len(values) == 4 and all(map(str.isdigit, values[2:]))
    return values if is_complete else None


def _cuda_of_torch() -> str | None:
    """Return the CUDA version that torch was built for, from its version file; None for the CPU."""
    spec = find_spec("torch")
    if spec is None or spec.origin is None:
        return None
    with suppress(OSError, SyntaxError):
        cuda = run_path(str(Path(spec.origin).parent / "version.py")).get("cuda")
        return str(cuda) if cuda else None
    return None


def device_findings(tile_bytes: int, answers: Answers) -> Iterator[Finding]:
    """Yield the devices of the workers, and the problems with their GPUs."""
    gpus = {worker: gpu for worker, gpu in answers.items() if isinstance(gpu, dict)}
    warnings = {
        worker: f"cannot determine its device ({why}): check nvidia-smi there"
        for worker, why in failures(answers).items()
    }
    for worker, gpu in gpus.items():
        if problem := _gpu_problem(gpu, tile_bytes):
            warnings[worker] = problem
    without = [worker for worker, gpu in answers.items() if gpu is None]
    if gpus and without:
        text = "has no GPU, unlike others, and slows the run down: exclude it"
        warnings |= dict.fromkeys(without, text)
    for text, workers in grouped(warnings):
        yield Finding(level="warning", check="device", text=f"{named(workers)} {text}")
    good = {worker: _gpu_text(gpu) for worker, gpu in gpus.items() if worker not in warnings}
    for text, workers in grouped(good):
        yield Finding(level="fine", check="device", text=f"{named(workers)} computes on {text}")
    if without and not gpus:
        yield Finding(level="fine", check="device", text=f"{named(without)} computes on the CPU")


def _gpu_problem(gpu: dict[str, Any], tile_bytes: int) -> str:
    """Return the problem with a worker's GPU, or an empty text."""
    if gpu["cuda"] is None:
        return f"has {gpu['name']} and torch {gpu['torch']} for the CPU: pip install {_CUDA}"
    if not gpu["used_by_torch"]:
        return (
            f"has {gpu['name']}, which torch {gpu['torch']} for CUDA {gpu['cuda']} cannot use with "
            f"driver {gpu['driver']}: update the driver, or pip install {_CUDA}"
        )
    if tile_bytes > gpu["free_bytes"]:
        return (
            f"has {size_text(gpu['free_bytes'])} of {size_text(gpu['memory_bytes'])} free on its "
            f"GPU, but a tile takes {size_text(tile_bytes)}: stop other processes on it, or use "
            "smaller tiles (--tile-memory)"
        )
    return ""


def _gpu_text(gpu: dict[str, Any]) -> str:
    return (
        f"{gpu['name']} ({size_text(gpu['memory_bytes'])}, driver {gpu['driver']}, torch "
        f"{gpu['torch']} for CUDA {gpu['cuda']})"
    )
