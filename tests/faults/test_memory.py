"""Memory that runs out, and single blocks that fail: the others are done, and the line names it."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import zarr

from faults.cgroup import may_limit, memory_group
from faults.laws import check_alone, check_content, check_words
from faults.reference import Moment
from faults.small import COMMANDS, CONFIG, STEPS
from unet.training.checkpoint import newest_checkpoint

BLOCK_TASKS = {
    "segment": "pipeline.segmentation.engines.block:segment_block",
    "convert": "pipeline.conversion.block:convert_block",
    "objects": "pipeline.objects.tasks.tasks:label",
}
BLOCK = [1, 0, 2]
SOON_KILLED = {"DASK_DISTRIBUTED__WORKER__MEMORY__TERMINATE": "0.07"}
"""Of a half of the machine's memory: more than the worker needs, and reached within a second."""

GROUP_BYTES = 2**28
needs_group = pytest.mark.skipif(not may_limit(), reason="no memory cgroup may be created here")
SMALLER = "use a smaller patch, batch or network"
EVERY = 2
"""Steps between the checkpoints of the suite's training."""


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


def check_happened(trial):
    """Raise AssertionError unless the fault came: each one leaves a file."""
    assert any(Path(counter_in(trial.folder)).iterdir())


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
    check_happened(trial)
    trial.record("segment", f"device out of memory, {times} times")


@pytest.mark.faults
@pytest.mark.parametrize("name", BLOCK_TASKS)
@pytest.mark.parametrize("how", ["eio", "kill", "grow"])
def test_a_block_that_fails_once_is_tried_again(how, name, trial, fault_round):
    fault = failing_block(trial, name, how=how, times=1)
    running = trial.start(name, faults=[fault], environment=SOON_KILLED if how == "grow" else None)
    check_words(running.ended())
    check_happened(trial)
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


@pytest.mark.faults
@needs_group
@pytest.mark.parametrize("name", BLOCK_TASKS)
def test_a_worker_that_the_kernel_kills_for_its_memory_costs_no_voxel(name, trial, fault_round):
    with memory_group(GROUP_BYTES) as group:
        where, options = failing_block(trial, name, how="grow", times=1)
        running = trial.start(name, faults=[(where, {**options, "group": str(group.members)})])
        check_words(running.ended())
        check_alone(running)
        assert group.kills() == 1, "the kernel killed no worker"
    trial.completed(name, "worker killed by the kernel for its memory")


def without_memory(trial, *, after, times=10**6, patches=1):
    options = {
        "counter": counter_in(trial.folder), "after": after, "times": times, "patches": patches
    }  # fmt: skip
    return ("faults.inside:training_out_of_memory", options)


def newest(trial):
    """Return the last checkpoint of the suite's training with its bytes, None without one."""
    path = newest_checkpoint(trial.output("train").with_suffix(".training"))
    return path and (path.name, path.read_bytes())


@pytest.mark.faults
def test_a_training_without_memory_ends_with_one_line_and_resumes_from_its_last_checkpoint(
    trial, fault_round
):
    """Its second start fails in its first step, as where another program keeps the memory."""
    step = trial.generator.randrange(STEPS)
    kept = []
    for after in (step, 0):
        running = trial.start("train", faults=[without_memory(trial, after=after)])
        ended = running.ended()
        check_words(ended, codes=(1,))
        assert "out of memory" in ended.last_line, ended
        assert SMALLER in ended.last_line, ended
        check_alone(running)
        kept.append(newest(trial))
    saved = step - step % EVERY
    assert (kept[0] and re.search(rf"\b0*{saved}\b", kept[0][0])) or not saved, kept[0][0]
    assert kept[0] == kept[1], "the checkpoint was changed"
    moment = Moment("steps", step / STEPS)
    trial.record("train", "device out of memory in each step", moment, outcome="stopped")
    trial.completed("train", "device was out of memory", moment)


@pytest.mark.faults
def test_a_batch_without_memory_is_trained_in_parts(trial, fault_round):
    """The sum of the parts is that of the batch up to rounding, so the tensors are close."""
    config = trial.folder / "config.toml"
    config.write_text(CONFIG.replace("batch = 1", "batch = 2"))
    found = []
    for name, times in (("whole", 0), ("parts", 1)):
        output = trial.folder / name / "out.safetensors"
        output.parent.mkdir()
        words = trial.place.words(COMMANDS["train"], output)
        words[words.index("--config") + 1] = str(config)
        fault = without_memory(trial, after=STEPS // 2, times=times, patches=2)
        check_words(trial.commands.start(words, faults=[fault]).ended())
        found.append(COMMANDS["train"].promised(output))
    assert len(list((trial.folder / "counter").iterdir())) == 1, "memory never ran out"
    whole, parts = found
    assert whole.keys() == parts.keys()
    for name, content in whole.items():
        values = (np.frombuffer(one, "<f4") for one in (content, parts[name]))
        np.testing.assert_allclose(*values, rtol=1e-3, atol=1e-5, err_msg=name)
    trial.record("train", "device out of memory for a batch, once", outcome="equal up to rounding")
