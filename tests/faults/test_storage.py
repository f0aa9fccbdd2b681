"""Local storage that is full, read-only, forbidden or damaged, and is put right afterwards."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path

import pytest

from faults.laws import check_alone, check_content, check_words
from faults.quota import may_limit, with_quota
from faults.reference import Moment
from faults.small import COMMANDS
from faults.tmpfs import may_mount, mounted, remount

pytestmark = pytest.mark.faults
FREE = r"free some.*(start the same (command|run) again|--resume)"
ROOMY = "size=64m,nr_inodes=100000"
CHUNKS = (4, 16, 32)
"""Of the inputs (z, y, x)."""
SOURCES = {
    "segment": "raw.zarr", "objects": "scores.zarr", "convert": "raw.zarr", "train": "raw.zarr",
    "evaluate": "labels.zarr",
}  # fmt: skip
needs_mount = pytest.mark.skipif(not may_mount(), reason="mounting a tmpfs needs root")
needs_quota = pytest.mark.skipif(
    not may_limit(), reason="a quota needs root, btrfs in the kernel and btrfs-progs"
)


@pytest.fixture
def disk(trial):
    """Return a folder for a small file system, into which the trial's commands write."""
    trial.folder = trial.folder / "disk"
    return trial.folder


@needs_mount
@pytest.mark.parametrize("name", COMMANDS)
@pytest.mark.parametrize("what", ["space", "inodes"])
def test_a_full_disk_is_one_line_and_the_run_is_resumed_once_there_is_space(
    what, name, trial, disk, fault_round
):
    of = trial.place.reference(trial.small(name))
    share = trial.generator.uniform(0.05, 0.9)
    inodes = max(1, int(share * of.files)) if name != "evaluate" else 1
    size = max(1, int(share * of.pages)) * 4096
    small = f"size={size},nr_inodes=100000" if what == "space" else f"size=64m,nr_inodes={inodes}"
    with mounted(disk, small):
        if (name, what) == ("evaluate", "space"):  # its file is smaller than a page
            (disk / "another").write_bytes(bytes(size))
        running = trial.start(name)
        ended = running.ended()
        check_words(ended, codes=(1,))
        assert re.search(FREE, ended.last_line), ended
        check_alone(running)
        remount(disk, ROOMY)
        trial.completed(name, f"full disk: {what}")


@needs_quota
@pytest.mark.parametrize("name", COMMANDS)
def test_an_exhausted_quota_is_one_line_and_the_run_is_resumed_once_it_is_raised(
    name, trial, fault_round
):
    """The moment is in the first part of the run, so that files are written after it.

    An evaluation writes one file at its end, so that its quota is used up from the start.
    """
    is_late = trial.small(name).resumes
    moment = Moment("files", trial.generator.uniform(0, 0.7)) if is_late else Moment("time", 0)
    with with_quota(trial.folder / "mounted") as quota:
        trial.folder, of = quota.folder, trial.place.reference(trial.small(name))
        running = trial.start(name)
        assert moment.reached(running, trial.small(name), trial.output(name), of), running.text
        quota.exhaust()
        ended = running.ended()
        check_words(ended, codes=(1,))
        assert re.search(FREE, ended.last_line), ended
        check_alone(running)
        quota.raise_limit()
        trial.completed(name, "quota exhausted", moment)


@needs_mount
@pytest.mark.parametrize("name", COMMANDS)
def test_a_disk_that_becomes_read_only_is_one_line_and_the_run_is_resumed(
    name, trial, disk, fault_round
):
    with mounted(disk, ROOMY):
        trial.disturbed(
            name, "file system becomes read-only", lambda _: remount(disk, "ro"), codes=(0, 1, 2),
            then=lambda: remount(disk, "rw"),
        )  # fmt: skip


def forbid(folder, mode):
    """Set the mode of every folder below one."""
    for path, _, _ in os.walk(folder):
        Path(path).chmod(mode)


@pytest.mark.parametrize("name", COMMANDS)
def test_a_permission_that_is_withdrawn_is_one_line_and_the_run_is_resumed(
    name, trial, fault_round
):
    trial.folder = trial.folder / "project"
    trial.folder.mkdir()
    trial.disturbed(
        name, "permission withdrawn", lambda _: forbid(trial.folder, 0o555), codes=(0, 1, 2),
        then=lambda: forbid(trial.folder, 0o755), faults=[("faults.inside:permissions_apply", {})],
    )  # fmt: skip


def chunks_of(source):
    """Return the chunks that the command reads: of the scores, those of the class membrane."""
    read = "c/1/**/*" if source.name == "scores.zarr" else "c/**/*"
    return sorted(path for path in source.rglob(read) if path.is_file())


def damage(path, how, generator):
    """Cut a file off, or flip one of its bits; return what was in it."""
    content = path.read_bytes()
    if how == "truncated":
        path.write_bytes(content[: generator.randrange(len(content))])
    else:
        at, bit = generator.randrange(len(content)), 1 << generator.randrange(8)
        path.write_bytes(content[:at] + bytes([content[at] ^ bit]) + content[at + 1 :])
    return content


def check_named(line, chunk):
    """Raise AssertionError unless a line names the volume, and voxels that meet the chunk."""
    match = re.search(r"/(\w+\.zarr), voxels (\d+):(\d+),(\d+):(\d+),(\d+):(\d+): ", line)
    assert match, line
    assert match[1] == next(part for part in chunk.parts if part.endswith(".zarr")), line
    ranges = [tuple(map(int, match.groups()[n : n + 2])) for n in (1, 3, 5)]
    for (start, stop), number, size in zip(ranges, chunk.parts[-3:], CHUNKS, strict=True):
        assert start < (int(number) + 1) * size, line
        assert stop > int(number) * size, line


@pytest.mark.parametrize("name", COMMANDS)
@pytest.mark.parametrize("how", ["truncated", "bit flipped"])
def test_a_damaged_chunk_is_one_line_that_names_it_and_all_other_blocks_are_done(
    how, name, trial, fault_round
):
    inputs = trial.folder / "inputs"
    shutil.copytree(trial.place.inputs, inputs)
    chunk = trial.generator.choice(chunks_of(inputs / SOURCES[name]))
    content = damage(chunk, how, trial.generator)
    small, output = trial.small(name), trial.output(name)

    def start():
        return trial.commands.start(small.words(inputs, output))

    running = start()
    ended = running.ended()
    check_words(ended, codes=(1, 2))
    check_alone(running)
    if name in ("segment", "convert", "objects"):
        assert re.search(r"\d+ .*blocks? failed.*\(block \d,\d,\d: ", ended.last_line), ended
        trial.record(name, f"source chunk {how}", outcome="named, the rest done")
    else:
        check_named(ended.last_line, chunk)
        trial.record(name, f"source chunk {how}", outcome="named")
    chunk.write_bytes(content)
    running = start()
    check_words(running.ended())
    found, expected = small.promised(output), trial.place.reference(small).content
    # An evaluation names its inputs.
    differ = ["prediction", "truth"] if name == "evaluate" else []
    found, expected = ({**one, **dict.fromkeys(differ, b"")} for one in (found, expected))
    check_content(found, expected)
    trial.record(name, f"source chunk {how}, then repaired")
