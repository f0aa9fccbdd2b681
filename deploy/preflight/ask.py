"""What must hold on client, scheduler and workers before a run starts: asked, then told in lines.

    client ---- all questions, one message each ----> scheduler and every worker, at the same time
           <--- answers, or silence ----------------
    checks judge the answers: error, warning, fine

A worker that is frozen keeps nobody waiting: each is asked by a call of its own, with a limit.
"""

from __future__ import annotations

import asyncio
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from pipeline.base.scheduling import workers_of

from .findings import Check, Failure, Finding, Silence, grouped, named
from .process_checks import process_checks

if TYPE_CHECKING:
    from distributed import Client

ANSWER_S = 30.0
"""How long one question may take on a worker: seconds, as a rule; longer where it is busy."""
SILENCE_S = 5.0
"""How much longer the message itself may take, and importing what it asks."""
CLOCK_S = 5.0
"""Clocks that differ by more are told."""
SCHEDULER = "the scheduler"


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """What one process answered, and its clock around that."""

    answers: Mapping[str, Any]
    executable: str
    came_at: float
    left_at: float


@dataclass(frozen=True, slots=True)
class _Heard:
    """A reply, or the exception instead; and our clock around it."""

    reply: Reply | BaseException
    asked_at: float
    heard_at: float


async def answered(questions: Mapping[str, Callable[[], Any]], within_s: float) -> Reply:
    """Answer on a worker: each question in a thread of its own, so that its event loop goes on."""
    came_at = time.time()
    values = await asyncio.gather(*(_answer(ask, within_s) for ask in questions.values()))
    return Reply(
        answers=dict(zip(questions, values, strict=True)), executable=sys.executable,
        came_at=came_at, left_at=time.time(),
    )  # fmt: skip


async def _answer(ask: Callable[[], Any], within_s: float) -> Any:
    """Return what a question comes to, or a Failure. Its thread may stay behind on a dead disk."""
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[Any] = loop.create_future()

    def settle(value: Any) -> None:
        if not answer.done():
            answer.set_result(value)

    def run() -> None:
        try:
            value = ask()
        except Exception as error:  # whatever is wrong there is what we want to know
            value = Failure(f"{type(error).__name__}: {' '.join(str(error).split())}"[:300])
        loop.call_soon_threadsafe(settle, value)

    threading.Thread(target=run, name="preflight", daemon=True).start()
    try:
        return await asyncio.wait_for(answer, within_s)
    except TimeoutError:
        return Silence()


def look(
    client: Client, checks: Sequence[Check] = (), *, within_s: float = ANSWER_S
) -> tuple[Finding, ...]:
    """Return what was found on the scheduler and on all workers that there are, errors first.

    checks: beside those of every process (see process_checks.py).
    """
    all_checks = (*process_checks(), *checks)
    workers = {name_of(worker): address for address, worker in workers_of(client).items()}
    heard = client.sync(_ask, client, workers, all_checks, within_s)
    spoke = {who: one.reply for who, one in heard.items() if isinstance(one.reply, Reply)}
    findings = [*_unheard(heard), *_clocks(heard)]
    for check in all_checks:
        answers = {
            who: reply.answers[check.name] for who, reply in spoke.items()
            if check.name in reply.answers
        }  # fmt: skip
        silent = [who for who, answer in answers.items() if isinstance(answer, Silence)]
        if silent:
            findings.append(_slow(check.name, silent, within_s))
        said = {who: answer for who, answer in answers.items() if who not in silent}
        findings += check.judge(said) if said else ()
    order = ("error", "warning", "fine")
    return tuple(sorted(findings, key=lambda finding: order.index(finding.level)))


async def _ask(
    client: Client, workers: Mapping[str, str], checks: Sequence[Check], within_s: float
) -> dict[str, _Heard]:
    """Ask the scheduler and all workers at the same time; runs on the client's event loop.

    workers: their addresses, by name.
    """
    questions = {check.name: check.ask for check in checks}
    at_scheduler = {check.name: check.ask for check in checks if check.of_scheduler}

    async def heard(call: Callable[[], Awaitable[Any]]) -> _Heard:
        asked_at = time.time()
        try:
            reply = await asyncio.wait_for(call(), within_s + SILENCE_S)
        except Exception as error:  # it cannot import us, is frozen, or is gone
            reply = error
        return _Heard(reply, asked_at, time.time())

    async def of_worker(address: str) -> Any:
        options = {"workers": [address], "on_error": "return"}
        replies = await client.run(answered, questions, within_s, **options)
        return replies[address]

    def of_scheduler() -> Any:
        return client.run_on_scheduler(answered, at_scheduler, within_s)

    calls: list[Callable[[], Awaitable[Any]]] = [of_scheduler]
    calls += [partial(of_worker, address) for address in workers.values()]
    results = await asyncio.gather(*map(heard, calls))
    return dict(zip([SCHEDULER, *workers], results, strict=True))


def name_of(worker: Mapping[str, Any]) -> str:
    """Return how a finding calls a worker: by its name and host."""
    return f"worker {worker['name']} on {worker['host']}"


def _unheard(heard: Mapping[str, _Heard]) -> Iterator[Finding]:
    """Yield what is to be said of those that gave no reply at all."""
    silent: list[str] = []
    unable: dict[str, str] = {}
    for who, one in heard.items():
        if isinstance(one.reply, (OSError, KeyError)):  # TimeoutError is an OSError
            silent.append(who)
        elif isinstance(one.reply, BaseException):  # distributed tells its kind in the text
            unable[who] = " ".join(str(one.reply).split())[:200]
    for why, who_cannot in grouped(unable):
        yield Finding(
            level="error", check="packages",
            text=f"{named(who_cannot)} cannot run this overtile ({why}): install it in the Python "
            "that starts it there",
        )  # fmt: skip
    if silent:
        none_left = not any(
            isinstance(heard[who].reply, Reply) for who in heard if who != SCHEDULER
        )
        yield Finding(
            level="error" if none_left else "warning", check="answers",
            text=f"{named(silent)} did not answer: frozen, cut off or leaving; look at its log, or "
            "restart it",
        )  # fmt: skip


def _slow(check: str, who: Sequence[str], within_s: float) -> Finding:
    """Return what is to be said of those that left one question open."""
    return Finding(
        level="warning", check=check,
        text=f"{named(who)} could not tell its {check} within {within_s:.0f} s: it is busy, or a "
        "disk does not answer; look again",
    )  # fmt: skip


def _clocks(heard: Mapping[str, _Heard]) -> Iterator[Finding]:
    """Yield how far the others' clocks are from ours, less what the message's way may explain."""
    off = {}
    for who, one in heard.items():
        if isinstance(one.reply, Reply):
            reply = one.reply
            ahead_s = ((reply.came_at - one.asked_at) + (reply.left_at - one.heard_at)) / 2
            way_s = ((one.heard_at - one.asked_at) - (reply.left_at - reply.came_at)) / 2
            if abs(ahead_s) - abs(way_s) > CLOCK_S:
                off[who] = ahead_s
    for who, ahead_s in off.items():
        yield Finding(
            level="warning", check="clocks",
            text=f"the clock of {who} is {abs(ahead_s):.0f} s {'ahead' if ahead_s > 0 else 'late'}:"
            " set it by NTP; until then times in logs and on the dashboard mislead",
        )  # fmt: skip
    if heard and not off:
        yield Finding(level="fine", check="clocks", text=f"clocks agree within {CLOCK_S:.0f} s")
