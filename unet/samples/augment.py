"""Training patches, deformed and recoloured: "data augmentation" of the paper, in 2-D and 3-D.

Ronneberger et al. 2015, section 3.1: random displacement vectors on a coarse 3 by 3 grid, drawn
from a Gaussian of 10 pixels standard deviation, interpolated bicubically to every pixel; with
rotation, mirroring, shift and grey-value variation. Everything that moves voxels is composed into
one field of coordinates, so that a patch is interpolated once::

    |-------------------------- outer --------------------------|
    | margin |---------------- input ----------------| margin   |     image (n, c, *input)
             | halo |------- output -------| halo   |                 labels (n, *output)
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from ..recipe.augment_config import AugmentConfig, Rotation, Shape, margin, voxel_steps
from .deformation import coordinate_field

__all__ = ["AugmentConfig", "augment", "margin"]


@torch.no_grad()
def augment(
    image: Tensor,
    labels: Tensor,
    *,
    input_shape: Sequence[int],
    output_shape: Sequence[int],
    config: AugmentConfig,
    seeds: Sequence[int],
    spacing: Sequence[float] | None = None,
) -> tuple[Tensor, Tensor]:
    """Return a network's input (n, c, *input) and the labels of its output (n, *output).

    image: (n, c, *outer) float32, interpolated linearly; labels: (n, *outer) of any integer dtype,
    taken from the nearest voxel of the same place, so that every id survives. outer is the input
    with ``margin`` on each side (more or less is fine); beyond it, values are
    mirrored. The output lies in the centre of the input, hence is smaller by an even number.

    A sample depends only on its seed, not on its batch. On another kind of device only the noise
    differs. Quarter turns and mirrors move whole voxels: nothing is interpolated.
    """
    shape = tuple(input_shape)
    steps = voxel_steps(config, dims=len(shape), spacing=spacing)
    draws = [_draw(config, seed, channels=image.shape[1], steps=steps) for seed in seeds]
    moved = [
        _moved(image[n : n + 1], labels[n : n + 1], draw, shape=shape, output_shape=output_shape)
        for n, draw in enumerate(draws)
    ]
    images, seen = (torch.cat(parts) for parts in zip(*moved, strict=True))
    return _recolour(images, draws, config=config), seen


def _moved(
    image: Tensor, labels: Tensor, draw: _Draw, *, shape: Shape, output_shape: Sequence[int]
) -> tuple[Tensor, Tensor]:
    """Return one sample's image (1, c, *shape) and labels (1, *output), before its grey values."""
    if draw.moves_whole_voxels and _fits_whole_voxels(draw, image.shape[2:], shape):
        turned = _move(labels[0], draw, shape=shape)
        return _move(image[0], draw, shape=shape)[None], _centre(turned, output_shape)[None]
    return _warp(image, labels, draw, shape=shape, output_shape=output_shape)


@dataclass(frozen=True, slots=True)
class _Draw:
    """The parameters drawn from one seed. Coordinates are (z,) y, x; float64 on the CPU."""

    matrix: Tensor
    """(dims, dims): voxels from the input's centre to voxels from the outer box's centre."""
    offset: Tensor
    """(dims,), in voxels."""
    displacement: Tensor | None
    """(dims, knots, ..., knots), in voxels."""
    grey: Tensor
    """(3, c): factor of the contrast, summand of the brightness, exponent of gamma."""
    noise: float
    """Standard deviation."""
    noise_seed: int
    moves_whole_voxels: bool
    """Whether it moves by quarter turns and mirrors only."""


def _draw(config: AugmentConfig, seed: int, *, channels: int, steps: Sequence[float]) -> _Draw:
    """Draw all parameters of a sample, used or not: so turning one off changes no other."""
    dims = len(steps)
    step = torch.tensor(steps, dtype=torch.float64)
    generator = torch.Generator().manual_seed(seed)
    noise_seed = int(torch.randint(2**62, (), generator=generator))
    order = torch.randperm(3, generator=generator)
    turn, noise, *rest = torch.rand(8, generator=generator, dtype=torch.float64).tolist()
    mirrored, shifts = rest[:dims], rest[3 : 3 + dims]
    signs = [-1.0 if config.mirror and chance < 0.5 else 1.0 for chance in mirrored]
    grey = 2 * torch.rand(3, channels, generator=generator) - 1
    knots = torch.randn((dims, *(config.elastic_knots,) * dims), generator=generator).double()
    if float(torch.rand((), generator=generator, dtype=torch.float64)) >= config.deformed_share:
        config = config.without_deformation

    matrix = torch.diag(torch.tensor(signs, dtype=torch.float64))
    if config.isotropic and dims == 3:
        matrix = matrix[order]
    matrix = _rotation(config.rotation, turn, dims=dims) @ matrix
    offset = config.shift * (2 * torch.tensor(shifts, dtype=torch.float64) - 1)
    displacement = config.elastic_sigma * knots / step.reshape(-1, *(1,) * dims)
    return _Draw(
        matrix=matrix * step / step[:, None],
        offset=offset / step,
        displacement=displacement if config.elastic_sigma > 0 else None,
        grey=torch.stack(
            [
                1 + config.contrast * grey[0],
                config.brightness * grey[1],
                torch.exp(config.gamma * grey[2]),
            ]
        ),
        noise=config.noise * noise,
        noise_seed=noise_seed,
        moves_whole_voxels=config.moves_by_whole_voxels,
    )


