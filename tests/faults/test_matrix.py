"""The matrix of the suite counts every round, and the pages show what the matrix says."""

from __future__ import annotations

import json
import sys

import pytest

from faults.kill_and_resume import Round
from faults.matrix import (
    MATRIX,
    PAGES,
    TABLES,
    THIRDS,
    added,
    faults_table,
    main,
    of_rounds,
    of_suite,
    together,
    written,
)


def row(**changes):
    values = {
        "family": "storage", "fault": "full disk", "command": "segment", "moment": "start",
        "outcome": "identical", "seed": "17", "seconds": 1.0,
    }  # fmt: skip
    return {**values, **changes}


def test_every_round_of_a_fault_is_counted_once_by_outcome():
    rows = [row(), row(command="convert", moment="end"), row(outcome="named", seed="18")]
    identical, named = of_suite(rows)
    assert identical["rounds"] == 2
    assert identical["commands"] == ["segment", "convert"]
    assert identical["moments"] == {"start": 1, "end": 1}
    assert (named["rounds"], named["seeds"]) == (1, ["18"])


def test_a_dash_stands_for_a_fault_of_which_no_round_has_a_moment():
    def shown(*moments):
        return faults_table({"suite": of_suite([row(moment=moment) for moment in moments])})

    assert "| segment | — | 2 |" in shown("—", "—")
    assert "| segment | 1, 0, 1 | 3 |" in shown("start", "—", "end")
    assert "| segment | 0, 1, 0 | 1 |" in shown("middle")


@pytest.fixture
def recorded(monkeypatch, tmp_path):
    """Return a function that reads the rounds which were recorded."""
    out = tmp_path / "rounds.jsonl"
    monkeypatch.setenv("FAULT_OUT", str(out))
    return lambda: list(map(json.loads, out.read_text().splitlines())) if out.exists() else []


@pytest.mark.slow
def test_a_round_in_which_nothing_happened_is_played_again_and_is_not_recorded(trial, recorded):
    outputs = []

    def disturb(running):
        outputs.append(trial.output("convert"))
        return None if len(outputs) == 2 else False

    trial.disturbed("convert", "none", disturb)
    assert len(set(outputs)) == 2, "each has a fresh output"
    (one,) = recorded()
    assert (one["command"], one["fault"], one["outcome"]) == ("convert", "none", "identical")
    assert one["moment"] in THIRDS


def test_a_fault_that_never_happens_fails_and_is_not_recorded(trial, recorded, monkeypatch):
    monkeypatch.setattr(sys.modules[type(trial).__module__], "MOST_TRIES", 2)
    with pytest.raises(AssertionError, match="convert ended 2 times before the fault: none"):
        trial.disturbed("convert", "none", lambda running: False)
    assert recorded() == []


def test_rounds_that_disturbed_nothing_do_not_count():
    one = Round(
        number=0, seed=17, command="segment", disturbances=(("driver killed", "40% of the time"),),
        starts=2, seconds=3.0, outcome="identical",
    )  # fmt: skip
    idle = Round(
        number=1, seed=17, command="segment", disturbances=(), starts=2, seconds=3.0,
        outcome="not disturbed",
    )  # fmt: skip
    counts = of_rounds([one, idle])
    assert counts["rounds"] == 1
    assert counts["moments"] == {"driver killed": {"middle": 1}}


def test_rounds_of_several_days_are_added_and_none_is_counted_twice():
    def rounds(seed, outcome):
        return of_rounds([
            Round(
                number=0, seed=seed, command="segment", starts=2, seconds=3.0, outcome=outcome,
                disturbances=(("driver killed", "40% of the time"),),
            )
        ])  # fmt: skip

    both = added(rounds(17, "identical"), rounds(18, "failed"))
    assert both["rounds"] == 2
    assert both["seeds"] == {"17": 1, "18": 1}
    assert both["outcomes"] == {"identical": 1, "failed": 1}
    assert both["happened"] == {"driver killed": {"segment": 2}}
    assert added({}, rounds(17, "identical")) == rounds(17, "identical")
    with pytest.raises(ValueError, match="seed 17 are in the matrix already"):
        added(rounds(17, "identical"), rounds(17, "identical"))


def test_suites_of_several_days_have_one_row_per_fault_and_outcome():
    first, later = (
        of_suite([row()]),
        of_suite([row(seed="18", command="train"), row(outcome="named")]),
    )
    same, named = together(first, later)
    assert (same["rounds"], same["commands"], same["seeds"]) == (
        2,
        ["segment", "train"],
        ["17", "18"],
    )
    assert same["moments"] == {"start": 2}
    assert named["rounds"] == 1
    assert together([], first) == first
    with pytest.raises(ValueError, match="rounds of seed 17 are there already"):
        together(first, first)


def test_the_matrix_is_written_as_json_and_markdown(tmp_path):
    suite, page = tmp_path / "suite.jsonl", tmp_path / "matrix.md"
    suite.write_text("\n".join(json.dumps(row(command=name)) for name in ("segment", "train")))
    words = ["--suite", suite, "--matrix", tmp_path / "matrix.json", "--page", page]
    assert main(list(map(str, words))) == 0
    assert "| full disk | segment, train | 2, 0, 0 | 2 | identical |" in page.read_text()
    assert json.loads((tmp_path / "matrix.json").read_text())["suite"][0]["rounds"] == 2


def test_rounds_that_the_matrix_has_are_refused_in_one_line_and_change_nothing(tmp_path, capsys):
    suite, matrix = tmp_path / "suite.jsonl", tmp_path / "matrix.json"
    suite.write_text(json.dumps(row()))
    words = ["--add", "--suite", suite, "--matrix", matrix, "--page", tmp_path / "matrix.md"]
    assert main(list(map(str, words))) == 0
    before = matrix.read_bytes()
    with pytest.raises(SystemExit) as ended:
        main(list(map(str, words)))
    assert ended.value.code == 2
    assert capsys.readouterr().err.endswith("rounds of seed 17 are there already\n")
    assert matrix.read_bytes() == before


@pytest.mark.skipif(not MATRIX.exists(), reason="no matrix was written yet")
def test_the_tables_of_the_pages_are_those_of_the_matrix():
    pages, matrix = [page.read_text() for page in PAGES], json.loads(MATRIX.read_text())
    for name in TABLES:
        assert any(f"<!-- table: {name} -->" in page for page in pages), name
    for page in pages:
        assert written(page, matrix) == page, "run python -m faults.matrix"
