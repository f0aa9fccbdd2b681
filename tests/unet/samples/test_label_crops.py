"""Patches of labels that lie inside a larger volume are those of the volume cut by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import zarr

from pipeline import open_labelled
from unet import UNetConfig
from unet.recipe.augment_config import AugmentConfig
from unet.recipe.training_config import LabelConfig, TrainingConfig
from unet.samples.maker import SampleMaker
from unet.samples.sampling import PatchSampler, Place

SHAPE, START, CROP = (9, 150, 160), (3, 60, 70), (2, 20, 24)
MARGIN = 50  # more than a patch reads around the crop
NETWORK = UNetConfig(dims=2, base_channels=2, levels=2)


class Everywhere(PatchSampler):
    """Cores lie at each corner of the crop and in its middle; ``shift`` is added."""

    shift = (0, 0, 0)

    def place(self, step, number, *, attempt=0):
        starts = [(0, -2, -2), (0, -2, 18), (1, 14, -2), (1, 14, 18), (1, 5, 7)]
        return Place(0, tuple(map(sum, zip(starts[step], self.shift, strict=True))))


def maker(volumes, sampler, **labels):
    return SampleMaker(
        volumes=volumes.training,
        network=NETWORK,
        training=TrainingConfig(augment=AugmentConfig(elastic_sigma=2.0), border_sigma=2.0),
        labels=LabelConfig(**{"object_class": 0, **labels}),
        sampler=sampler,
        class_weights=(1.0, 2.0),
    )


def options():
    return {"shapes": (CROP,), "surveys": (), "core": (1, 8, 8), "seed": 3}


@pytest.mark.parametrize("rule", ["classes", "boundary"])
def test_a_patch_of_placed_labels_is_that_of_the_volume_cut_by_hand(rule, tmp_path, placed_image):
    rng = np.random.default_rng(0)
    raw = rng.integers(0, 255, SHAPE, "u1")
    labels = rng.integers(0, 2, CROP, "u1")
    size, origin = (0.5, 0.1, 0.1), (3.0, 0.0, 8.0)
    at = tuple(o + n * s for o, n, s in zip(origin, START, size, strict=True))
    placed = open_labelled(
        [(placed_image(tmp_path / "raw", (raw, size, origin)),
          placed_image(tmp_path / "labels", (labels, size, at)))]
    )  # fmt: skip
    by_hand = np.full((CROP[0], *(n + 2 * MARGIN for n in CROP[1:])), 9, "u1")
    by_hand[:, MARGIN:-MARGIN, MARGIN:-MARGIN] = labels
    cut = raw[3:5, 60 - MARGIN : 80 + MARGIN, 70 - MARGIN : 94 + MARGIN]
    for name, array in (("cut", cut), ("by_hand", by_hand)):
        zarr.create_array(
            tmp_path / name, data=np.ascontiguousarray(array),
            attributes={"voxel_size_um": list(size)}, dimension_names=list("zyx"),
        )  # fmt: skip
    whole = open_labelled([(tmp_path / "cut", tmp_path / "by_hand")])
    meaning = {} if rule == "classes" else {"rule": rule, "object_class": None}
    sampler, moved = Everywhere(**options()), Everywhere(**options())
    object.__setattr__(moved, "shift", (0, MARGIN, MARGIN))
    one = maker(placed, sampler, **meaning)
    other = maker(whole, moved, ignore=9, **meaning)
    for step in range(5):
        for ours, theirs in zip(one.sample(step, 0), other.sample(step, 0), strict=True):
            assert torch.equal(ours, theirs)
        known = one.sample(step, 0)[2] > 0
        assert known.any()
        assert step == 4 or not known.all(), "beside the crop nothing is known"
