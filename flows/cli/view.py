"""``overtile view``: shows an output in a browser on this machine, or in napari."""

from __future__ import annotations

import argparse
import importlib.util
import subprocess
import sys
import threading
from typing import TYPE_CHECKING, Final

from ..options.view import ViewFiles, ViewOptions
from ..text.terminal import say, show
from .arguments import add_options, read_options

if TYPE_CHECKING:
    from pipeline.viewing.layers import View

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

    from ..viewing.serve import served

    parameters = read_options(ViewOptions, options)
    output = Location.parse(options.output)
    view = find_view(output, None if options.raw is None else Location.parse(options.raw))
    if parameters.print_only:
        for one in view_commands(view.place):
            show(f"{one.viewer}: {one.command}")
        return
    for note in view.notes:
        say(f"note: {note}")
    if parameters.napari:
        _open_napari(view)
        return
    with served(view, port=parameters.port) as link:
        say(f"layers: {', '.join(layer.name for layer in view.layers)}")
        print(f"open in a browser: {link}", flush=True)
        say("stop with Ctrl-C")
        try:
            threading.Event().wait()
        except KeyboardInterrupt:
            say("stopped")


def _open_napari(view: View) -> None:
    """Run napari with the images of a view. Raises PlanError where it is not installed."""
    from pipeline.base.errors import PlanError, RunError
    from pipeline.output.viewing import NAPARI_PLUGIN

    missing = [name for name in ("napari", "napari_ome_zarr") if not importlib.util.find_spec(name)]
    if missing or not any(map(importlib.util.find_spec, _QT)):
        raise PlanError(
            f"--napari: {' and '.join(missing) or 'a Qt for napari'} not found: pip install "
            f"'napari[all]' {NAPARI_PLUGIN}, or leave --napari out"
        )
    images = [layer.source.image for layer in view.layers if layer.source.format == "zarr"]
    raw = [str(one) for one in images[:1] if one is not None and one != view.place]
    command = [sys.executable, "-P", "-m", "flows.viewing.napari_window", *raw, str(view.place)]
    code = subprocess.run(command, check=False).returncode  # noqa: S603  it is napari
    if code:
        raise RunError(f"napari ended with exit code {code}")
