"""What a run writes obeys the umask and the group of its folder, so that colleagues can resume it.

A folder with the setgid bit hands its group to what is made in it. Temporary files that are renamed
would break that if they were private, as those of ``tempfile`` are.
"""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
import zarr

from flows.text.json_file import write_json
from flows.text.picture_file import write_picture
from pipeline.base.location import Location
from pipeline.base.stores import open_array
from pipeline.conversion.precomputed import export_labels
from pipeline.output.atomic_file import AtomicFile
from pipeline.output.guard import write_beside_ledger
from pipeline.output.image_spec import ImageSpec
from pipeline.output.ome_write import create_images
from pipeline.volume.formats.write_tiff import write_tiff
from pipeline.volume.volume import find_volume
from unet import UNet, UNetConfig, save_weights
from unet.training.checkpoint import Checkpoint, save_checkpoint
from unet.training.logs import CsvLog, TensorBoardLog
from unet.training.messages import StepsDone
from unet.training.ownership import take_over

GROUP, OWNER, COLLEAGUE = 54_321, 54_322, 54_323
IS_ROOT = os.geteuid() == 0
UMASKS = pytest.mark.parametrize("umask", [0o002, 0o027, 0o077], ids=lambda mask: f"{mask:03o}")
GREY = np.arange(4 * 32 * 32, dtype=np.uint8).reshape(4, 32, 32)


@pytest.fixture
def shared():
    """Return a folder of a group, for its members alone; others reach it, unlike pytest's."""
    above = Path(tempfile.mkdtemp())
    above.chmod(0o711)
    folder = above / "shared"
    folder.mkdir()
    if IS_ROOT:
        os.chown(folder, OWNER, GROUP)
    folder.chmod(0o2770)
    yield folder
    shutil.rmtree(above)


@contextmanager
def masked(umask):
    before = os.umask(umask)
    try:
        yield
    finally:
        os.umask(before)


def check(folder, umask):
    """Assert the mode and group of everything in a folder; return the number of files."""
    group, files = folder.stat().st_gid, 0
    for path in folder.rglob("*"):
        found = path.lstat()
        expected = 0o2777 & ~umask if path.is_dir() else 0o666 & ~umask
        assert oct(stat.S_IMODE(found.st_mode)) == oct(expected), path
        assert found.st_gid == group, path
        files += path.is_file()
    return files


@UMASKS
def test_every_kind_of_file_obeys_the_umask_and_keeps_the_group_of_its_folder(shared, umask):
    with masked(umask):
        place = Location.parse(shared / "out.zarr")
        spec = ImageSpec(
            name="cells", is_label=True, path="labels/cells", axes="zyx", dtype="uint8",
            class_names=(), shapes=(GREY.shape,), shards=(GREY.shape,), chunks=((4, 16, 16),),
            voxel_sizes=((1.0, 1.0, 1.0),), translations=((0.0,) * 3,), unit=("micrometer",) * 3,
        )  # fmt: skip
        create_images(place, [spec], version="0.5")
        open_array(place, "labels/cells/0")[...] = GREY
        write_beside_ledger(place, "report.html", b"<html>")
        export_labels(
            find_volume(place / "labels/cells", holds="labels"), Location.parse(shared / "layer")
        )
        with AtomicFile(Location.parse(shared / "tables/cells.parquet")) as file:
            file.write(b"PAR1")
            file.commit()
        write_json(str(shared / "scores.json"), {"iou": 1.0})
        write_picture(shared / "preview.png", np.zeros((4, 4, 3), np.uint8), maker="overtile")
        write_tiff(shared / "stack.tif", GREY, voxel_size_um=(1, 1, 1))
        train(shared / "w.training")
        save_weights(UNet(UNetConfig(base_channels=2, levels=2)), shared / "made/w.safetensors")
    assert check(shared, umask) >= 18


def train(directory):
    """Write what a training writes."""
    take_over(directory)
    state = {"state": {}, "param_groups": []}
    for step in (1, 2, 3):
        save_checkpoint(
            Checkpoint(step=step, model={"w": torch.ones(3)}, ema=None, optimiser=state), directory
        )
    message = StepsDone(
        step=1,
        steps=3,
        loss=0.5,
        losses=(0.5,),
        learning_rate=0.1,
        patches_per_s=1.0,
        wait_share=0.0,
    )
    for log in (CsvLog(directory / "log.csv"), TensorBoardLog(directory / "tensorboard")):
        log.hear(message)


def python_of_others():
    """Return the words that start this Python as another user, who can read all and write little.

    The tests' own environment may lie in a private home. Skips where that cannot be had.
    """
    alone = "-all,+dac_read_search"
    words = [
        "setpriv", "--clear-groups", "--regid", str(GROUP), "--inh-caps", alone,
        "--ambient-caps", alone, "--bounding-set", alone,
    ]  # fmt: skip
    try:
        subprocess.run(
            [*words, "--reuid", str(OWNER), sys.executable, "-c", ""], check=True,
            capture_output=True,
        )  # fmt: skip
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("needs root, setpriv and the capability dac_read_search")
    return words


@pytest.mark.slow
@pytest.mark.parametrize("umask", [0o002, 0o077], ids=["group", "private"])
def test_a_colleague_resumes_a_run_in_a_shared_folder_and_no_one_a_private_one(
    shared, umask, weights, textured, tmp_path
):
    as_user = python_of_others()
    zarr.create_array(shared / "in.zarr", data=textured((8, 48, 48)), chunks=(4, 16, 16))
    for path in (shared, *shared.rglob("*")):
        os.chown(path, OWNER, GROUP)
    command = (
        "segment", "in.zarr", "out.zarr", "--weights", weights("3d"), "--block", "4,16,16",
        "--outputs", "classes,scores", "--objects", "--workers", "1", "--tile", "4,16,16",
    )  # fmt: skip

    def overtile(user, *words):
        home = tmp_path / f"home-{user}"
        home.mkdir(exist_ok=True)
        os.chown(home, user, GROUP)
        kept = {name: os.environ[name] for name in ("PATH", "LANG") if name in os.environ}
        return subprocess.run(
            [*as_user, "--reuid", str(user), sys.executable, "-P", "-m", "flows.cli", *words],
            cwd=shared, env={**kept, "HOME": str(home), "TMPDIR": str(home)}, umask=umask,
            capture_output=True, text=True,
        )  # fmt: skip

    first = overtile(OWNER, *command)
    assert first.returncode == 0, first.stderr
    assert check(shared / "out.zarr", umask) > 20
    done = zarr.open_array(shared / "out.zarr/run/done", mode="r+")
    done[0] = 0  # as a killed run leaves it
    second = overtile(COLLEAGUE, *command)
    if umask == 0o077:
        assert second.returncode == 2
        assert second.stderr.count("\n") == 1
        return
    assert second.returncode == 0, second.stderr
    assert check(shared / "out.zarr", umask) > 20
    assert {path.stat().st_uid for path in (shared / "out.zarr").rglob("*")} == {OWNER, COLLEAGUE}
