"""Checks scheduler and workers before a run starts.

    client ---- all questions, one message each ----> scheduler and every worker, at the same time
           <--- answers, or a timeout --------------
    checks turn the answers into findings: error, warning, fine

Each process is asked by a separate call with a timeout, so a frozen worker delays no other.
"""

from __future__ import annotations

import asyncio
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from pipeline.base.store_errors import one_line
from pipeline.base.workers import present_workers, workers_of

from .findings import Check, Failure, Finding, Silence, grouped, named
from .process_checks import process_checks

if TYPE_CHECKING:
    from distributed import Client

ANSWER_S = 30.0
"""Timeout of one question on a worker; it usually takes seconds, longer if the worker is busy."""
SILENCE_S = 5.0
"""Additional time for the message itself, and for the imports of its questions."""
CLOCK_S = 5.0
"""Clocks that differ by more are reported."""
MOST_TRIES = 3
"""How often workers are asked if all of them end before they answer."""
NOTICED_EVERY_S = 0.1
NOTICED_TRIES = 20
"""The scheduler removes a worker some milliseconds after its connections break."""
SCHEDULER = "the scheduler"


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """The answers of one process, and its clock before and after."""

    answers: Mapping[str, Any]
    executable: str
    came_at: float
    left_at: float


@dataclass(frozen=True, slots=True)
class _Outcome:
    """A reply, or an exception instead; and our clock before and after."""

    reply: Reply | BaseException
    asked_at: float
    received_at: float


async def answered(questions: Mapping[str, Callable[[], Any]], within_s: float) -> Reply:
    """Answer on a worker: each question in a separate thread, so as not to block the event loop."""
    came_at = time.time()
    values = await asyncio.gather(*(_answer(ask, within_s) for ask in questions.values()))
    return Reply(
        answers=dict(zip(questions, values, strict=True)), executable=sys.executable,
        came_at=came_at, left_at=time.time(),
    )  # fmt: skip


async def _answer(ask: Callable[[], Any], within_s: float) -> Any:
    """Return the answer to a question, or a Failure. A dead disk may block its thread forever."""
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[Any] = loop.create_future()

    def settle(value: Any) -> None:
        if not answer.done():
            answer.set_result(value)

    def run() -> None:
        try:
            value = ask()
        except Exception as error:  # any problem there is a finding
            value = Failure(one_line(f"{type(error).__name__}: {error}"))
        loop.call_soon_threadsafe(settle, value)

    threading.Thread(target=run, name="preflight", daemon=True).start()
    try:
        return await asyncio.wait_for(answer, within_s)
    except TimeoutError:
        return Silence()


def run_checks(
    client: Client, checks: Sequence[Check] = (), *, within_s: float = ANSWER_S
) -> tuple[Finding, ...]:
    """Return the findings for the scheduler and all current workers, errors first.

    checks: in addition to those of every process (process_checks.py).
    """
    all_checks = (*process_checks(), *checks)
    outcomes = _asked(client, all_checks, within_s)
    replies = {
        process: one.reply for process, one in outcomes.items() if isinstance(one.reply, Reply)
    }
    findings = [*_missing(outcomes), *_clocks(outcomes)]
    for check in all_checks:
        answers = {
            process: reply.answers[check.name] for process, reply in replies.items()
            if check.name in reply.answers
        }  # fmt: skip
        silent = [process for process, answer in answers.items() if isinstance(answer, Silence)]
        if silent:
            findings.append(_timed_out(check.name, silent, within_s))
        given = {process: answer for process, answer in answers.items() if process not in silent}
        findings += check.judge(given) if given else ()
    order = ("error", "warning", "fine")
    return tuple(sorted(findings, key=lambda finding: order.index(finding.level)))


def _asked(client: Client, checks: Sequence[Check], within_s: float) -> dict[str, _Outcome]:
    """Ask scheduler and workers; where all workers ended meanwhile, ask those that replace them."""
    for _ in range(MOST_TRIES):
        workers = {name_of(one): address for address, one in present_workers(client).items()}
        outcomes: dict[str, _Outcome] = client.sync(_ask, client, workers, checks, within_s)
        if _has_reply(outcomes) or not _are_gone(client, workers.values()):
            break
    return outcomes


