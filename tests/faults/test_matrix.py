"""The matrix of the suite counts every round, and the page shows what the matrix says."""

from __future__ import annotations

import json

import pytest

from faults.kill_and_resume import Round
from faults.matrix import MATRIX, PAGE, TABLES, main, of_rounds, of_suite, written


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


def test_the_matrix_is_written_as_json_and_markdown(tmp_path):
    suite, page = tmp_path / "suite.jsonl", tmp_path / "matrix.md"
    suite.write_text("\n".join(json.dumps(row(command=name)) for name in ("segment", "train")))
    words = ["--suite", suite, "--matrix", tmp_path / "matrix.json", "--page", page]
    assert main(list(map(str, words))) == 0
    assert "| full disk | segment, train | 2, 0, 0 | 2 | identical |" in page.read_text()
    assert json.loads((tmp_path / "matrix.json").read_text())["suite"][0]["rounds"] == 2


@pytest.mark.skipif(not MATRIX.exists(), reason="no matrix was written yet")
def test_the_tables_of_the_page_are_those_of_the_matrix():
    page, matrix = PAGE.read_text(), json.loads(MATRIX.read_text())
    assert all(f"<!-- table: {name} -->" in page for name in TABLES)
    assert written(page, matrix) == page, "run python -m faults.matrix"
