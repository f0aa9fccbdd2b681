"""What undisturbed runs of the commands give and need: the measure of every disturbed run."""

from __future__ import annotations

import random
import time
from dataclasses import dataclass
from pathlib import Path

from .commands import POLL_S, Commands, Running
from .small import Content, Small


@dataclass(frozen=True, slots=True)
class Reference:
    """An undisturbed run: what it promises, its seconds, and the most files that it had.

    pages: of 4 KiB, that its files fill at its end.
    """

    content: Content
    seconds: float
    files: int
    pages: int


@dataclass(frozen=True, slots=True)
class Moment:
    """A moment of a run: once it has some of its files, or some of its seconds have passed."""

    by: str
    share: float

    def __str__(self) -> str:
        return f"{self.share:.0%} of the {self.by}"

    @property
    def third(self) -> str:
        """The part of the run in which it lies."""
        return ("start", "middle", "end")[min(2, int(self.share * 3))]

    def reached(self, running: Running, small: Small, output: Path, of: Reference) -> bool:
        """Wait for this moment; return False if the command ended before.

        It is not before the command handles signals: one that resumes has its files at once.
        """
        while running.poll() is None:
            if self._is_now(running, small, output, of) and running.handles_stops():
                return True
            time.sleep(POLL_S)
        return False

    def _is_now(self, running: Running, small: Small, output: Path, of: Reference) -> bool:
        if self.by == "files":
            return small.files(output) >= max(1, self.share * of.files)
        return running.seconds >= self.share * of.seconds


def drawn(generator: random.Random, small: Small) -> Moment:
    """Return a random moment of a run."""
    by = generator.choice(("files", "time"))
    return Moment(by if small.resumes else "time", generator.uniform(0.02, 0.98))


class Place:
    """A folder with the inputs of all commands, and the references that were made so far."""

    def __init__(self, folder: Path, commands: Commands, *, runs: int = 1) -> None:
        """runs: how often each command runs undisturbed; they must agree."""
        self.folder = folder
        self.inputs = folder / "inputs"
        self._commands, self._runs = commands, runs
        self._references: dict[str, Reference] = {}
        self.inputs.mkdir()
        made = commands.start([str(self.inputs)], call="faults.small:make_inputs").ended()
        assert made.code == 0, made.text

    def words(self, small: Small, output: Path) -> list[str]:
        """Return the command for an output."""
        return small.words(self.inputs, output)

    def reference(self, small: Small) -> Reference:
        """Return the undisturbed run of a command, which is run the first time.

        Raises AssertionError if two runs differ: then no comparison would mean anything.
        """
        if small.name not in self._references:
            made = [self._undisturbed(small, number) for number in range(self._runs)]
            assert made[0].content, "nothing is promised"
            assert all(one.content == made[0].content for one in made), "it is not deterministic"
            self._references[small.name] = Reference(
                made[0].content, min(one.seconds for one in made),
                max(one.files for one in made), max(one.pages for one in made),
            )  # fmt: skip
        return self._references[small.name]

    def _undisturbed(self, small: Small, number: int) -> Reference:
        folder = self.folder / f"{small.name}-undisturbed-{number}"
        folder.mkdir()
        output = folder / small.output
        running = self._commands.start(self.words(small, output))
        most = 0
        while running.poll() is None:
            most = max(most, small.files(output))
            time.sleep(POLL_S)
        ended = running.ended()
        assert ended.code == 0, ended.text
        assert not running.left(), "it leaves processes"
        sizes = [path.stat().st_size for path in folder.rglob("*") if path.is_file()]
        pages = sum(-(-size // 4096) for size in sizes)
        return Reference(small.promised(output), ended.seconds, most, pages)
