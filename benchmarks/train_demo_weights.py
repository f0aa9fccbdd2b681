"""Train the small network of ``overtile demo``, saved to ``unet/bundled/demo.safetensors``.

Run it from the repository's root::

    python -m benchmarks.train_demo_weights          # minutes on two cores

The demo's volume has seed 0. It is used neither for training nor for any choice: the network is
trained on ``TRAINING_SEEDS`` and validated on ``HELD_OUT_SEED``. At the end, the network and the
best possible global threshold (tuned on the same volume) are both measured on ``DEMO_SEED``.
"""

from __future__ import annotations

import argparse
import platform
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
import zarr
from scipy.ndimage import gaussian_filter
from torch.nn.functional import cross_entropy

import unet
from flows.demo.scene import VOXEL_SIZE_UM
from flows.demo.volume import CLASS_NAMES, make_demo_volume
from pipeline.evaluation.confusion import ConfusionMatrix, confusion

DEMO_SEED, HELD_OUT_SEED, TRAINING_SEEDS = 0, 100, (1, 2, 3, 4, 5, 6)
PATCH = (16, 64, 64)
BATCH = 2
CONFIG = unet.UNetConfig(
    dims=3,
    base_channels=8,
    levels=3,
    kernels=((1, 3, 3), 3, 3),
    pooling=((1, 2, 2), 2),
    dropout=0.0,
)


def volume_of(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return grey values as they enter the network (raw / 255, float32) and truth, (z, y, x)."""
    with tempfile.TemporaryDirectory() as directory:
        demo = make_demo_volume(directory, seed=seed)
        raw, truth = (
            zarr.open_array(f"{u}/0", mode="r")[:] for u in (demo.raw_uri, demo.truth_uri)
        )
    return np.asarray(raw, np.float32) / 255, np.asarray(truth)


def patch_of(x_zyx: np.ndarray, truth_zyx: np.ndarray, rng: np.random.Generator):
    """Cut a patch of truth, and the larger one of grey values; mirror and dim it at random."""
    shape = CONFIG.input_shape(PATCH)
    start = [rng.integers(0, size - s + 1) for size, s in zip(x_zyx.shape, shape, strict=True)]
    outer = tuple(slice(a, a + s) for a, s in zip(start, shape, strict=True))
    core = tuple(slice(a + h, a + s - h) for a, s, h in zip(start, shape, CONFIG.halo, strict=True))
    flips = tuple(slice(None, None, rng.choice((-1, 1))) for _ in shape)
    grey = x_zyx[outer][flips] * rng.uniform(0.7, 1.4) + rng.uniform(-0.04, 0.04)
    return grey.astype(np.float32)[None], truth_zyx[core][flips].astype(np.int64)


@torch.no_grad()
def predicted(model: torch.nn.Module, x_zyx: np.ndarray, *, core=(32, 64, 64)) -> np.ndarray:
    """Return the classes of a whole volume, tile by tile; its shape is a multiple of ``core``."""
    padded = np.pad(x_zyx, [(h, h) for h in CONFIG.halo], mode="reflect")
    classes = np.empty(x_zyx.shape, np.uint8)
    outer = CONFIG.input_shape(core)
    for index in np.ndindex(*(size // c for size, c in zip(x_zyx.shape, core, strict=True))):
        at = [i * c for i, c in zip(index, core, strict=True)]
        tile = padded[tuple(slice(a, a + o) for a, o in zip(at, outer, strict=True))]
        scores = model(torch.from_numpy(tile)[None, None])[0]
        part = tuple(slice(a, a + c) for a, c in zip(at, core, strict=True))
        classes[part] = scores.argmax(0).numpy()[tuple(slice(0, c) for c in core)]
    return classes


def best_threshold(x_zyx: np.ndarray, truth_zyx: np.ndarray) -> ConfusionMatrix:
    """Return the best result of a threshold on this volume, after the best Gaussian smoothing."""
    best = confusion(truth_zyx, np.ones_like(truth_zyx), classes=2)
    for sigma_um in (0.0, 0.08, 0.12, 0.16, 0.24):
        grey = gaussian_filter(x_zyx, [sigma_um / size for size in VOXEL_SIZE_UM])
        for threshold in np.linspace(0.1, 0.8, 71):
            tried = confusion(truth_zyx, grey > threshold, classes=2)
            best = max(best, tried, key=lambda matrix: matrix.iou[1])
    return best


def figures(matrix: ConfusionMatrix) -> dict[str, float]:
    """Return the reported figures of the class membrane."""
    values = {"iou": matrix.iou[1], "dice": matrix.dice[1], "pixel_error": matrix.pixel_error}
    return {name: round(value, 4) for name, value in values.items()}


def train(model: torch.nn.Module, *, steps: int) -> float:
    """Train in place, on volumes of TRAINING_SEEDS; return the mean loss of the last 50 steps."""
    volumes = [volume_of(seed) for seed in TRAINING_SEEDS]
    share = np.mean([truth.mean() for _, truth in volumes])
    balance = torch.tensor([1.0, np.sqrt((1 - share) / share)], dtype=torch.float32)
    rng = np.random.default_rng(TRAINING_SEEDS)
    optimiser = torch.optim.Adam(model.parameters(), lr=3e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, max_lr=3e-3, total_steps=steps)
    losses = []
    for step in range(steps):
        patches = [patch_of(*volumes[rng.integers(len(volumes))], rng) for _ in range(BATCH)]
        x_nczyx, truth_nzyx = (torch.from_numpy(np.stack(p)) for p in zip(*patches, strict=True))
        loss = cross_entropy(model(x_nczyx), truth_nzyx, weight=balance)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
        losses.append(loss.item())
        if step % 50 == 49:
            print(f"step {step + 1} of {steps}: loss {np.mean(losses[-50:]):.4f}", flush=True)
    return float(np.mean(losses[-50:]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument(
        "--output", default=str(Path(unet.__file__).parent / "bundled/demo.safetensors")
    )
    options = parser.parse_args()

    torch.manual_seed(1)
    model = unet.UNet(CONFIG)
    started = time.perf_counter()
    loss = train(model, steps=options.steps)
    seconds = time.perf_counter() - started
    model.eval()

    held_out = volume_of(HELD_OUT_SEED)
    provenance = {
        "made_by": "benchmarks/train_demo_weights.py, with a training loop of its own",
        "data": "flows.demo.volume.make_demo_volume; the demo itself (seed 0) was never seen",
        "training_seeds": list(TRAINING_SEEDS),
        "steps": options.steps,
        "batch": BATCH,
        "patch": list(PATCH),
        "loss": round(loss, 4),
        "seconds": round(seconds),
        "held_out_seed": HELD_OUT_SEED,
        "held_out": figures(confusion(held_out[1], predicted(model, held_out[0]), classes=2)),
        "versions": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "numpy": np.__version__,
        },
    }
    unet.save_weights(
        model,
        options.output,
        normalisation={"kind": "range", "low": 0, "high": 255},
        class_names=CLASS_NAMES,
        provenance=provenance,
    )
    print(f"saved {options.output}: {Path(options.output).stat().st_size / 1e3:.0f} kB", provenance)

    grey, truth = volume_of(DEMO_SEED)
    started = time.perf_counter()
    classes = predicted(model, grey)
    print(f"seed 0, network:        {figures(confusion(truth, classes, classes=2))}")
    print(f"                        in {time.perf_counter() - started:.1f} s")
    print(f"seed 0, best threshold: {figures(best_threshold(grey, truth))}")


if __name__ == "__main__":
    main()
