"""Memory that runs out, and single blocks that fail: the others are done, and the line names it."""

from __future__ import annotations

import re

import numpy as np
import pytest
import zarr

from faults.laws import check_content, check_words
from faults.small import COMMANDS

BLOCK_TASKS = {
    "segment": "pipeline.segmentation.engines.block:segment_block",
    "convert": "pipeline.conversion.block:convert_block",
    "objects": "pipeline.objects.tasks.tasks:label",
}
BLOCK = [1, 0, 2]
SOON_KILLED = {"DASK_DISTRIBUTED__WORKER__MEMORY__TERMINATE": "0.07"}
"""Of a half of the machine's memory: more than the worker needs, and reached within a second."""


def counter_in(folder):
    counter = folder / "counter"
    counter.mkdir(exist_ok=True)
    return str(counter)


def failing_block(trial, name, *, how, times):
    options = {
        "counter": counter_in(trial.folder), "times": times, "how": how,
        "where": BLOCK_TASKS[name], "index": BLOCK,
    }  # fmt: skip
    return ("faults.inside:block_fails", options)


def done_blocks(output):
    """Return the blocks that are done; of objects, labelled."""
    return np.isin(np.asarray(zarr.open_array(output / "run/done", mode="r")[...]), (1, 4))


@pytest.mark.faults
@pytest.mark.parametrize("times", [1, 3])
def test_a_device_without_memory_for_a_tile_changes_no_class(times, trial, fault_round):
    options = {"counter": counter_in(trial.folder), "times": times}
    running = trial.start("segment", faults=[("faults.inside:device_out_of_memory", options)])
    check_words(running.ended())
    found = COMMANDS["segment"].promised(trial.output("segment"))
    expected = trial.place.reference(COMMANDS["segment"]).content
    labels = {name: content for name, content in expected.items() if name.startswith("labels")}
    check_content({name: found[name] for name in labels}, labels)
    trial.record("segment", f"device out of memory, {times} times")


@pytest.mark.faults
@pytest.mark.parametrize("name", BLOCK_TASKS)
@pytest.mark.parametrize("how", ["eio", "kill", "grow"])
def test_a_block_that_fails_once_is_tried_again(how, name, trial, fault_round):
    fault = failing_block(trial, name, how=how, times=1)
    running = trial.start(name, faults=[fault], environment=SOON_KILLED if how == "grow" else None)
    check_words(running.ended())
    trial.completed(name, f"one block fails once: {how}")


@pytest.mark.faults
@pytest.mark.parametrize("name", BLOCK_TASKS)
def test_a_block_that_always_fails_is_named_and_all_others_are_done(name, trial, fault_round):
    fault = failing_block(trial, name, how="eio", times=1000)
    running = trial.start(name, faults=[fault])
    ended = running.ended()
    check_words(ended, codes=(1,))
    assert re.search(r"\b1 (of \d+ )?blocks? failed", ended.last_line), ended.last_line
    assert re.search(r"block 1,0,2: \w+", ended.last_line), ended.last_line
    left = np.argwhere(~done_blocks(trial.output(name)))
    np.testing.assert_array_equal(left, [BLOCK])
    trial.record(name, "one block always fails", outcome="named, the rest done")
    trial.completed(name, "one block always failed, and is repaired")
