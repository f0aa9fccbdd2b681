"""What the command ``overtile`` does, in any process; entry.py is that of the console script.

Exit codes: 0 done; 1 failed, resumable; 2 bad input; 75 (EX_TEMPFAIL) drained: SIGUSR1 ended a run
early, and the same command resumes it (train: with --resume).
"""

from __future__ import annotations

import atexit
import gc
import logging
import os
import re
import sys
import warnings
from collections.abc import Iterable, Sequence
from contextlib import suppress
from importlib import import_module

from deploy.processes.limits import check_limit
from pipeline.base.errors import OvertileError, RunDrainedError, RunError, StorageFullError
from pipeline.base.loopback import bypass_proxies
from pipeline.base.redaction import cleaned, redacted
from pipeline.base.store_errors import is_full, one_line
from pipeline.base.text import printable

from ..signals.stop import (
    DRAINED_TEXT,
    EXIT_DRAINED,
    DrainedBeforeRun,
    handle_stops,
    nothing_begun,
)
from ..text.streams import settle_streams
from ..text.terminal import clear_status, say, show_status
from .bundled_list import asks_for_list, show_bundled
from .parser import Parser
from .system_errors import refused_by_the_system

EXIT_FAILED, EXIT_BAD_INPUT = 1, 2
COMMANDS = {
    "segment": "segment a volume: Zarr, TIFF or slices in, OME-Zarr out",
    "finish": "complete an output of segment --shard: pyramid and report",
    "plan": "show what segment would do and cost, without running it",
    "preview": "segment a few small places and show them as a picture",
    "mask": "propose a tissue mask, for segment --mask",
    "train": "train a U-Net on labelled volumes",
    "corrections": "paint corrections of an output, for the next training",
    "objects": "find every object once, with ids, from the scores of a segmentation",
    "outlines": "write the outlines of objects as GeoJSON, for QuPath",
    "meshes": "write the surfaces of objects as PLY, OBJ or for Neuroglancer",
    "convert": "write TIFF, slices, slides or Zarr as OME-Zarr",
    "view": "show an output in a browser on this machine, or in napari",
    "evaluate": "score a prediction against the truth",
    "weights": "show the contents of a weights file",
    "submit": "segment or train in a separate Slurm job, requeued until done",
    "status": "show the progress of an output or a training, from any machine",
    "verify": "check the files of an output against the digests of its ledger",
    "cluster": "start, inspect or stop a cluster that outlives a run",
    "preflight": "check whether a run could start: versions, files, space, devices",
    "prefect": "start, inspect or stop Prefect with overtile's deployments",
    "demo": "segment a synthetic volume, find its cells, score both",
    "completion": "print a script that completes commands in bash, zsh or fish",
}
"""Each is a module ``flows.cli.NAME`` with add_arguments(parser) and run(options)."""

