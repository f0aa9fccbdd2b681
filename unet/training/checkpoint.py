"""Checkpoints: all that is needed to resume a training exactly. Nothing is ever unpickled.

A checkpoint is a safetensors file, ``checkpoint-00001200.safetensors`` after 1,200 steps: weights,
their running mean, the optimiser's tensors; as JSON in its metadata the step, the recipe, what was
logged, and the shape of each tensor. There is no other state: the learning rate is a function of
the step, and every random number follows from (seed, step, number of the patch).
"""

from __future__ import annotations

import json
import os
import re
import socket
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any, Final
from uuid import uuid4

import torch
from torch import Tensor

from pipeline.base.errors import TrainingError, TrainingFailedError

FORMAT: Final = "1"
KEPT = 2
SEEN_WITHIN_S = 30.0
"""After this time, what one machine has written to a shared folder is seen by another one."""
_NAME = re.compile(r"checkpoint-(\d{8,})\.safetensors")


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """A training after ``step`` steps; one that was read has its tensors on the CPU."""

    step: int
    model: Mapping[str, Tensor]
    ema: Mapping[str, Tensor] | None
    optimiser: Mapping[str, Any]
    """As ``torch.optim.Optimizer.state_dict`` returns it."""
    record: Mapping[str, Any] = field(default_factory=dict)
    """Everything else to remember, as JSON: the recipe, the last scores."""


def save_checkpoint(checkpoint: Checkpoint, directory: Path) -> Path:
    """Write a checkpoint atomically, remove all but the last two, and return its path.

    The previous one stays intact if the disk is full, or if weights are NaN or infinite, from
    which no training recovers: then TrainingFailedError is raised.
    """
    from safetensors.torch import save_file

    _check_finite(checkpoint, directory)
    path = checkpoint_path(directory, checkpoint.step)
    tensors, optimiser = _flattened(checkpoint)
    metadata = {
        "overtile_checkpoint": FORMAT,
        "step": str(checkpoint.step),
        "optimiser": json.dumps(optimiser),
        "record": json.dumps(dict(checkpoint.record)),
        "tensors": json.dumps(_shapes(tensors)),
    }
    aside = directory / f".{path.name}.{uuid4().hex}"
    try:
        directory.mkdir(parents=True, exist_ok=True)
        # Left by a process that was killed while writing; .tmp* are by safetensors.
        for left in chain(directory.glob(".checkpoint-*"), directory.glob(".tmp*")):
            left.unlink(missing_ok=True)
        try:
            aside.touch()
            mode = aside.stat().st_mode
            save_file(tensors, aside, metadata=metadata)
            _to_disk(aside)
            aside.chmod(mode)  # safetensors allows only the owner to read its file
            os.replace(aside, path)
        finally:
            aside.unlink(missing_ok=True)
    except Exception as error:  # safetensors raises its own error for a full disk
        if not isinstance(error, OSError) and type(error).__name__ != "SafetensorError":
            raise
        raise TrainingFailedError(
            f"checkpoint of step {checkpoint.step} cannot be written to {str(directory)!r} "
            f"({error}); {what_is_kept(directory)}: free some space, then resume with --resume"
        ) from error
    for old in _checkpoints(directory)[:-KEPT]:
        old.unlink(missing_ok=True)
    return path


def checkpoint_path(directory: Path, step: int) -> Path:
    """Return where the checkpoint of a step lies."""
    return directory / f"checkpoint-{step:08d}.safetensors"


def newest_checkpoint(directory: Path) -> Path | None:
    """Return the last checkpoint in a directory, None if there is none."""
    found = _checkpoints(directory)
    return found[-1] if found else None


def what_is_kept(directory: Path) -> str:
    """Return for a message which checkpoint a training can resume from."""
    kept = newest_checkpoint(directory)
    return f"{kept.name} is kept" if kept else "there was no checkpoint yet"


