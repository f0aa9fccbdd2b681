"""Train the bundled weights ``nuclei-2d`` and ``nuclei-3d`` on synthetic images of nuclei.

    python -m benchmarks.train_nuclei_weights 2d --work FOLDER      # ten minutes on two cores
    python -m benchmarks.train_nuclei_weights 3d --work FOLDER
    python -m benchmarks.train_nuclei_weights 3d --work FOLDER --from nuclei-3d

Draws volumes (benchmarks/nuclei_scene), one appearance each, and trains with ``overtile train``
alone, from random weights or those of --from. Nothing of the images that the weights are scored on
is used. Existing files of FOLDER are kept: a stopped training resumes. The weights are written to
FOLDER; copy them to ``unet/bundled``.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import zarr

from .measuring import at_least_one
from .nuclei_scene import Appearance, draw_nuclei, with_gaps

SHAPES = {2: (6, 384, 384), 3: (48, 160, 160)}
VOLUMES = {2: 32, 3: 40}
HELD_OUT = 4
BORDER_WEIGHT = {2: 5.0, 3: 10.0}
"""In 3-D one voxel that is missing in a border joins two nuclei, and borders are larger."""
VOXEL_SIZE_UM = {2: (1.0, 0.4, 0.4), 3: (0.8, 0.4, 0.4)}
"""With it a nucleus of median size has a diameter of 8 µm."""
CONFIG = """
class_names = ["background", "nucleus"]
attribution = "Synthetic images drawn by overtile (benchmarks/nuclei_scene); CC0"

[network]
dims = {dims}
base_channels = 16
levels = {levels}
dropout = 0.1

[training]
steps = {steps}
batch = {batch}
patch = {patch}
border_weight = {border_weight}
border_sigma = 3.0
validate_every = {validate}
ema = 0.995
kept_weights = "last"  # the mean IoU of a validation does not show which nuclei are joined

[training.augment]
elastic_sigma = 3.0
deformed_share = 0.5
contrast = 0.4
brightness = 0.2
gamma = 0.4
noise = 0.05

[labels]
object_class = 1
"""


def ome_of(voxel_size_um: Sequence[float]) -> Any:
    """Return the OME metadata of an image with one level."""
    scale = [{"type": "scale", "scale": list(voxel_size_um)}]
    axes = [{"name": axis, "type": "space", "unit": "micrometer"} for axis in "zyx"]
    level = {"path": "0", "coordinateTransformations": scale}
    return {"version": "0.5", "multiscales": [{"axes": axes, "datasets": [level]}]}


def write_volume(folder: Path, *, dims: int, seed: int) -> Path:
    """Write raw and labels (classes) of one appearance as OME-Zarr; existing ones are kept."""
    path = folder / f"nuclei-{dims}d-{seed:03d}.zarr"
    if (path / "done").exists():
        return path
    rng = np.random.default_rng([seed, dims])
    appearance = Appearance.drawn(rng, dims=dims)
    shape = SHAPES[dims]
    images = shape[0] if dims == 2 else 1
    drawn = [draw_nuclei(shape[3 - dims :], appearance, rng) for _ in range(images)]
    raw, ids = (np.stack(part) if dims == 2 else part[0] for part in zip(*drawn, strict=True))
    labels = np.stack([with_gaps(one) for one in ids]) if dims == 2 else with_gaps(ids)
    for name, array in (("raw", raw), ("labels", labels)):
        group = zarr.open_group(str(path / name), mode="w")
        group.create_array("0", data=array, chunks=(1 if dims == 2 else 16, 128, 128))
        group.attrs["ome"] = ome_of(VOXEL_SIZE_UM[dims])
    (path / "done").touch()
    return path


def config_of(dims: int, *, steps: int) -> str:
    """Return the recipe as TOML."""
    return CONFIG.format(
        dims=dims,
        levels={2: 4, 3: 3}[dims],
        steps=steps,
        batch={2: 2, 3: 1}[dims],
        patch={2: [196, 196], 3: [36, 60, 60]}[dims],
        border_weight=BORDER_WEIGHT[dims],
        validate=max(1, steps // 10),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("kind", choices=("2d", "3d"))
    parser.add_argument("--work", type=Path, required=True, metavar="FOLDER")
    parser.add_argument("--steps", type=at_least_one)
    parser.add_argument("--from", dest="start", metavar="WEIGHTS", help="default: random weights")
    options = parser.parse_args()
    dims = int(options.kind[0])
    options.work.mkdir(parents=True, exist_ok=True)
    config = options.work / f"nuclei-{options.kind}.toml"
    config.write_text(config_of(dims, steps=options.steps or {2: 3000, 3: 2000}[dims]))
    paths = [write_volume(options.work, dims=dims, seed=seed) for seed in range(VOLUMES[dims])]
    words = ["train", "--config", str(config), "--resume", "--dtype", "float16"]
    if options.start:
        words += ["--from", options.start]
    for path in paths[HELD_OUT:]:
        words += ["--volume", str(path / "raw"), "--labels", str(path / "labels")]
    for path in paths[:HELD_OUT]:
        words += ["--validation-volume", str(path / "raw")]
        words += ["--validation-labels", str(path / "labels")]
    out = options.work / f"nuclei-{options.kind}.safetensors"
    words += ["--normalisation", "percentile:1:99.8", "--out", str(out)]
    subprocess.run([sys.executable, "-P", "-m", "flows.cli", *words], check=True)
    print(out)


if __name__ == "__main__":
    main()
