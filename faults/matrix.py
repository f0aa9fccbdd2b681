"""Write the matrix of the suite, and the tables of docs/reliability.md and reliability-details.md.

    python -m faults.matrix --suite rounds.jsonl --rounds kill-and-resume.jsonl
    python -m faults.matrix          (only the pages, from the matrix in faults/results/)

With ``--add``, rounds are added to those of the matrix, which were made on another day or machine.

The matrix has a row per fault and outcome: commands, moments, rounds, seeds. A test checks that the
pages and the matrix agree.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from .kill_and_resume import Round, played
from .small import COMMANDS

RESULTS = Path(__file__).parent / "results"
MATRIX, SOAK = RESULTS / "matrix.json", RESULTS / "soak.json"
DOCS = Path(__file__).parents[1] / "docs"
PAGES = (DOCS / "reliability.md", DOCS / "reliability-details.md")
MARKED = re.compile(r"(<!-- table: (\w+) -->\n).*?(\n<!-- end of table -->)", re.DOTALL)
THIRDS = ("start", "middle", "end")


def of_suite(rows: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return a row per family, fault and outcome of the suite."""
    grouped: dict[tuple[str, str, str], list[Mapping[str, Any]]] = defaultdict(list)
    for row in rows:
        grouped[row["family"], row["fault"], row["outcome"]].append(row)
    return [
        {
            "family": family, "fault": fault, "outcome": outcome, "rounds": len(same),
            "commands": _in_order({row["command"] for row in same}),
            "moments": dict(Counter(row["moment"] for row in same)),
            "seeds": sorted({row["seed"] for row in same}),
        }
        for (family, fault, outcome), same in sorted(grouped.items())
    ]  # fmt: skip


def of_rounds(rounds: Sequence[Round]) -> dict[str, Any]:
    """Return the counts of kill-and-resume rounds."""
    disturbed = [one for one in rounds if one.outcome != "not disturbed"]
    happened: dict[str, Counter[str]] = defaultdict(Counter)
    thirds: dict[str, Counter[str]] = defaultdict(Counter)
    for one in disturbed:
        for victim, moment in one.disturbances:
            happened[victim][one.command] += 1
            share = float(moment.partition("%")[0]) / 100
            thirds[victim][THIRDS[min(2, int(share * 3))]] += 1
    return {
        "rounds": len(disturbed),
        "seeds": dict(Counter(str(one.seed) for one in disturbed)),
        "outcomes": dict(Counter(one.outcome for one in disturbed)),
        "starts": sum(one.starts for one in disturbed),
        "seconds": round(sum(one.seconds for one in disturbed)),
        "by_command": dict(Counter(one.command for one in disturbed)),
        "happened": {victim: dict(counts) for victim, counts in sorted(happened.items())},
        "moments": {victim: dict(counts) for victim, counts in sorted(thirds.items())},
    }


def added(before: Mapping[str, Any], counts: Mapping[str, Any]) -> dict[str, Any]:
    """Return the sums of two mappings of counts. ValueError if rounds of a seed are in both."""
    if same := set(before.get("seeds", ())) & set(counts.get("seeds", ())):
        raise ValueError(f"rounds of seed {', '.join(sorted(same))} are in the matrix already")
    sums = dict[str, Any]()
    for name in [*before, *(name for name in counts if name not in before)]:
        some = [one[name] for one in (before, counts) if name in one]
        is_mapping = isinstance(some[0], Mapping)
        sums[name] = some[0] if len(some) == 1 else added(*some) if is_mapping else sum(some)
    return sums


def together(
    before: Iterable[Mapping[str, Any]], rows: Iterable[Mapping[str, Any]]
) -> list[dict[str, Any]]:
    """Return the rows of two suites, those of one fault and outcome as one."""
    found: dict[tuple[str, str, str], dict[str, Any]] = {}
    for row in [*before, *rows]:
        key = row["family"], row["fault"], row["outcome"]
        if (one := found.get(key)) is None:
            found[key] = dict(row)
            continue
        if again := {*one["seeds"]} & {*row["seeds"]}:
            raise ValueError(f"{row['fault']}: rounds of seed {min(again)} are there already")
        one["rounds"] += row["rounds"]
        one["moments"] = added(one["moments"], row["moments"])
        one["commands"] = _in_order({*one["commands"], *row["commands"]})
        one["seeds"] = sorted({*one["seeds"], *row["seeds"]})
    return [found[key] for key in sorted(found)]


def families_table(matrix: Mapping[str, Any]) -> str:
    """Return the rounds of each family of faults, and of kill and resume, by outcome."""
    families = defaultdict[str, Counter[str]](Counter)
    for row in matrix["suite"]:
        families[row["family"]][row["outcome"]] += row["rounds"]
    families["kill and resume"].update(matrix["rounds"]["outcomes"])
    return _table(
        ("faults of", "rounds", "outcome"),
        *(
            (
                family, f"{counts.total():,}",
                "; ".join(f"{count:,} {outcome}" for outcome, count in counts.most_common()),
            )
            for family, counts in families.items() if counts
        ),
    )  # fmt: skip


def faults_table(matrix: Mapping[str, Any]) -> str:
    """Return the table of the faults of the suite."""
    return _table(
        ("fault", "commands", "start, middle, end", "rounds", "outcome"),
        *(
            (
                row["fault"], _commands(row["commands"]), _moments(row["moments"]),
                str(row["rounds"]), row["outcome"],
            )
            for row in matrix["suite"]
        ),
    )  # fmt: skip