def _are_gone(client: Client, addresses: Collection[str]) -> bool:
    """Return whether the scheduler knows that workers ended: soon after their connections did."""
    for _ in range(NOTICED_TRIES):
        if workers_of(client).keys().isdisjoint(addresses):
            return True
        time.sleep(NOTICED_EVERY_S)
    return False


def _has_reply(outcomes: Mapping[str, _Outcome]) -> bool:
    """Return whether a worker replied."""
    return any(isinstance(one.reply, Reply) for name, one in outcomes.items() if name != SCHEDULER)


async def _ask(
    client: Client, workers: Mapping[str, str], checks: Sequence[Check], within_s: float
) -> dict[str, _Outcome]:
    """Ask the scheduler and all workers at the same time; runs on the client's event loop.

    workers: their addresses, by name.
    """
    questions = {check.name: check.ask for check in checks}
    at_scheduler = {check.name: check.ask for check in checks if check.of_scheduler}

    async def outcome(call: Callable[[], Awaitable[Any]]) -> _Outcome:
        asked_at = time.time()
        try:
            reply = await asyncio.wait_for(call(), within_s + SILENCE_S)
        except Exception as error:  # it cannot import us, is frozen, or is gone
            reply = error
        return _Outcome(reply, asked_at, time.time())

    async def of_worker(address: str) -> Any:
        options = {"workers": [address], "on_error": "return"}
        replies = await client.run(answered, questions, within_s, **options)
        return replies[address]

    def of_scheduler() -> Any:
        return client.run_on_scheduler(answered, at_scheduler, within_s)

    calls: list[Callable[[], Awaitable[Any]]] = [of_scheduler]
    calls += [partial(of_worker, address) for address in workers.values()]
    results = await asyncio.gather(*map(outcome, calls))
    return dict(zip([SCHEDULER, *workers], results, strict=True))


def name_of(worker: Mapping[str, Any]) -> str:
    """Return the name of a worker in findings."""
    return f"worker {worker['name']} on {worker['host']}"


def _missing(outcomes: Mapping[str, _Outcome]) -> Iterator[Finding]:
    """Yield findings for processes that did not reply."""
    silent: list[str] = []
    unable: dict[str, str] = {}
    for process, one in outcomes.items():
        if isinstance(one.reply, (OSError, KeyError)):  # TimeoutError is an OSError
            silent.append(process)
        elif isinstance(one.reply, BaseException):  # distributed puts its kind into the text
            unable[process] = " ".join(str(one.reply).split())[:200]
    for why, affected in grouped(unable):
        yield Finding(
            level="error", check="packages",
            text=f"{named(affected)} cannot run this overtile ({why}): install it in the Python "
            "that starts it there",
        )  # fmt: skip
    if silent:
        yield Finding(
            level="warning" if _has_reply(outcomes) else "error", check="answers",
            text=f"{named(silent)} did not answer: it is frozen, unreachable or leaving; check its "
            "log, or restart it",
        )  # fmt: skip


def _timed_out(check: str, processes: Sequence[str], within_s: float) -> Finding:
    """Return the finding for processes that did not answer one question."""
    return Finding(
        level="warning", check=check,
        text=f"{named(processes)} did not report its {check} within {within_s:.0f} s: it is busy, "
        "or a disk does not respond; try again",
    )  # fmt: skip


def _clocks(outcomes: Mapping[str, _Outcome]) -> Iterator[Finding]:
    """Yield the differences from our clock that exceed the travel time of the message."""
    off = {}
    for process, one in outcomes.items():
        if isinstance(one.reply, Reply):
            reply = one.reply
            ahead_s = ((reply.came_at - one.asked_at) + (reply.left_at - one.received_at)) / 2
            travel_s = ((one.received_at - one.asked_at) - (reply.left_at - reply.came_at)) / 2
            if abs(ahead_s) - abs(travel_s) > CLOCK_S:
                off[process] = ahead_s
    for process, ahead_s in off.items():
        yield Finding(
            level="warning", check="clocks",
            text=f"the clock of {process} is {abs(ahead_s):.0f} s "
            f"{'ahead' if ahead_s > 0 else 'behind'}: synchronise it by NTP; times in logs and on "
            "the dashboard are wrong until then",
        )  # fmt: skip
    if outcomes and not off:
        yield Finding(level="fine", check="clocks", text=f"clocks agree within {CLOCK_S:.0f} s")