def load_checkpoint(path: Path) -> Checkpoint:
    """Return a checkpoint. Raises TrainingError for a file that is not one, or is damaged."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        return _checkpoint(metadata, tensors)
    except (OSError, SafetensorError, KeyError, ValueError, RecursionError) as error:
        raise TrainingError(
            f"{str(path)!r} is not a checkpoint, or is damaged ({type(error).__name__} {error}): "
            "remove it to resume from the one before"
        ) from error


def _checkpoint(metadata: Mapping[str, str], tensors: Mapping[str, Tensor]) -> Checkpoint:
    """Return what a file holds. Raises KeyError or ValueError if it is not a checkpoint."""
    if metadata["overtile_checkpoint"] != FORMAT:
        raise KeyError("overtile_checkpoint")
    if "tensors" in metadata and json.loads(metadata["tensors"]) != _shapes(tensors):
        raise ValueError("its tensors are not those that were written")
    step = int(metadata["step"])
    record, groups = json.loads(metadata["record"]), json.loads(metadata["optimiser"])
    are_groups = isinstance(groups, list) and all(isinstance(group, dict) for group in groups)
    if step < 0 or not isinstance(record, dict) or not are_groups:
        raise ValueError("its step, record or optimiser settings are not valid")
    named = _grouped(tensors)
    state: dict[int, dict[str, Any]] = {}
    for name, tensor in named.get("optimiser", {}).items():
        number, _, entry = name.partition(".")
        state.setdefault(int(number), {})[entry] = tensor
    return Checkpoint(
        step=step,
        model=named["model"],
        ema=named.get("ema"),
        optimiser={"state": state, "param_groups": groups},
        record=record,
    )


def load_newest(
    directory: Path, *, note: Callable[[str], None] = lambda line: None
) -> Checkpoint | None:
    """Return the last checkpoint that is intact, None if there are no checkpoints.

    A file that was damaged after it was written costs the steps since the one before it; ``note``
    is called with a line about it. Raises TrainingError if all are damaged.
    """
    found = _checkpoints(directory)
    for path in reversed(found):
        try:
            return load_checkpoint(path)
        except TrainingError as error:
            note(str(error))
    if found:
        raise TrainingError(
            f"all checkpoints in {str(directory)!r} are damaged, {found[-1].name} is the last "
            "one: remove them to start again"
        )
    return None


def load_step(directory: Path, step: int) -> Checkpoint:
    """Return the checkpoint of a step, which another machine may have written a moment ago.

    Raises TrainingError if it cannot be read here for ``SEEN_WITHIN_S``.
    """
    path, until = checkpoint_path(directory, step), time.monotonic() + SEEN_WITHIN_S
    while True:
        try:
            return load_checkpoint(path)
        except TrainingError as error:
            if time.monotonic() < until:
                time.sleep(0.2)
            elif path.exists():
                raise
            else:
                raise TrainingError(
                    f"{str(path)!r} was saved, but {socket.gethostname()} does not see it: all "
                    "workers need the folder of the training; then resume with --resume"
                ) from error


def _check_finite(checkpoint: Checkpoint, directory: Path) -> None:
    for name, tensor in chain(checkpoint.model.items(), (checkpoint.ema or {}).items()):
        if not bool(tensor.isfinite().all()):
            raise TrainingFailedError(
                f"step {checkpoint.step} made weights that are NaN or infinite ({name}): the "
                f"training stops, {what_is_kept(directory)}; use a lower learning_rate"
            )


def _flattened(checkpoint: Checkpoint) -> tuple[dict[str, Tensor], Any]:
    """Return every tensor under one name, and the optimiser's settings."""
    tensors = {f"model/{name}": tensor for name, tensor in checkpoint.model.items()}
    if checkpoint.ema is not None:
        tensors |= {f"ema/{name}": tensor for name, tensor in checkpoint.ema.items()}
    for number, entries in checkpoint.optimiser["state"].items():
        for name, value in entries.items():
            if value is not None:  # SGD before its first step has no momentum yet
                tensors[f"optimiser/{number}.{name}"] = torch.as_tensor(value)
    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    return plain, checkpoint.optimiser["param_groups"]


def _shapes(tensors: Mapping[str, Tensor]) -> dict[str, list[int]]:
    return {name: list(tensor.shape) for name, tensor in tensors.items()}


def _grouped(tensors: Mapping[str, Tensor]) -> dict[str, dict[str, Tensor]]:
    groups: dict[str, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        group, _, rest = name.partition("/")
        groups.setdefault(group, {})[rest] = tensor
    return groups


def _checkpoints(directory: Path) -> list[Path]:
    """Return the checkpoints of a directory, oldest first."""
    if not directory.is_dir():
        return []
    named = [path for path in directory.iterdir() if _NAME.fullmatch(path.name)]
    return sorted(named, key=lambda path: int(_NAME.fullmatch(path.name)[1]))  # type: ignore[index]


def _to_disk(path: Path) -> None:
    """Flush a file to disk: its name must not exist before its contents."""
    with path.open("rb") as file:
        os.fsync(file.fileno())
