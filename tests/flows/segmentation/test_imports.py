"""A run loads only what it needs, which decides when its first block begins."""

from __future__ import annotations

import subprocess
import sys


def modules_after(code):
    """Return the names of the modules that a new process has imported after some code."""
    listing = "\nimport sys; print(*sys.modules)"
    ended = subprocess.run(
        [sys.executable, "-c", code + listing], capture_output=True, text=True, check=True
    )
    return set(ended.stdout.split())


def test_the_driver_of_a_segmentation_loads_nothing_that_only_other_runs_need():
    loaded = modules_after("import flows.segmentation.run")
    assert "pipeline.segmentation.run" in loaded
    other = {"torch", "numba", "pyarrow", "scipy", "dask.array", "skimage", "prefect", "bokeh"}
    assert other & loaded == set()


def test_a_worker_does_not_load_the_compiler_of_torch():
    loaded = modules_after(
        "import numpy as np\nfrom unet import UNetPredictor\np = UNetPredictor('demo').settled()\n"
        "p(np.zeros((1, 1, *p.input_shape((1, 4, 4))), np.float32))"
    )
    assert "torch" in loaded
    assert {"torch._dynamo", "sympy"} & loaded == set()
