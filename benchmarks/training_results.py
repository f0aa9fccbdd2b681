"""Collect files of `overtile evaluate --json` into one results file, with machine and commit.

python benchmarks/training_results.py --weights FILE… --evaluations FILE… --out FILE
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
from pathlib import Path
from typing import Any

from unet import read_weights_info


def figures(path: Path) -> dict[str, Any]:
    """Return the figures of one evaluation, at its best threshold."""
    found = json.loads(path.read_text())
    objects, pixels = found["objects"], found["pixels"]
    return {
        "adapted_rand_error": objects["adapted_rand_error"],
        "objects_threshold": objects["threshold"],
        "voi_split": objects["voi_split"],
        "voi_merge": objects["voi_merge"],
        "pixel_error": pixels["pixel_error"] if pixels else None,
        "pixels_threshold": pixels["threshold"] if pixels else None,
        "box": found["box"],
        "settings": found["settings"],
    }


def weights_record(path: Path) -> dict[str, Any]:
    """Return a weights file's record of its training."""
    info = read_weights_info(path)
    record = info.provenance
    return {
        "digest": info.digest,
        "parameters": info.parameters,
        "megabytes": round(info.size_bytes / 1e6, 2),
        "preset": record["recipe"]["training"]["preset"],
        "steps": record["steps"],
        "batch": record["batch"],
        "validation": record["scores"],
        "versions": record["versions"],
    }


def commit() -> str:
    """Return the commit of this checkout."""
    here = Path(__file__).parent
    command = ["git", "describe", "--always", "--dirty"]
    return subprocess.run(command, cwd=here, capture_output=True, text=True).stdout.strip()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--weights", nargs="+", type=Path, required=True)
    parser.add_argument("--evaluations", nargs="+", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    results: dict[str, Any] = {
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "commit": commit(),
        "weights": {path.stem: weights_record(path) for path in options.weights},
        "evaluations": {path.stem: figures(path) for path in options.evaluations},
    }
    options.out.write_text(json.dumps(results, indent=2) + "\n")
    for name, found in results["evaluations"].items():
        print(
            f"{name:24s} adapted Rand error {found['adapted_rand_error']:.4f}  "
            f"pixel error {found['pixel_error']}"
        )


if __name__ == "__main__":
    main()
