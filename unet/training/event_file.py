"""Files for TensorBoard, an optional package: numbers and pictures per step.

Written synchronously, with TensorBoard's own records: its writers and torch's use a thread that
prints a traceback when the disk is full.
"""

from __future__ import annotations

import socket
import struct
import time
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any


def tensorboard_is_installed() -> bool:
    """Return whether files for TensorBoard can be written here."""
    return find_spec("tensorboard") is not None


class EventFile:
    """A file that TensorBoard shows; each start of a training adds one to its directory."""

    def __init__(self, directory: Path, *, first_step: int) -> None:
        """Hide what earlier files hold of steps from ``first_step`` on. Raises OSError."""
        from tensorboard.compat.proto.event_pb2 import SessionLog

        directory.mkdir(parents=True, exist_ok=True)
        name = f"events.out.tfevents.{time.time_ns():020d}.{socket.gethostname()}"
        self._path = directory / name
        self._write({"file_version": "brain.Event:2"})
        self._write({"step": first_step, "session_log": SessionLog(status=SessionLog.START)})

    def add(
        self, step: int, *, numbers: Mapping[str, float], pngs: Mapping[str, bytes] | None = None
    ) -> None:
        """Add the numbers and pictures of one step, by their tags. Raises OSError."""
        from tensorboard.compat.proto.summary_pb2 import Summary

        values = [Summary.Value(tag=name, simple_value=value) for name, value in numbers.items()]
        for name, png in (pngs or {}).items():
            width, height = struct.unpack(">II", png[16:24])  # the PNG's first chunk
            image = Summary.Image(
                height=height, width=width, colorspace=3, encoded_image_string=png
            )
            values.append(Summary.Value(tag=name, image=image))
        self._write({"step": step, "summary": Summary(value=values)})

    def _write(self, fields: Mapping[str, Any]) -> None:
        from tensorboard.compat.proto.event_pb2 import Event
        from tensorboard.summary.writer.record_writer import RecordWriter

        event = Event(wall_time=time.time(), **fields)
        with self._path.open("ab") as file:
            RecordWriter(file).write(event.SerializeToString())
