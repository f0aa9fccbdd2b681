"""Laws of the augmentation: where voxels come from, and what happens to their grey values.

Many tests look at an image whose channels are its own coordinates: what comes out of it says where
each voxel was taken from, since linear interpolation leaves a ramp exact.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from pipeline.base.errors import ConfigError
from unet.samples.augment import AugmentConfig, augment, margin
from unet.samples.deformation import coordinate_field, cubic_interpolation

NONE = AugmentConfig.none()
GEOMETRY = replace(AugmentConfig(), contrast=0, brightness=0, gamma=0, noise=0)
CPU = torch.device("cpu")


def ramps(outer: tuple[int, ...]) -> Tensor:
    """Return (1, dims, *outer): each voxel's place, counted from the centre."""
    axes = [torch.arange(size, dtype=torch.float32) - (size - 1) / 2 for size in outer]
    return torch.stack(torch.meshgrid(*axes, indexing="ij"))[None]


def sources(config: AugmentConfig, shape: tuple[int, ...], *, around: int, seed: int, **options):
    """Return (dims, *shape): where each voxel of the input is taken from."""
    outer = tuple(size + 2 * around for size in shape)
    image, _ = augment(
        ramps(outer),
        torch.zeros(1, *outer, dtype=torch.int64),
        input_shape=shape,
        output_shape=shape,
        config=config,
        seeds=[seed],
        **options,
    )
    return image[0]


def patches(outer: tuple[int, ...], *, n: int = 2, channels: int = 2) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(7)
    image = torch.randn(n, channels, *outer, generator=generator)
    return image, torch.randint(1000, (n, *outer), generator=generator)


def blobs(outer: tuple[int, ...], *, radius: float, steps: tuple[float, ...]) -> np.ndarray:
    """Return balls (in physical units) on a lattice, 1 inside."""
    places = np.meshgrid(
        *(np.arange(n) * s for n, s in zip(outer, steps, strict=True)), indexing="ij"
    )
    period = 2.6 * radius
    squares = sum(((p + 5.0) % period - period / 2) ** 2 for p in places)
    return (squares < radius**2).astype(np.int64)


# ---- the field of coordinates


@pytest.mark.parametrize("knots", [2, 3, 5])
def test_displacements_are_interpolated_as_torchs_bicubic_does(knots: int) -> None:
    values = torch.randn(1, 2, knots, knots, dtype=torch.float64)
    shape = (41, 30)
    wanted = F.interpolate(values, size=shape, mode="bicubic", align_corners=True)
    rows, columns = (cubic_interpolation(size, knots) for size in shape)
    torch.testing.assert_close(rows @ values @ columns.T, wanted, rtol=0, atol=1e-12)


def keys_kernel(distance: float) -> float:
    """Return the cubic convolution kernel of Keys (1981), a = -0.75."""
    s, a = abs(distance), -0.75
    if s <= 1:
        return (a + 2) * s**3 - (a + 3) * s**2 + 1
    return a * s**3 - 5 * a * s**2 + 8 * a * s - 4 * a if s < 2 else 0.0