RESUMABLE = ("segment", "finish", "convert", "objects", "meshes", "train")
"""Commands that keep what is done when they are stopped."""
SLOW = (*RESUMABLE, "corrections", "evaluate", "preview", "mask", "preflight", "verify", "demo")
"""Commands that take more than a second."""
_KEPT = "; finished work is kept: start the same command again to resume"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code. arguments: by default those of this process."""
    if arguments is not None:
        return _run(arguments)
    settle_streams()
    try:
        return _run(sys.argv[1:])
    finally:
        logging.disable(logging.CRITICAL)  # the command has ended; Dask reports what it closes
        atexit.register(gc.freeze)  # else Python looks for garbage in all libraries, up to 0.7 s


def _run(arguments: Sequence[str]) -> int:
    handle_stops()
    bypass_proxies(os.environ)
    given: list[str] = []
    try:
        given = _joined(arguments)
        if asks_for_list(given):
            show_bundled()
            return 0
        with nothing_begun():
            parser = make_parser(name for name in COMMANDS if name in given)
        options = parser.parse_args(given)
        options.given = given[1:]
        if given[0] in SLOW:
            show_status(f"starting overtile {given[0]}")
            check_limit()
        options.command(options)
        if sys.stdout is not None:  # None: it was closed before the start
            sys.stdout.flush()
    except (OvertileError, RunError) as error:
        say(f"overtile: {printable(redacted(str(error)))}")
        atexit.register(_silence_abandoned_reads)
        return _exit_code(error)
    except DrainedBeforeRun:
        say(DRAINED_TEXT)
        return EXIT_DRAINED
    except KeyboardInterrupt:
        say(f"overtile: stopped{_KEPT if given and given[0] in RESUMABLE else ''}")
        return EXIT_FAILED
    except BrokenPipeError:
        _drop_output()
        return EXIT_FAILED
    except (OSError, RuntimeError, ValueError) as error:  # a full disk, for example
        if (why := refused_by_the_system(error)) is not None:
            say(f"overtile: {why}")
            return EXIT_BAD_INPUT if isinstance(error, ValueError) else EXIT_FAILED
        if not isinstance(error, OSError):
            raise
        _drop_output()
        is_kept = is_full(error) and given and given[0] in RESUMABLE
        advice = f"; free some space{_KEPT}" if is_kept else ""
        say(f"overtile: {one_line(f'{type(error).__name__}: {error}')}{advice}")
        return EXIT_FAILED
    except Exception as error:  # a fault of overtile: the traceback shows where, and no secrets
        fault = cleaned(error)
        if fault is error:
            raise
        raise fault from None
    finally:
        clear_status()
    return 0


def _drop_output() -> None:
    """Let what is still buffered go nowhere: Python would report that it cannot be written."""
    with suppress(OSError, ValueError, AttributeError):  # standard output is closed, or not a file
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _silence_abandoned_reads() -> None:
    """Keep the end of the process silent; the error is reported already.

    Where one chunk cannot be read, Zarr leaves the reads of the others pending. At exit, asyncio
    and Python would report each of them after the line that states the error.
    """
    logging.getLogger("asyncio").setLevel(logging.CRITICAL)
    warnings.filterwarnings("ignore", "coroutine .* was never awaited", RuntimeWarning)
    sys.unraisablehook = lambda _: None


def _exit_code(error: OvertileError | RunError) -> int:
    if isinstance(error, OvertileError):
        return EXIT_FAILED if isinstance(error, StorageFullError) else EXIT_BAD_INPUT
    return EXIT_DRAINED if isinstance(error, RunDrainedError) else EXIT_FAILED


def _joined(arguments: Sequence[str]) -> list[str]:
    """Return the arguments with every value like ``-2,4`` joined to its option by ``=``.

    argparse would take it for an option, and report a missing value instead of a wrong one.
    """
    joined: list[str] = []
    for number, argument in enumerate(arguments):
        if argument == "--":  # the rest are files, also one named -2.zarr
            return [*joined, *arguments[number:]]
        if joined and joined[-1].startswith("--") and re.match(r"-\d", argument):
            joined[-1] += f"={argument}"
        else:
            joined.append(argument)
    return joined


def make_parser(commands: Iterable[str] = COMMANDS) -> Parser:
    """Return the parser; only these commands get arguments, because loading all takes time."""
    parser = Parser(
        prog="overtile",
        description="Segment microscopy volumes that are too large for one machine. The tiled "
        "result equals that of the whole volume.",
        epilog="Exit codes: 0 done; 1 failed, start the same command again to resume; 2 bad input; "
        "75 stopped early by SIGUSR1, after the blocks or the step in progress; start the same "
        "command again to resume (train: with --resume).",
    )
    parser.add_argument("--version", action="version", version=_version())
    subparsers = parser.add_subparsers(required=True, metavar="COMMAND")
    wanted = set(commands)
    for name, about in COMMANDS.items():
        description = f"{about[0].upper()}{about[1:]}."
        sub = subparsers.add_parser(name, help=about, description=description)
        if name in wanted:
            module = import_module(f"flows.cli.{name}")
            module.add_arguments(sub)
            sub.set_defaults(command=module.run)
    return parser


def _version() -> str:
    from importlib.metadata import version

    return f"overtile {version('overtile')}"
