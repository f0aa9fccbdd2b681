"""Send a signal to a command at one moment after the other, from the start of Python to its end.

    python -m faults.signal_sweep --every 0.02 --commands segment --signals TERM,INT

Each run is a new Python, so that its imports and its exit count too, unless --forked. It ends with
the exit code of that signal and one line, or with 0 if it had done its work; the same command then
ends with the bytes of an undisturbed run. Only before the command has set its handlers, while
Python itself starts, may the signal end it by default. Exits with 1 if a run did otherwise.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from .commands import POLL_S, Commands, Ended, HungError, Running
from .laws import check_alone, check_same, check_words
from .reference import Place
from .small import COMMANDS, Small, stored

DRAINED, STOPPED = 75, 1
DRAIN: Final = frozenset({"segment", "objects", "convert", "train", "meshes"})
"""Commands that SIGUSR1 drains; the others ignore it."""
OBJECTS: Final = "objects.zarr"


def _meshes(inputs: Path, output: Path) -> list[str]:
    return ["meshes", str(inputs / OBJECTS), str(output), "--format", "ply"]


SWEPT = {**COMMANDS, "meshes": Small(name="meshes", words=_meshes, promised=stored, output="ply")}


@dataclass(frozen=True, slots=True, kw_only=True)
class Sent:
    """One run. at_s: when the signal was sent; None if the command had ended before."""

    command: str
    signal: str
    at_s: float | None
    code: int
    last_line: str
    outcome: str
    problem: str = ""


class Sweep:
    """Runs of one command that are each sent one signal."""

    def __init__(
        self, small: Small, *, place: Place, commands: Commands, forked: bool = False
    ) -> None:
        """forked: start the runs from the zygote, which saves their imports."""
        self._small, self._place, self._commands = small, place, commands
        self._start = commands.start if forked else commands.execute
        if small.name == "meshes" and not (place.inputs / OBJECTS).exists():
            words = place.words(COMMANDS["objects"], place.inputs / OBJECTS)
            check_words(commands.start(words).ended())
        self._expected = place.reference(small).content
        folder = Path(tempfile.mkdtemp(dir=place.folder))
        ended = self._start(place.words(small, folder / small.output)).ended()
        check_words(ended)
        check_same(small, folder / small.output, self._expected)
        self.seconds = ended.seconds
        """Of an undisturbed run."""

    def send(self, name: str, at_s: float) -> Sent:
        """Return what happens if the signal SIG``name`` comes this long after the start."""
        small, number = self._small, getattr(signal, f"SIG{name}")
        folder = Path(tempfile.mkdtemp(dir=self._place.folder))
        output = folder / small.output
        running = self._start(self._place.words(small, output))
        sent_at_s, was_handled = _sent(running, number, at_s)
        code, outcome, problem, last_line = 0, "hung", "", ""
        try:
            ended = running.ended()
            code, last_line = ended.code, ended.last_line
            outcome = "failed"
            outcome = self._outcome(name, ended, was_handled=was_handled)
            check_alone(running)
            again = self._commands.start(self._place.words(small, output))
            check_words(again.ended())
            check_same(small, output, self._expected)
            shutil.rmtree(folder)
        except HungError as error:
            problem = str(error)
        except (AssertionError, OSError, ValueError) as error:
            outcome, problem = "failed", f"{type(error).__name__}: {error}"
        return Sent(
            command=small.name, signal=name, at_s=sent_at_s, code=code, last_line=last_line,
            outcome=outcome, problem=problem,
        )  # fmt: skip

    def _outcome(self, name: str, ended: Ended, *, was_handled: bool) -> str:
        """Return how a run ended. Raises AssertionError if it should not end so."""
        if not was_handled and ended.code != 0:
            is_interrupted = name == "INT" and "KeyboardInterrupt" in ended.last_line
            is_early = is_interrupted or ended.code == -getattr(signal, f"SIG{name}")
            assert is_early or ended.code in (STOPPED, DRAINED), ended
            if is_early:
                return "Python was starting"
        drains = name == "USR1" and self._small.name in DRAIN
        stops = name != "USR1"
        check_words(ended, codes={0, *([DRAINED] if drains else ()), *([STOPPED] if stops else ())})
        if ended.code:
            assert re.search(r"\b(drained|stopped)\b", ended.last_line), ended.text
        return {0: "done", DRAINED: "drained", STOPPED: "stopped"}[ended.code]


def _sent(running: Running, number: int, at_s: float) -> tuple[float | None, bool]:
    """Send a signal at its time; return when that was, and whether it was handled then."""
    while running.seconds < at_s:
        if running.poll() is not None:
            return None, True
        time.sleep(min(POLL_S / 5, at_s))
    was_handled = running.handles_stops()
    now = running.seconds
    running.signal(number)
    return round(now, 3), was_handled


def moments(seconds: float, every_s: float) -> Iterator[float]:
    """Yield times from the start of a run to a little after its end."""
    for number in range(int(1.1 * seconds / every_s) + 1):
        yield number * every_s


def main(arguments: Sequence[str] | None = None) -> int:
    """Sweep over the commands and signals; return 1 if a run did not end as it should."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--every", type=float, default=0.02, help="seconds between two moments")
    parser.add_argument("--commands", default=",".join(SWEPT))
    parser.add_argument("--signals", default="TERM,INT,HUP,USR1")
    parser.add_argument("--first", type=float, default=0.0, help="first moment, in seconds")
    parser.add_argument("--forked", action="store_true", help="without the imports: faster")
    parser.add_argument("--out", type=Path, default=Path("signal-sweep.jsonl"))
    options = parser.parse_args(arguments)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background ignores it
    folder = Path(tempfile.mkdtemp(prefix="signal-sweep-"))
    counted = Counter[tuple[str, str, str]]()
    with Commands(folder) as commands, options.out.open("a") as file:
        place = Place(folder, commands)
        for command in options.commands.split(","):
            sweep = Sweep(SWEPT[command], place=place, commands=commands, forked=options.forked)
            for name in options.signals.split(","):
                for at_s in moments(sweep.seconds, options.every):
                    if at_s < options.first:
                        continue
                    one = sweep.send(name, at_s)
                    file.write(json.dumps(asdict(one)) + "\n")
                    file.flush()
                    counted[command, name, one.outcome] += 1
                    if one.problem:
                        print(one, flush=True)
        for (command, name, outcome), count in counted.items():
            print(f"{command}, SIG{name}: {count} {outcome}")
    bad = sum(count for (_, _, outcome), count in counted.items() if outcome in ("failed", "hung"))
    if not bad:
        shutil.rmtree(folder, ignore_errors=True)
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
