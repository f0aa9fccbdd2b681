"""Randomised kill-and-resume rounds on small volumes.

    python -m faults.kill_and_resume --rounds 1000 --seed 17 --out rounds.jsonl

A round starts a command, disturbs it one to three times, each time at a random moment, starts the
same command again until it ends, and compares what it promises with an undisturbed run, byte by
byte. Each round follows from the seed and its number, and is appended to the file; a file that
exists is continued. Exits with 1 if a round failed.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from .commands import POLL_S, Commands, HungError, Running
from .laws import check_alone, check_same, check_words
from .reference import Place, drawn
from .small import COMMANDS, Small

VICTIMS = {
    "driver killed": (-signal.SIGKILL, 0),
    "driver and workers killed at once": (-signal.SIGKILL, 0),
    "worker killed": (0,),
    "worker terminated": (0,),
    "driver terminated": (1, 0),
    "driver interrupted": (1, 0),
    "driver stopped and continued": (0,),
    "worker stopped and continued": (0,),
}
"""What happens, and the exit codes that the command may then have; 0 if it was about to end."""
KILLS = (3, 2, 3, 1, 2, 1, 1, 1)
"""How often each happens, in relation to the others."""
MOST_FAULTS = 3
STOP_S = 0.7


@dataclass(frozen=True, slots=True, kw_only=True)
class Round:
    """One round. disturbances: what happened, and when."""

    number: int
    seed: int
    command: str
    disturbances: tuple[tuple[str, str], ...]
    starts: int
    seconds: float
    outcome: str
    problem: str = ""


def disturb(running: Running, victim: str, generator: random.Random) -> bool:
    """Do to a command what ``victim`` names; return False if it, or its workers, ended before."""
    if victim.startswith("worker"):
        while not (workers := running.workers()):
            if running.poll() is not None:
                return False
            time.sleep(POLL_S)
        return _worker_disturbed(generator.choice(workers), victim)
    if running.poll() is not None:
        return False
    if victim == "driver and workers killed at once":
        running.kill()
    elif victim == "driver stopped and continued":
        running.signal(signal.SIGSTOP)
        time.sleep(STOP_S)
        running.signal(signal.SIGCONT)
    else:
        signals_of = {
            "driver killed": signal.SIGKILL, "driver terminated": signal.SIGTERM,
            "driver interrupted": signal.SIGINT,
        }  # fmt: skip
        running.signal(signals_of[victim])
    return True


def _worker_disturbed(pid: int, victim: str) -> bool:
    signals = {
        "worker killed": [signal.SIGKILL], "worker terminated": [signal.SIGTERM],
        "worker stopped and continued": [signal.SIGSTOP, signal.SIGCONT],
    }  # fmt: skip
    for number in signals[victim]:
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            return False
        if number == signal.SIGSTOP:
            time.sleep(STOP_S)
    return True


def play(number: int, *, seed: int, small: Small, place: Place, commands: Commands) -> Round:
    """Return one round, whatever its outcome."""
    generator = random.Random(f"{seed}/{number}")
    began = time.monotonic()
    of = place.reference(small)
    folder = Path(tempfile.mkdtemp(dir=place.folder))
    output, happened = folder / small.output, list[tuple[str, str]]()
    starts, outcome, problem = 0, "identical", ""
    ours: list[Running] = []
    try:
        for _ in range(generator.randint(1, MOST_FAULTS)):
            moment = drawn(generator, small)
            (victim,) = generator.choices(list(VICTIMS), KILLS)
            at_once = generator.random() < 0.5
            running = commands.start(place.words(small, output))
            starts += 1
            ours.append(running)
            was_reached = moment.reached(running, small, output, of)
            if not (was_reached and disturb(running, victim, generator)):
                check_words(running.ended())
                break
            happened.append((victim, str(moment)))
            check_words(running.ended(), codes=VICTIMS[victim])
            if not at_once:
                check_alone(running)
        ours.append(commands.start(place.words(small, output)))
        starts += 1
        check_words(ours[-1].ended())
        check_same(small, output, of.content)
        for running in ours:
            check_alone(running)
    except HungError as error:
        outcome, problem = "hung", str(error)
    except (AssertionError, OSError, ValueError) as error:
        outcome, problem = "failed", f"{type(error).__name__}: {error}"
    if outcome == "identical":
        shutil.rmtree(folder, ignore_errors=True)
    for running in ours:
        if running.poll() is None or running.processes():
            running.kill()
    return Round(
        number=number, seed=seed, command=small.name, disturbances=tuple(happened), starts=starts,
        seconds=round(time.monotonic() - began, 2), outcome=outcome, problem=problem,
    )  # fmt: skip


def played(out: Path) -> list[Round]:
    """Return the rounds in a file; none if there is no file. A torn last line is left out."""
    rounds = []
    for line in out.read_text().splitlines() if out.exists() else ():
        try:
            values = json.loads(line)
        except ValueError:
            continue
        pairs = tuple((what, when) for what, when in values.pop("disturbances"))
        rounds.append(Round(disturbances=pairs, **values))
    return rounds


def main(arguments: Sequence[str] | None = None) -> int:
    """Play the rounds that are missing."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--rounds", type=at_least_one, default=1000, help="rounds that disturb a command"
    )
    parser.add_argument("--seed", type=int, default=17)
    parser.add_argument("--out", type=Path, default=Path("kill-and-resume.jsonl"))
    parser.add_argument("--commands", default=",".join(COMMANDS))
    parser.add_argument("--only", type=int, help="play this round alone, and keep its files")
    options = parser.parse_args(arguments)
    names = options.commands.split(",")
    before = [one for one in played(options.out) if one.seed == options.seed]
    counted = Counter(one.outcome for one in before)
    number = max((one.number for one in before), default=-1) + 1
    folder = Path(tempfile.mkdtemp(prefix="kill-and-resume-"))
    with Commands(folder) as commands, options.out.open("a") as file:
        place = Place(folder, commands, runs=2)
        while True:
            if options.only is not None:
                number = options.only
            elif sum(counted.values()) - counted["not disturbed"] >= options.rounds:
                break
            small = COMMANDS[names[number % len(names)]]
            one = play(number, seed=options.seed, small=small, place=place, commands=commands)
            if one.outcome == "identical" and not one.disturbances:
                one = Round(**{**asdict(one), "outcome": "not disturbed"})
            file.write(json.dumps(asdict(one)) + "\n")
            file.flush()
            counted[one.outcome] += 1
            print(_shown(one, counted), flush=True)
            if options.only is not None:
                break
            commands.forget()
            number += 1
    bad = counted["failed"] + counted["hung"]
    if bad:
        print(f"kept: {folder}")
    else:
        shutil.rmtree(folder, ignore_errors=True)
    return 1 if bad else 0


def at_least_one(text: str) -> int:
    """Return a positive integer, for argparse."""
    if not text.isdecimal() or not int(text):
        raise argparse.ArgumentTypeError(f"{text!r}: expected a positive integer")
    return int(text)


def _shown(one: Round, counted: Counter[str]) -> str:
    what = "; ".join(f"{victim} at {moment}" for victim, moment in one.disturbances)
    line = f"{one.number}: {one.command}, {what or 'nothing'}: {one.outcome}, {one.seconds:.1f} s"
    if not one.problem:
        return line
    return (
        f"{line}\n  seed {one.seed}, --only {one.number}: {one.problem}\n  so far: {dict(counted)}"
    )


if __name__ == "__main__":
    sys.exit(main())