def _rotation(rotation: Rotation, turn: float, *, dims: int) -> Tensor:
    """Return the rotation by ``turn`` (0 to 1) of a full circle, in the plane of y and x."""
    matrix = torch.eye(dims, dtype=torch.float64)
    if rotation != "none":
        angle = 2 * math.pi * turn if rotation == "free" else math.pi / 2 * int(4 * turn)
        cosine, sine = math.cos(angle), math.sin(angle)
        if rotation == "quarter":
            cosine, sine = round(cosine), round(sine)
        matrix[-2:, -2:] = torch.tensor([[cosine, -sine], [sine, cosine]], dtype=torch.float64)
    return matrix


def _fits_whole_voxels(draw: _Draw, outer: Sequence[int], shape: Shape) -> bool:
    """Return whether the sample takes whole voxels inside the outer box."""
    for axis, row in enumerate(draw.matrix.tolist()):
        source = [i for i, value in enumerate(row) if value]
        if len(source) != 1 or abs(row[source[0]]) != 1:
            return False  # a quarter turn of voxels that are not square
        spare = outer[axis] - shape[source[0]]
        if spare < 0 or spare % 2:
            return False
    return True


def _move(one: Tensor, draw: _Draw, *, shape: Shape) -> Tensor:
    """Return ``one`` (…, *outer), its axes swapped and mirrored, cut to the centre."""
    dims = len(shape)
    first = one.ndim - dims
    columns = draw.matrix.T
    sources = [int(column.abs().argmax()) for column in columns]
    moved = one.permute(*range(first), *(first + source for source in sources))
    back = [
        first + axis
        for axis, (column, source) in enumerate(zip(columns, sources, strict=True))
        if column[source] < 0
    ]
    return _centre(moved, shape).flip(back)


def _centre(array: Tensor, shape: Sequence[int]) -> Tensor:
    """Return the centre of the last axes of ``array``, as a view."""
    for axis, size in enumerate(shape, start=array.ndim - len(shape)):
        array = array.narrow(axis, (array.shape[axis] - size) // 2, size)
    return array


def _warp(
    image: Tensor, labels: Tensor, draw: _Draw, *, shape: Shape, output_shape: Sequence[int]
) -> tuple[Tensor, Tensor]:
    """Return image and labels at the coordinates of the sample's field."""
    outer = image.shape[2:]
    # grid_sample takes x first, and the first and last voxel at -1 and 1.
    half = torch.tensor([(size - 1) / 2 for size in reversed(outer)], dtype=torch.float64)
    scale = torch.where(half > 0, 1 / half.clamp(min=0.5), 0.0)
    displacement = draw.displacement
    if displacement is not None:
        displacement = displacement.flip(0) * scale.reshape(-1, *(1,) * len(shape))
    field = coordinate_field(
        (draw.matrix.flip(0) * scale[:, None])[None],
        (draw.offset.flip(0) * scale)[None],
        None if displacement is None else displacement[None],
        shape=shape,
        device=image.device,
    )
    # Mirror at the first and last voxel's centre, as numpy's "reflect": 1 + d becomes 1 - d.
    field = field.clamp(-1, 1).mul_(2).sub_(field)
    warped = F.grid_sample(image, field, padding_mode="border", align_corners=True)
    return warped, _nearest(labels, _centre(field.movedim(-1, 1), output_shape))


def _nearest(labels: Tensor, field: Tensor) -> Tensor:
    """Return the label nearest to each place. field: (n, x first, *output), from -1 to 1."""
    index = torch.zeros_like(field[:, 0], dtype=torch.int64)
    for size, place in zip(labels.shape[1:], reversed(field.unbind(1)), strict=True):
        voxel = ((place + 1) * ((size - 1) / 2)).round_().clamp_(0, size - 1)
        index.mul_(size).add_(voxel.long())
    flat = labels.flatten(1)
    return flat.gather(1, index.flatten(1)).reshape(index.shape)


def _recolour(image: Tensor, draws: Sequence[_Draw], *, config: AugmentConfig) -> Tensor:
    """Vary contrast about the mean, brightness, gamma between the extremes; add noise. In place."""
    space = tuple(range(2, image.ndim))
    if config.contrast or config.brightness or config.gamma:
        grey = torch.stack([draw.grey for draw in draws], dim=1).to(image.device)  # (3, n, c)
        contrast, brightness, gamma = grey.reshape(*grey.shape, *(1,) * len(space))
        mean = image.mean(space, keepdim=True)
        shift = mean * (1 - contrast) + brightness
        if config.gamma:
            low, high = image.amin(space, keepdim=True), image.amax(space, keepdim=True)
            image.sub_(low).mul_(1 / (high - low).clamp(min=1e-20)).pow_(gamma)
            contrast, shift = contrast * (high - low), contrast * low + shift
        image.mul_(contrast).add_(shift)
    if config.noise:
        for one, draw in zip(image, draws, strict=True):
            generator = torch.Generator(image.device).manual_seed(draw.noise_seed)
            noise = torch.randn(one.shape, generator=generator, device=image.device)
            one.add_(noise, alpha=draw.noise)
    return image