def test_a_3d_field_is_matrix_offset_and_tricubic_displacement_summed_knot_by_knot() -> None:
    shape, knots = (5, 6, 7), 3
    generator = torch.Generator().manual_seed(3)
    matrix, offset, values = (
        torch.randn(size, generator=generator, dtype=torch.float64)
        for size in ((1, 3, 3), (1, 3), (1, 3, knots, knots, knots))
    )
    field = coordinate_field(matrix, offset, values, shape=shape, device=CPU)
    for place in [(0, 0, 0), (4, 5, 6), (1, 2, 3), (3, 4, 1), (2, 0, 5)]:
        u = torch.tensor([p - (n - 1) / 2 for p, n in zip(place, shape, strict=True)]).double()
        wanted = matrix[0] @ u + offset[0]
        at = [p * (knots - 1) / (n - 1) for p, n in zip(place, shape, strict=True)]
        for knot in product(range(-2, knots + 2), repeat=3):  # the outer ones are repeated
            weight = np.prod([keys_kernel(a - k) for a, k in zip(at, knot, strict=True)])
            inside = tuple(min(max(k, 0), knots - 1) for k in knot)
            wanted += weight * values[(0, slice(None), *inside)]
        torch.testing.assert_close(field[(0, *place)].double(), wanted, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(
    ("shape", "spacing"), [((21, 25), None), ((5, 9, 9), (40.0, 8.0, 8.0)), ((9, 9, 9), None)]
)
def test_displacements_at_the_knots_have_a_standard_deviation_of_ten_voxels_of_the_finest_axis(
    shape: tuple[int, ...], spacing: tuple[float, ...] | None
) -> None:
    config = replace(NONE, elastic_sigma=10.0)
    at_knots = np.ix_(range(len(shape)), *([0, (n - 1) // 2, n - 1] for n in shape))
    here = ramps(shape)[0]
    drawn = np.stack(
        [
            (sources(config, shape, around=45, seed=seed, spacing=spacing) - here).numpy()[at_knots]
            for seed in range(40 if len(shape) == 2 else 12)
        ]
    )
    physical = drawn * np.reshape(spacing or (1,) * len(shape), (-1, *(1,) * len(shape)))
    deviation = physical.std(axis=(0, *range(2, physical.ndim))) / min(spacing or (1,))
    np.testing.assert_allclose(deviation, 10.0, rtol=0.15)
    assert abs(drawn.mean()) < 1.0


@pytest.mark.parametrize("spacing", [None, (2.0, 1.0)])
def test_a_shift_is_uniform_along_each_axis_and_independent_of_mirrors(
    spacing: tuple[float, float] | None,
) -> None:
    config = replace(NONE, shift=2.0, mirror=True)
    found = [sources(config, (3, 3), around=4, seed=seed, spacing=spacing) for seed in range(200)]
    offsets = np.stack([one[:, 1, 1].numpy() for one in found]) * (spacing or (1.0, 1.0))
    mirrored = np.stack(
        [(one[0, 2, 1] < one[0, 0, 1], one[1, 1, 2] < one[1, 1, 0]) for one in found]
    )
    assert abs(offsets).max() <= 2.0001
    np.testing.assert_allclose(offsets.std(axis=0), 4 / np.sqrt(12), rtol=0.1)
    together = np.corrcoef(np.concatenate([offsets, mirrored], axis=1).T)
    assert abs(together[np.triu_indices(4, 1)]).max() < 0.25


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(
    ("shape", "spacing"),
    [((40, 24), None), ((30, 30), (2.0, 1.0)), ((7, 20, 20), (30.0, 10.0, 10.0))],
)
def test_a_free_rotation_keeps_physical_distances_and_stays_within_the_margin(
    shape: tuple[int, ...], spacing: tuple[float, ...] | None, seed: int
) -> None:
    """A mirrored voxel would be nearer to the centre than its image."""
    config = replace(NONE, rotation="free", mirror=True)
    around = margin(config, dims=len(shape), input_shape=shape, spacing=spacing)
    outer = tuple(n + 2 * m for n, m in zip(shape, around, strict=True))
    image, _ = augment(
        ramps(outer),
        torch.zeros(1, *outer, dtype=torch.int64),
        input_shape=shape,
        output_shape=shape,
        config=config,
        seeds=[seed],
        spacing=spacing,
    )
    steps = torch.tensor(spacing or (1.0,) * len(shape)).reshape(-1, *(1,) * len(shape))
    found = (image[0] * steps).norm(dim=0)
    wanted = (ramps(shape)[0] * steps).norm(dim=0)
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-3)
    assert (image[0] - ramps(shape)[0]).abs().max() > 1  # something was turned


def test_the_margin_holds_turns_swaps_shift_and_three_standard_deviations() -> None:
    def of(*shape: int, spacing: tuple[float, ...] | None = None, **options: object):
        config = replace(NONE, **options)
        return margin(config, dims=len(shape), input_shape=shape, spacing=spacing)

    assert of(572, 572) == (0, 0)
    assert of(572, 572, rotation="free") == (119, 119)  # (sqrt(2) - 1) / 2 * 572 = 118.5
    assert of(572, 572, elastic_sigma=10, shift=2.5) == (33, 33)
    assert of(100, 60, rotation="quarter") == (0, 20)
    assert of(20, 60, 60, rotation="quarter") == (0, 0, 0)
    assert of(20, 60, 40, isotropic=True) == (20, 0, 10)
    assert of(20, 92, 92, elastic_sigma=10, spacing=(50.0, 5.0, 5.0)) == (3, 30, 30)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("shape", [(24, 30), (10, 14, 12)])
@pytest.mark.parametrize(
    "config",
    [
        replace(NONE, elastic_sigma=2.0, shift=1.0, mirror=True),
        replace(NONE, rotation="quarter", isotropic=True),
        replace(NONE, rotation="free"),
    ],
)
def test_values_outside_are_mirrored_as_numpy_reflects(
    config: AugmentConfig, shape: tuple[int, ...], seed: int
) -> None:
    image, labels = patches(shape, n=1)
    around = 16 if len(shape) == 2 else 9
    pad = [(around, around)] * len(shape)
    options = {
        "input_shape": shape,
        "output_shape": shape,
        "config": config,
        "seeds": [seed],
    }
    found = augment(image, labels, **options)
    wanted = augment(
        torch.from_numpy(np.pad(image, [(0, 0), (0, 0), *pad], mode="reflect")),
        torch.from_numpy(np.pad(labels, [(0, 0), *pad], mode="reflect")),
        **options,
    )
    torch.testing.assert_close(found[0], wanted[0], rtol=0, atol=1e-3)
    assert (found[1] == wanted[1]).float().mean() > 0.998  # a half may be rounded to either side


# ---- image and labels


@pytest.mark.parametrize(
    ("shape", "output"), [((20, 24), (12, 10)), ((12, 14, 16), (8, 6, 4)), ((1, 9, 9), (1, 5, 5))]
)
def test_without_augmentation_a_patch_is_the_exact_centre(
    shape: tuple[int, ...], output: tuple[int, ...]
) -> None:
    outer = tuple(n + 6 for n in shape)
    image, labels = patches(outer)
    before = image.clone()
    x, y = augment(image, labels, input_shape=shape, output_shape=output, config=NONE, seeds=[1, 2])
    inner = tuple(slice(3, -3) for _ in shape)
    core = tuple(slice((o - n) // 2, (o + n) // 2) for o, n in zip(outer, output, strict=True))
    assert torch.equal(x, image[(..., *inner)])
    assert torch.equal(y, labels[(slice(None), *core)])
    x.zero_()
    assert torch.equal(image, before)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(
    ("config", "shape", "spacing"),
    [
        (GEOMETRY, (120, 100), None),
        (replace(GEOMETRY, shift=3.0), (100, 100), (1.0, 2.0)),
        (replace(GEOMETRY, elastic_sigma=4.0), (24, 56, 56), (20.0, 10.0, 10.0)),
        (replace(GEOMETRY, elastic_sigma=3.0, isotropic=True), (40, 44, 48), None),
        (replace(GEOMETRY, elastic_sigma=0, rotation="quarter"), (30, 32, 34), None),
    ],
)
def test_image_and_labels_move_together(
    config: AugmentConfig, shape: tuple[int, ...], spacing: tuple[float, ...] | None, seed: int
) -> None:
    steps = spacing or (1.0,) * len(shape)
    around = margin(config, dims=len(shape), input_shape=shape, spacing=spacing)
    outer = tuple(n + 2 * m for n, m in zip(shape, around, strict=True))
    truth = torch.from_numpy(blobs(outer, radius=16.0 * min(steps), steps=steps))[None]
    x, labels = augment(
        truth.float()[:, None],
        truth,
        input_shape=shape,
        output_shape=tuple(n - 4 for n in shape),
        config=config,
        seeds=[seed],
        spacing=spacing,
    )
    seen = x[(0, 0, *(slice(2, -2) for _ in shape))] > 0.5
    both, either = (seen & (labels[0] == 1)).sum(), (seen | (labels[0] == 1)).sum()
    assert 0.05 < either / seen.numel() < 0.9
    assert both / either > 0.95


@pytest.mark.parametrize("dtype", [torch.int64, torch.int32, torch.uint8])
def test_every_label_is_one_of_the_input_even_if_large(dtype: torch.dtype) -> None:
    most = min(2**53, torch.iinfo(dtype).max)
    ids = torch.tensor([0, 1, most - 1, most], dtype=dtype)
    labels = ids[torch.randint(4, (1, 60, 60), generator=torch.Generator().manual_seed(0))]
    _, found = augment(
        torch.zeros(1, 1, 60, 60),
        labels,
        input_shape=(40, 40),
        output_shape=(30, 30),
        config=AugmentConfig(),
        seeds=[3],
    )
    assert found.dtype == dtype
    assert set(found.unique().tolist()) == set(ids.tolist())


@pytest.mark.parametrize(
    ("options", "shape", "count"),
    [
        ({"rotation": "quarter"}, (3, 3), 4),
        ({"mirror": True}, (3, 3), 4),
        ({"rotation": "quarter", "mirror": True}, (3, 3), 8),
        ({"rotation": "quarter", "mirror": True}, (3, 3, 3), 16),
        ({"isotropic": True, "mirror": True}, (3, 3, 3), 48),
    ],
)
def test_quarter_turns_mirrors_and_swaps_give_every_symmetry_and_no_other_grey_value(
    options: dict[str, object], shape: tuple[int, ...], count: int
) -> None:
    seeds = range(12 * count)
    image = torch.arange(float(np.prod(shape))).reshape(1, 1, *shape)
    x, y = augment(
        image.expand(len(seeds), *image.shape[1:]),
        image[0].long().expand(len(seeds), *shape),
        input_shape=shape,
        output_shape=shape,
        config=replace(NONE, **options),
        seeds=seeds,
    )
    assert torch.equal(x[:, 0].long(), y)
    assert torch.equal(y.flatten(1).sort(dim=1).values[:1].expand(len(seeds), -1),
                       y.flatten(1).sort(dim=1).values)  # fmt: skip
    assert len(y.flatten(1).unique(dim=0)) == count


@pytest.mark.parametrize("shape", [(20, 16), (8, 12, 10)])
def test_whole_voxels_move_to_where_interpolation_would_take_them_from(
    shape: tuple[int, ...],
) -> None:
    config = replace(NONE, rotation="quarter", mirror=True, isotropic=True)
    image, labels = patches((24,) * len(shape), n=8)
    options = {"input_shape": shape, "output_shape": tuple(n - 4 for n in shape)}
    moved = augment(image, labels, config=config, seeds=range(8), **options)
    barely = replace(config, shift=1e-6)  # no longer whole voxels
    warped = augment(image, labels, config=barely, seeds=range(8), **options)
    torch.testing.assert_close(moved[0], warped[0], rtol=0, atol=1e-3)
    assert torch.equal(moved[1], warped[1])


@pytest.mark.parametrize("shape", [(20, 16), (8, 12, 10)])
def test_a_share_of_the_patches_is_deformed_and_the_others_keep_every_grey_value(
    shape: tuple[int, ...],
) -> None:
    n = 200
    config = replace(AugmentConfig(), deformed_share=0.3)
    image, labels = (part.expand(n, *part.shape[1:]) for part in patches((24,) * len(shape), n=1))
    options = {"input_shape": shape, "output_shape": tuple(n - 4 for n in shape)}
    mixed = augment(image, labels, config=config, seeds=range(n), **options)
    deformed = augment(image, labels, config=AugmentConfig(), seeds=range(n), **options)
    quarter = replace(AugmentConfig(), elastic_sigma=0.0, rotation="quarter")
    still = augment(image, labels, config=quarter, seeds=range(n), **options)
    is_deformed = [torch.equal(mixed[0][i], deformed[0][i]) for i in range(n)]
    for i, one in enumerate(is_deformed):
        wanted = deformed if one else still
        assert torch.equal(mixed[0][i], wanted[0][i])
        assert torch.equal(mixed[1][i], wanted[1][i])
    assert 0.3 * n - 25 <= sum(is_deformed) <= 0.3 * n + 25  # 3.9 standard deviations


def test_a_quarter_turn_of_oblong_voxels_is_interpolated_at_physical_distances() -> None:
    config = replace(NONE, rotation="quarter")
    found = [
        sources(config, (12, 12), around=20, seed=seed, spacing=(2.0, 1.0)) for seed in range(8)
    ]
    y, x = ramps((12, 12))[0]
    turned = [f for f in found if not torch.allclose(f[0].abs(), y.abs(), atol=1e-3)]
    assert turned
    for source in turned:
        torch.testing.assert_close(source[0].abs(), x.abs() / 2, rtol=0, atol=1e-3)
        torch.testing.assert_close(source[1].abs(), 2 * y.abs(), rtol=0, atol=1e-3)


def test_a_quarter_turn_is_about_the_centre_though_the_sides_are_odd_apart() -> None:
    config = replace(NONE, rotation="quarter", mirror=True)
    distances = ramps((13, 8)).norm(dim=1)[0]
    for seed in range(8):
        found = sources(config, (13, 8), around=4, seed=seed)
        torch.testing.assert_close(found.norm(dim=0), distances, rtol=0, atol=1e-3)


# ---- seeds


@pytest.mark.parametrize("config", [AugmentConfig(), replace(AugmentConfig(), elastic_sigma=0,
                                                             rotation="quarter")])  # fmt: skip
@pytest.mark.parametrize("shape", [(16, 20), (8, 10, 12)])
def test_a_sample_depends_on_its_seed_alone_and_not_on_its_batch(
    shape: tuple[int, ...], config: AugmentConfig
) -> None:
    outer = (24,) * len(shape)
    image, labels = patches(outer, n=3)
    options = {"input_shape": shape, "output_shape": shape, "config": config}
    x, y = augment(image, labels, seeds=[5, 2**63, 9], **options)
    again, _ = augment(image[[2, 0]], labels[[2, 0]], seeds=[9, 5], **options)
    assert torch.equal(again, x[[2, 0]])
    alone, alone_labels = augment(image[1:2], labels[1:2], seeds=[2**63], **options)
    assert torch.equal(alone[0], x[1])
    assert torch.equal(alone_labels[0], y[1])
    other, _ = augment(image[1:2], labels[1:2], seeds=[6], **options)
    assert not torch.equal(other[0], x[1])


@pytest.mark.parametrize("shape", [(20, 24), (8, 10, 12)])
def test_turning_one_part_off_changes_no_other(shape: tuple[int, ...]) -> None:
    here = ramps(shape)[0]
    every = replace(GEOMETRY, shift=2.0, elastic_sigma=3.0, rotation="free", mirror=True)
    turned = replace(every, shift=0, elastic_sigma=0)
    shifted = replace(NONE, shift=2.0)
    displaced = replace(NONE, elastic_sigma=3.0)
    for seed in range(4):
        whole, a, b, c = (
            sources(config, shape, around=24, seed=seed)
            for config in (every, turned, shifted, displaced)
        )
        torch.testing.assert_close(whole, a + (b - here) + (c - here), rtol=0, atol=1e-3)
    image, _ = patches(shape, n=1)
    quiet, noisy = (
        recoloured(image, seed=3, contrast=0.2, brightness=0.1, gamma=0.2, noise=noise)
        for noise in (0, 1e-6)
    )
    torch.testing.assert_close(quiet, noisy, rtol=0, atol=1e-5)


@pytest.mark.parametrize("shape", [(64, 64), (20, 24, 28)])
def test_reduced_precision_of_the_training_moves_no_voxel(shape: tuple[int, ...]) -> None:
    outer = tuple(n + 20 for n in shape)
    image, labels = patches(outer, n=1)
    options = {"input_shape": shape, "output_shape": shape, "config": GEOMETRY, "seeds": [1]}
    wanted, wanted_labels = augment(image, labels, **options)
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")
    try:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            found, found_labels = augment(image, labels, **options)
    finally:
        torch.set_float32_matmul_precision(before)
    assert torch.equal(found, wanted)
    assert torch.equal(found_labels, wanted_labels)


# ---- grey values


def recoloured(image: Tensor, *, seed: int, **amounts: float) -> Tensor:
    shape = image.shape[2:]
    x, _ = augment(
        image,
        torch.zeros(len(image), *shape, dtype=torch.int64),
        input_shape=shape,
        output_shape=shape,
        config=replace(NONE, **amounts),
        seeds=[seed] * len(image),
    )
    return x


SEEDS = range(60)


def test_contrast_multiplies_the_distance_to_each_channels_mean() -> None:
    image, _ = patches((30, 40), n=1)
    mean = image.mean((2, 3), keepdim=True)
    factors = []
    for seed in SEEDS:
        ratio = (recoloured(image, seed=seed, contrast=0.2) - mean) / (image - mean)
        per_channel = ratio.flatten(2).median(dim=2).values[0]
        torch.testing.assert_close(
            recoloured(image, seed=seed, contrast=0.2),
            mean + (image - mean) * per_channel[None, :, None, None],
            rtol=0,
            atol=1e-4,
        )
        factors.extend(per_channel.tolist())
    assert 0.8 <= min(factors) < 0.83
    assert 1.17 < max(factors) <= 1.2


def test_brightness_adds_one_number_to_each_channel() -> None:
    image, _ = patches((30, 40), n=1)
    added = [recoloured(image, seed=seed, brightness=0.1) - image for seed in SEEDS]
    for one in added:
        assert one.std(dim=(2, 3)).max() < 1e-5
    means = torch.cat([one.mean((2, 3)) for one in added])
    assert -0.1001 <= means.min() < -0.08
    assert 0.08 < means.max() <= 0.1001


def test_gamma_keeps_the_extremes_and_is_a_power_between_them() -> None:
    image, _ = patches((30, 40), n=1, channels=1)
    low, high = image.min(), image.max()
    unit = (image - low) / (high - low)
    exponents = []
    for seed in SEEDS:
        found = (recoloured(image, seed=seed, gamma=0.2) - low) / (high - low)
        inside = (unit > 0.1) & (unit < 0.9)
        logarithms = found[inside].log() / unit[inside].log()
        assert logarithms.std() < 1e-3
        exponents.append(float(logarithms.mean().log()))
        assert float(found.min()) == pytest.approx(0, abs=1e-5)
        assert float(found.max()) == pytest.approx(1, abs=1e-5)
    assert -0.2001 <= min(exponents) < -0.15
    assert 0.15 < max(exponents) <= 0.2001


def test_noise_is_gaussian_and_its_deviation_is_drawn_up_to_the_largest() -> None:
    image, _ = patches((50, 60), n=1)
    noises = [recoloured(image, seed=seed, noise=0.03) - image for seed in SEEDS]
    deviations = [float(noise.std()) for noise in noises]
    assert 0 <= min(deviations) < 0.004
    assert 0.026 < max(deviations) < 0.032
    loudest = noises[int(np.argmax(deviations))] / max(deviations)
    assert float(loudest.mean()) == pytest.approx(0, abs=0.05)
    assert float((loudest.abs() < 1).float().mean()) == pytest.approx(0.683, abs=0.02)
    assert not torch.equal(loudest[0, 0], loudest[0, 1])
    correlations = np.corrcoef([noise.flatten().numpy() for noise in noises])
    assert abs(correlations[np.triu_indices(len(noises), 1)]).max() < 0.1


def test_a_flat_patch_stays_flat_and_finite() -> None:
    x = recoloured(torch.full((1, 1, 8, 8), 0.5), seed=1, contrast=0.2, brightness=0.1, gamma=0.2)
    assert bool(x.isfinite().all())
    assert x.min() == x.max()
    assert abs(float(x[0, 0, 0, 0]) - 0.5) <= 0.1


# ---- the config


def test_a_config_survives_its_dictionary() -> None:
    config = AugmentConfig(elastic_sigma=4, rotation="quarter", isotropic=True)
    assert AugmentConfig(**config.to_dict()) == config
    assert AugmentConfig() == AugmentConfig()
    assert config.to_dict() == AugmentConfig(**config.to_dict()).to_dict()
    assert (
        type(config.to_dict()["elastic_sigma"]) is float
    )  # a digest must be the same for 4 and 4.0


@pytest.mark.parametrize(
    ("record", "says"),
    [
        ({"elastic": 3}, "training.augment.elastic: unknown setting; did you mean elastic_"),
        ({"elastic_sigma": -1}, "training.augment.elastic_sigma (-1): expected 0 or more"),
        ({"noise": float("nan")}, "noise (nan): expected a finite number"),
        ({"shift": True}, "shift (True): expected a number"),
        ({"gamma": "0.1"}, "gamma ('0.1'): expected a number"),
        ({"contrast": 1}, "contrast (1): expected less than 1"),
        ({"elastic_sigma": 1e9}, "elastic_sigma (1000000000.0): expected less than 1000"),
        ({"brightness": 1e39}, "brightness (1e+39): expected less than 1000"),
        ({"noise": 1e300}, "noise (1e+300): expected less than 1000"),
        ({"gamma": 300.0}, "gamma (300.0): expected less than 10"),
        ({"elastic_knots": 1}, "elastic_knots (1): expected 2 or more"),
        ({"elastic_knots": 10**6}, "elastic_knots (1000000): expected 64 or less"),
        ({"elastic_knots": 3.0}, "elastic_knots (3.0): expected an integer"),
        ({"elastic_knots": True}, "elastic_knots (True): expected an integer"),
        ({"rotation": "any"}, "rotation ('any'): expected 'none', 'quarter' or 'free'"),
        ({"mirror": 1}, "mirror (1): expected true or false"),
    ],
)
def test_an_invalid_config_is_refused_in_one_line(record: dict[str, object], says: str) -> None:
    with pytest.raises(ConfigError) as caught:
        AugmentConfig(**record)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_axes_of_unequal_voxels_are_not_swapped() -> None:
    with pytest.raises(ConfigError, match=r"swaps axes, but a voxel is .*: set isotropic = false"):
        margin(AugmentConfig(isotropic=True), dims=3, input_shape=(9, 9, 9), spacing=(3, 1, 1))