def rounds_table(matrix: Mapping[str, Any]) -> str:
    """Return the table of the kill-and-resume rounds."""
    rounds = matrix["rounds"]
    names = [name for name in COMMANDS if name in rounds["by_command"]]
    return _table(
        ("what happened", *names, "start, middle, end"),
        *(
            (victim, *(str(counts.get(name, 0)) for name in names), _moments(moments))
            for (victim, counts), moments in zip(
                rounds["happened"].items(), rounds["moments"].values(), strict=True
            )
        ),
        ("rounds", *(str(rounds["by_command"][name]) for name in names), ""),
    )


def counts_text(matrix: Mapping[str, Any]) -> str:
    """Return how many rounds there were, with their seeds and outcomes."""
    rounds, suite = matrix["rounds"], matrix["suite"]
    outcomes = ", ".join(f"{count:,} {name}" for name, count in rounds["outcomes"].items())
    seeds = sorted({seed for row in suite for seed in row["seeds"]})
    made = "\n".join(
        f"`python -m faults.kill_and_resume --rounds {count} --seed {seed}`: {count:,} rounds."
        for seed, count in rounds["seeds"].items()
    )
    return (
        f"{made}\nTogether {rounds['rounds']:,} rounds, {rounds['starts']:,} starts of a command; "
        f"{outcomes}.\n"
        f"Files of the suite, each with one or more of FAULT_SEED {', '.join(map(str, seeds))}: "
        f"{sum(row['rounds'] for row in suite):,} rounds."
    )


def soak_text(_: Mapping[str, Any]) -> str:
    """Return what happened in the soak, with its plot; nothing if none was done."""
    if not SOAK.exists():
        return ""
    soak = json.loads(SOAK.read_text())
    kills = ", ".join(f"{count} of a {name}" for name, count in sorted(soak["kills"].items()))
    drivers, schedulers = (
        [sample[column] for sample in soak["samples"] if sample[column]] for column in (1, 2)
    )
    return (
        f"`python -m faults.soak` with seed {soak['seed']}: {soak['seconds'] / 60:.0f} minutes, "
        f"{sum(soak['kills'].values())} kills ({kills}), {soak['outputs']} outputs of "
        f"{soak['blocks']:,} blocks, each with the bytes of an undisturbed run. Memory at most "
        f"{max(drivers):.0f} MiB in the driver and {max(schedulers):.0f} MiB in the scheduler.\n\n"
        "![memory of driver and scheduler over time](soak.svg)"
    )


TABLES: Mapping[str, Callable[[Mapping[str, Any]], str]] = {
    "families": families_table,
    "faults": faults_table,
    "rounds": rounds_table,
    "counts": counts_text,
    "soak": soak_text,
}


EMPTY = "\n\n".join(f"<!-- table: {name} -->\n\n<!-- end of table -->" for name in TABLES)
"""A page with the tables alone."""


def written(page: str, matrix: Mapping[str, Any]) -> str:
    """Return the page with its marked tables rewritten."""
    return MARKED.sub(lambda match: match[1] + TABLES[match[2]](matrix) + match[3], page)


def _in_order(names: Collection[str]) -> list[str]:
    return [*(name for name in COMMANDS if name in names), *sorted(set(names) - set(COMMANDS))]


def _commands(names: Sequence[str]) -> str:
    if list(names[: len(COMMANDS)]) == list(COMMANDS):
        names = ("all", *names[len(COMMANDS) :])
    return ", ".join(names)


def _moments(counts: Mapping[str, int]) -> str:
    """Return how many rounds had their moment in each third; a dash if no round has a moment."""
    if not {*THIRDS} & {*counts}:
        return "—"
    return ", ".join(str(counts.get(third, 0)) for third in THIRDS)


def _table(head: tuple[str, ...], *rows: tuple[str, ...]) -> str:
    lines = [head, ("---",) * len(head), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the matrix from files of rounds, if there are any, and the pages."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--suite", type=Path, help="file of FAULT_OUT")
    parser.add_argument("--rounds", type=Path, help="file of faults.kill_and_resume")
    parser.add_argument("--add", action="store_true", help="add the rounds to those of the matrix")
    parser.add_argument("--matrix", type=Path, default=MATRIX, help="JSON file to write")
    parser.add_argument(
        "--page", type=Path, help="page with marked tables; by default those of docs/"
    )
    options = parser.parse_args(arguments)
    try:
        matrix = counted(options)
    except ValueError as error:
        parser.error(str(error))
    if options.suite or options.rounds:
        options.matrix.parent.mkdir(exist_ok=True)
        options.matrix.write_text(json.dumps(matrix, indent=1) + "\n")
    for path in [options.page] if options.page else PAGES:
        page = path.read_text() if path.exists() else EMPTY
        path.write_text(written(page, {"suite": [], "rounds": of_rounds([]), **matrix}))
    return 0


def counted(options: argparse.Namespace) -> dict[str, Any]:
    """Return the matrix with the rounds of the files. ValueError if it has some of them already."""
    matrix = json.loads(options.matrix.read_text()) if options.matrix.exists() else {}
    if options.suite:
        rows = of_suite(map(json.loads, options.suite.read_text().splitlines()))
        matrix["suite"] = together(matrix.get("suite", ()) if options.add else (), rows)
    if options.rounds:
        counts = of_rounds(played(options.rounds))
        before = matrix.get("rounds", {}) if options.add else {}
        matrix["rounds"] = added(before, counts)
    return matrix


if __name__ == "__main__":
    sys.exit(main())
