"""The laws of checkpoints: intact or absent, never unpickled, the last intact one is found."""

from __future__ import annotations

import json
import os
import pickle
import signal
import subprocess
import sys
import time
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import nn

from pipeline.base.errors import TrainingError, TrainingFailedError
from unet.training.checkpoint import (
    KEPT,
    Checkpoint,
    load_checkpoint,
    load_newest,
    newest_checkpoint,
    save_checkpoint,
)


def checkpoint_of(step, *, width=3, value=None, ema=True):
    torch.manual_seed(step)
    model = {"conv.weight": torch.randn(width, 5), "norm.steps": torch.tensor(step)}
    if value is not None:
        model["conv.weight"][0, 0] = value
    return Checkpoint(
        step=step, model=model, ema={"conv.weight": torch.ones(width)} if ema else None,
        optimiser={"state": {}, "param_groups": []}, record={"scores": {"iou": [0.5]}},
    )  # fmt: skip


def names(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("make", [
    lambda parameters: torch.optim.AdamW(parameters, lr=0.1, betas=(0.9, 0.999)),
    lambda parameters: torch.optim.SGD(parameters, lr=0.1, momentum=0.9),
    lambda parameters: torch.optim.SGD(parameters, lr=0.1),
], ids=["adamw", "sgd with momentum", "sgd"])  # fmt: skip
@pytest.mark.parametrize("steps", [0, 3])
def test_an_optimiser_resumes_from_a_checkpoint_bit_for_bit(make, steps, tmp_path):
    def learn(model, optimiser, seeds):
        for seed in seeds:
            torch.manual_seed(seed)
            optimiser.zero_grad()
            (model(torch.randn(7, 4)) ** 2).sum().backward()
            optimiser.step()

    torch.manual_seed(0)
    model = nn.Linear(4, 2)
    optimiser = make(model.parameters())
    learn(model, optimiser, range(steps))
    state = {name: value.clone() for name, value in model.state_dict().items()}
    saved = Checkpoint(step=steps, model=state, ema=None, optimiser=optimiser.state_dict())
    loaded = load_checkpoint(save_checkpoint(saved, tmp_path))
    assert loaded.step == steps
    other = nn.Linear(4, 2)
    other.load_state_dict(loaded.model)
    others = make(other.parameters())
    others.load_state_dict(dict(loaded.optimiser))
    learn(model, optimiser, range(10, 14))
    learn(other, others, range(10, 14))
    for one, two in zip(model.parameters(), other.parameters(), strict=True):
        assert torch.equal(one, two)


@given(
    tensors=st.dictionaries(
        st.text("abc.", min_size=1, max_size=6),
        st.tuples(
            st.sampled_from([torch.float32, torch.float64, torch.bfloat16, torch.int64]),
            st.lists(st.integers(0, 4), max_size=3),
        ),
        min_size=1, max_size=4,
    ),
    step=st.integers(0, 10**9),
    record=st.dictionaries(st.text(), st.none() | st.integers() | st.lists(st.text())),
)  # fmt: skip
@settings(max_examples=30, deadline=None)
def test_every_checkpoint_is_loaded_as_it_was_saved(tensors, step, record, tmp_path_factory):
    folder = tmp_path_factory.mktemp("checkpoint")
    model = {name: (10 * torch.randn(shape)).to(kind) for name, (kind, shape) in tensors.items()}
    saved = Checkpoint(
        step=step, model=model, ema={name: tensor.clone() for name, tensor in model.items()},
        optimiser={"state": {}, "param_groups": []}, record=record,
    )  # fmt: skip
    loaded = load_checkpoint(save_checkpoint(saved, folder))
    assert (loaded.step, loaded.record) == (step, record)
    for found in (loaded.model, loaded.ema):
        assert {name: (t.dtype, t.shape) for name, t in found.items()} == {
            name: (t.dtype, t.shape) for name, t in model.items()
        }
        assert all(torch.equal(found[name], model[name]) for name in model)


def test_a_checkpoint_is_a_safetensors_file_and_holds_no_pickle(tmp_path):
    content = save_checkpoint(checkpoint_of(7), tmp_path).read_bytes()
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    assert header["__metadata__"]["step"] == "7"
    assert content[:2] != b"PK"
    assert b"\x80\x04" not in content[: 8 + length]


class Bomb:
    def __reduce__(self):
        return (os.mkdir, ("opened",))


def test_a_pickle_under_a_checkpoints_name_is_never_opened(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "checkpoint-00000003.safetensors"
    for content in (pickle.dumps(Bomb()), b"", b"text"):
        path.write_bytes(content)
        with pytest.raises(TrainingError, match="is not a checkpoint, or is damaged"):
            load_checkpoint(path)
    torch.save({"bomb": Bomb()}, path)
    with pytest.raises(TrainingError, match="is not a checkpoint, or is damaged"):
        load_checkpoint(path)
    assert not (tmp_path / "opened").exists()


def test_the_last_two_are_kept_and_the_newest_is_the_one_of_most_steps(tmp_path):
    for step in (9, 99_999_999, 100_000_000, 99):  # out of order: a training begun again
        save_checkpoint(checkpoint_of(step), tmp_path)
    assert KEPT == 2
    assert names(tmp_path) == [
        "checkpoint-100000000.safetensors", "checkpoint-99999999.safetensors"
    ]  # fmt: skip
    assert newest_checkpoint(tmp_path).name == "checkpoint-100000000.safetensors"
    assert load_newest(tmp_path).step == 100_000_000


def test_other_files_are_not_checkpoints_and_stay(tmp_path):
    others = ["log.csv", "checkpoint-1.safetensors", "checkpoint-00000009.pt", "validation.png"]
    for name in others:
        (tmp_path / name).write_text("mine")
    assert newest_checkpoint(tmp_path) is None
    assert load_newest(tmp_path) is None
    for step in range(4):
        save_checkpoint(checkpoint_of(step), tmp_path)
    assert set(others) < set(names(tmp_path))


@pytest.mark.parametrize("damage", ["cut off", "emptied", "other header"])
def test_a_damaged_file_costs_the_steps_since_the_one_before_it(damage, tmp_path):
    save_checkpoint(checkpoint_of(5), tmp_path)
    path = save_checkpoint(checkpoint_of(8), tmp_path)
    content = path.read_bytes()
    path.write_bytes({
        "cut off": content[:-1], "emptied": b"", "other header": content[8:],
    }[damage])  # fmt: skip
    assert load_newest(tmp_path).step == 5
    (tmp_path / "checkpoint-00000005.safetensors").write_bytes(b"")
    with pytest.raises(TrainingError, match=r"all checkpoints in .* are damaged, .*00000008"):
        load_newest(tmp_path)


def without(tensors, group):
    for name in [name for name in tensors if name.startswith(group)]:
        del tensors[name]


CHANGES = {
    "no weights": lambda tensors, metadata: without(tensors, "model/"),
    "no state of the optimiser": lambda tensors, metadata: without(tensors, "optimiser/"),
    "no running mean": lambda tensors, metadata: without(tensors, "ema/"),
    "another shape": lambda tensors, metadata: tensors.update(
        {"model/conv.weight": tensors["model/conv.weight"][:1].clone()}),
    "optimiser state without a number": lambda tensors, metadata: tensors.update(
        {"optimiser/x.y": torch.zeros(1)}),
    "the same of a file that lists no tensors": lambda tensors, metadata: (
        metadata.pop("tensors"), tensors.update({"optimiser/x.y": torch.zeros(1)})),
    "a record that is a list": lambda tensors, metadata: metadata.update(record="[1]"),
    "settings that are a number": lambda tensors, metadata: metadata.update(optimiser="5"),
    "settings that are numbers": lambda tensors, metadata: metadata.update(optimiser="[5]"),
    "a step before the first": lambda tensors, metadata: metadata.update(step="-5"),
    "brackets without end": lambda tensors, metadata: metadata.update(record="[" * 99_999),
}  # fmt: skip


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_an_intact_file_with_wrong_contents_costs_the_steps_since_the_one_before(change, tmp_path):
    save_checkpoint(checkpoint_of(5), tmp_path)
    parameters = [nn.Parameter(torch.ones(3, 5))]
    optimiser = torch.optim.AdamW(parameters)
    parameters[0].grad = torch.ones(3, 5)
    optimiser.step()
    newest = replace(checkpoint_of(8), optimiser=optimiser.state_dict())
    path = save_checkpoint(newest, tmp_path)
    assert load_newest(tmp_path).step == 8
    with safe_open(path, framework="pt") as file:
        metadata = file.metadata()
    tensors = load_file(path)
    change(tensors, metadata)
    save_file(tensors, path, metadata=metadata)
    said = []
    assert load_newest(tmp_path, note=said.append).step == 5
    (line,) = said
    assert "00000008.safetensors' is not a checkpoint, or is damaged" in line
    assert "\n" not in line


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("where", ["model", "ema"])
def test_nan_and_infinite_weights_do_not_replace_good_ones(value, where, tmp_path):
    save_checkpoint(checkpoint_of(5), tmp_path)
    bad = checkpoint_of(6)
    getattr(bad, where)["conv.weight"].view(-1)[0] = value
    said = r"step 6 made weights that are NaN or infinite \(conv.weight\): .*00000005.* is kept"
    with pytest.raises(TrainingFailedError, match=said):
        save_checkpoint(bad, tmp_path)
    assert names(tmp_path) == ["checkpoint-00000005.safetensors"]


WRITER = """
import resource, signal, sys
from pathlib import Path
import torch
from unet.training.checkpoint import Checkpoint, save_checkpoint

def checkpoint(step, size):
    return Checkpoint(step=step, model={"w": torch.full((size,), float(step))}, ema=None,
                      optimiser={"state": {}, "param_groups": []})
"""


def writer(code, *arguments):
    return subprocess.Popen(
        [sys.executable, "-c", WRITER + code, *map(str, arguments)], stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip


def test_a_full_disk_leaves_the_previous_checkpoint_unchanged(tmp_path):
    code = """
folder = Path(sys.argv[1])
save_checkpoint(checkpoint(1, 1000), folder)
resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))
for step, size in ((2, 4000), (3, 10**6)):
    try:
        save_checkpoint(checkpoint(step, size), folder)
    except Exception as error:
        print(type(error).__name__, error)
"""
    run = writer(code, tmp_path)
    said = run.communicate(timeout=60)[0].splitlines()
    assert len(said) == 2
    for step, line in zip((2, 3), said, strict=True):
        assert line.startswith(f"TrainingFailedError checkpoint of step {step} cannot be written")
        assert "checkpoint-00000001.safetensors is kept: free some space" in line
    assert names(tmp_path) == ["checkpoint-00000001.safetensors"]
    assert float(load_newest(tmp_path).model["w"][0]) == 1


def test_a_process_killed_while_writing_leaves_only_intact_checkpoints(tmp_path):
    code = """
folder, step = Path(sys.argv[1]), 0
while True:
    step += 1
    save_checkpoint(checkpoint(step, 10**6), folder)
    if step == 2:
        print("two", flush=True)
"""
    run = writer(code, tmp_path)
    assert run.stdout.readline() == "two\n"
    halves = []
    until = time.monotonic() + 20
    while time.monotonic() < until and not halves:  # in the midst of it
        halves = [path for path in tmp_path.glob(".checkpoint-*") if path.exists()]
    run.send_signal(signal.SIGKILL)
    run.communicate(timeout=30)
    found = sorted(tmp_path.glob("checkpoint-*"))
    assert len(found) >= KEPT
    for path in found:
        loaded = load_checkpoint(path)
        assert (loaded.model["w"] == loaded.step).all()
    newest = load_newest(tmp_path).step
    (tmp_path / ".checkpoint-00000001.safetensors.half").write_bytes(b"half")
    save_checkpoint(checkpoint_of(newest + 1), tmp_path)
    assert not list(tmp_path.glob(".*")), "what they left unfinished is removed"
    assert load_newest(tmp_path).step == newest + 1


def test_a_checkpoint_has_the_permissions_of_other_new_files(tmp_path):
    (tmp_path / "other").touch()
    path = save_checkpoint(checkpoint_of(1), tmp_path)
    assert path.stat().st_mode == (tmp_path / "other").stat().st_mode


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(
        TrainingFailedError, match=r"cannot be written .*there was no checkpoint yet"
    ):
        save_checkpoint(checkpoint_of(1), tmp_path / "file/w.training")
