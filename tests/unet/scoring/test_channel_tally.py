"""Laws of a validation's scores: plain formulas, whatever the tiles and ranks."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.base.network_outputs import NetworkOutputs
from unet.samples.rules.rule import IGNORED, Learnt
from unet.scoring.channel_tally import REGIONS
from unet.scoring.tallies import tally_of

OUTPUTS = {
    "affinities": NetworkOutputs(kind="affinities", offsets=((-1, 0), (0, -1))),
    "distance": NetworkOutputs(kind="distance"),
    "centre": NetworkOutputs(kind="centre"),
}


def tile(channels, *, seed, binary=False):
    rng = np.random.default_rng(seed)
    shape = (channels, 3, 6, 7)
    targets, known = rng.random(shape).astype(np.float32), rng.random(shape) < 0.8
    targets = targets.round() if binary else targets
    return Learnt(targets=targets, known=known), rng.random(shape).astype(np.float32)


@pytest.mark.parametrize("kind", OUTPUTS)
def test_the_scores_of_a_channel_are_plain_means_and_overlaps(kind):
    channels = len(OUTPUTS[kind].names)
    truth, scores = tile(channels, seed=0, binary=kind == "affinities")
    tally = tally_of(OUTPUTS[kind], channels)
    tally.add(truth, scores)
    found = tally.scores(tally.sums)
    known, t, p = truth.known, truth.targets.astype(float), scores.astype(float)
    entropy = -(t * np.log(p) + (1 - t) * np.log(1 - p))
    assert found.loss == pytest.approx(entropy[known].mean())
    if kind == "affinities":
        assert found.pixel_error == pytest.approx(((p >= 0.5) != (t == 1))[known].mean())
        inside, given = t < 0.5, p < 0.5
    else:
        assert found.pixel_error == pytest.approx(np.abs(p - t)[known].mean())
        threshold = {"distance": 0.75, "centre": 0.5}[kind]
        inside, given = t >= threshold, p >= threshold
    for channel in range(channels):
        a, b = (one[channel][known[channel]] for one in (inside, given))
        assert found.iou[channel] == pytest.approx((a & b).sum() / (a | b).sum())
        assert found.dice[channel] == pytest.approx(2 * (a & b).sum() / (a.sum() + b.sum()))
    assert found.mean_iou == pytest.approx(np.mean(found.iou))


@pytest.mark.parametrize("kind", ["classes", *OUTPUTS])
def test_sums_of_tiles_on_several_ranks_give_the_scores_of_all_tiles(kind):
    outputs = OUTPUTS.get(kind, NetworkOutputs())
    channels = len(outputs.names) or 3
    whole, parts = tally_of(outputs, channels), [tally_of(outputs, channels) for _ in range(2)]
    for seed in range(5):
        truth, scores = tile(channels, seed=seed)
        if kind == "classes":
            classes = np.random.default_rng(seed).integers(0, channels, scores.shape[1:])
            truth = Learnt(targets=np.where(truth.known[0], classes, IGNORED))
        whole.add(truth, scores)
        parts[seed % 2].add(truth, scores)
    summed = whole.scores(parts[0].sums + parts[1].sums)
    exact = whole.scores(whole.sums)
    for name in ("loss", "pixel_error", "iou", "dice", "mean_iou"):
        assert getattr(summed, name) == pytest.approx(getattr(exact, name)), name


@pytest.mark.parametrize("kind", OUTPUTS)
def test_what_is_unknown_does_not_count_and_nothing_known_is_no_error(kind):
    channels = len(OUTPUTS[kind].names)
    truth, scores = tile(channels, seed=3)
    tallies = [tally_of(OUTPUTS[kind], channels) for _ in range(3)]
    tallies[0].add(truth, scores)
    tallies[1].add(truth, np.where(truth.known, scores, 1 - scores))
    np.testing.assert_array_equal(tallies[0].sums, tallies[1].sums)
    found = tallies[2].scores(tallies[2].sums)
    assert (found.loss, found.pixel_error, found.mean_iou) == (0, 0, 1)
    assert found.iou == (1.0,) * channels


def test_every_output_without_classes_has_a_region():
    assert set(REGIONS) == set(OUTPUTS)
