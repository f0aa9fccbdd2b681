"""What the bundled weights are for: the images that they expect, who made them, and how they score.

Everything else (classes, sizes, recipe) is in the files. A law holds that each file has its entry.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class BundledModel:
    """One bundled weights file, for people who choose."""

    name: str
    shows: str
    """What an image for it looks like: what is bright, what is dark, how large."""
    licence: str
    """Of the weights, with the authors of the data."""
    scores: str
    """Measured, with the command; or what is not known."""


MODELS = (
    BundledModel(
        name="demo",
        shows="the demo's synthetic tissue: bright cell membranes about 3 voxels wide around dark "
        "cells of 4 µm, with bright organelles; of no use for other images",
        licence="synthetic data; the project's licence",
        scores="overtile demo: pixel error 0.072, membrane IoU 0.675",
    ),
    BundledModel(
        name="fib25-boundary",
        shows="isotropic FIB-SEM of neural tissue at 10 nm: dark membranes about 2 voxels wide "
        "between grey neurites, with vesicles and mitochondria",
        licence="data by the FlyEM team, Janelia Research Campus (neuroproof_examples), Creative "
        "Commons Attribution",
        scores="adapted Rand error about 0.5 on slices kept apart; see docs/weights.md",
    ),
    BundledModel(
        name="fib25-affinities",
        shows="isotropic FIB-SEM of neural tissue at 10 nm: dark membranes about 2 voxels wide "
        "between grey neurites, with vesicles and mitochondria; for single neurons (affinities)",
        licence="data by the FlyEM team, Janelia Research Campus (neuroproof_examples), Creative "
        "Commons Attribution",
        scores="cross-validation of its recipe within one sample: adapted Rand error 0.035 to "
        "0.141; see docs/objects-affinities.md",
    ),
    BundledModel(
        name="nuclei-2d",
        shows="fluorescence images (DAPI, Hoechst, H2B), slice by slice: bright nuclei with a "
        "diameter of 11 to 34 voxels, round or oval, also where they touch, on a dark background",
        licence="synthetic data, drawn by benchmarks/nuclei_scene; the project's licence",
        scores="F1 0.897 at IoU 0.5 on an image of the 2018 Data Science Bowl; see docs/weights.md",
    ),
    BundledModel(
        name="nuclei-3d",
        shows="fluorescence volumes (confocal, light-sheet): bright nuclei with a diameter of 11 "
        "to 34 voxels in y and x, slices 1 to 3 voxels apart, on a dark background",
        licence="synthetic data, drawn by benchmarks/nuclei_scene; the project's licence",
        scores="F1 0.545 at IoU 0.5 on a confocal volume of a plant ovule, whose nuclei touch: a "
        "network to start a training from; see docs/weights.md",
    ),
)
"""In the order in which they are listed."""
