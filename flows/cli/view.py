"""``overtile view``: shows an output in a browser on this machine, or in napari."""

from __future__ import annotations

import argparse
import importlib.util
import subprocess
import sys
import threading
from typing import Final

from ..options.view import ViewFiles, ViewOptions
from ..text.terminal import say, show
from .arguments import add_options, read_options

_QT: Final = ("PyQt6", "PySide6", "PyQt5", "PySide2")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``overtile view``."""
    add_options(parser, ViewFiles)
    parser.add_argument(
        "raw", metavar="RAW", nargs="?",
        help="image below the result (default: the one that it was made from)",
    )  # fmt: skip
    add_options(parser, ViewOptions)


def run(options: argparse.Namespace) -> None:
    """Serve the output until Ctrl-C."""
    from pipeline.base.location import Location
    from pipeline.output.viewing import view_commands
    from pipeline.viewing.layers import find_view
    from pipeline.viewing.napari_plugin import napari_plugin

    from ..viewing.serve import served

    parameters = read_options(ViewOptions, options)
    output = Location.parse(options.output)
    raw = None if options.raw is None else Location.parse(options.raw)
    view = find_view(output, raw)
    if parameters.print_only:
        plugin = napari_plugin(view)
        for one in view_commands(view.place, raw=raw, port=parameters.port, plugin=plugin):
            show(f"{one.viewer}: {one.command}")
        return
    for note in view.notes:
        say(f"note: {note}")
    if parameters.napari:
        _open_napari(options.output, options.raw)
        return
    with served(view, port=parameters.port) as link:
        say(f"layers: {', '.join(layer.name for layer in view.layers)}")
        print(f"open in a browser: {link}", flush=True)
        say("stop with Ctrl-C")
        try:
            threading.Event().wait()
        except KeyboardInterrupt:
            say("stopped")


def _open_napari(output: str, raw: str | None) -> None:
    """Run napari with the layers of a view. Raises PlanError where it is not installed."""
    from pipeline.base.errors import PlanError, RunError
    from pipeline.base.shell_words import positional

    has_napari = importlib.util.find_spec("napari") is not None
    if not has_napari or not any(map(importlib.util.find_spec, _QT)):
        missing = "a Qt for napari" if has_napari else "napari"
        raise PlanError(
            f"--napari: {missing} not found: pip install 'napari[all]', or leave --napari out"
        )
    shown = [positional(output), *([] if raw is None else [positional(raw)])]
    command = [sys.executable, "-P", "-m", "flows.viewing.napari_window", *shown]
    code = subprocess.run(command, check=False).returncode  # noqa: S603  it is napari
    if code:
        raise RunError(f"napari ended with exit code {code}")
