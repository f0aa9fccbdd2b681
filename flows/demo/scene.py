"""The tissue of the demo volume: drawn from a seed, rendered box by box.

A ``Scene`` is small: centres of cells, beads that represent organelles, knots of smooth noise. Any
box of voxels can be rendered from it independently, and boxes join without a seam.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
from scipy.spatial import cKDTree

from pipeline.base.geometry import Box, Halo

Floats: TypeAlias = NDArray[np.float32]
Shape3: TypeAlias = tuple[int, int, int]
Sizes3: TypeAlias = tuple[float, float, float]

VOXEL_SIZE_UM: Sizes3 = (0.2, 0.1, 0.1)
RECIPE = 1
"""Raised when the same seed would give other voxels."""

_CELL_UM: Sizes3 = (4.5, 4.0, 4.0)
_PSF_SIGMA_UM: Sizes3 = (0.25, 0.11, 0.11)
_BLUR_HALO = Halo.same_on_both_sides((4, 4, 4))  # three sigma of the blur
_MARGIN_UM = 6.0  # of cells beyond the volume, so that its edge cuts through tissue


def render(
    box: Box, *, scene: Scene
) -> tuple[NDArray[np.uint8], NDArray[np.uint8], NDArray[np.uint32]]:
    """Return raw, truth and cell ids of ``box`` (z, y, x); noise is drawn for each box separately.

    ::

        |hhhh|cccccccccccc|hhhh|     blurred with its halo, so that boxes join without a seam
    """
    outer = _BLUR_HALO.around(box)
    core = box.relative_to(outer.start).slices
    wall_um, thickness_um, signal, cell_ids = scene.tissue(outer)
    blurred = gaussian_filter(
        signal,
        sigma=[s / v for s, v in zip(_PSF_SIGMA_UM, VOXEL_SIZE_UM, strict=True)],
        radius=_BLUR_HALO.low,
    )
    lit = blurred[core] * scene.light(box)
    truth = wall_um[core] < thickness_um[core] / 2
    return _detected(lit, rng=scene.noise_rng(box)), truth.astype(np.uint8), cell_ids[core]


@dataclass(frozen=True)
class Scene:
    """Contents of a volume of ``shape``, in µm from its first voxel. Drawn once from the seed."""

    shape: Shape3
    seed: int

    @cached_property
    def extent_um(self) -> Floats:
        """Size of the volume per axis."""
        return np.multiply(self.shape, VOXEL_SIZE_UM).astype(np.float32)

    @cached_property
    def cells(self) -> cKDTree:
        """Centres of the cells: a staggered grid with random shifts."""
        axes = [
            np.arange(-_MARGIN_UM, e + _MARGIN_UM, c)
            for e, c in zip(self.extent_um, _CELL_UM, strict=True)
        ]
        index = np.stack(np.meshgrid(*[np.arange(len(a)) for a in axes], indexing="ij"), axis=-1)
        centres = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1)
        centres[..., 1] += 0.5 * _CELL_UM[1] * (index[..., 0] % 2)
        centres[..., 2] += 0.5 * _CELL_UM[2] * (index[..., 1] % 2)
        shifts = self._rng(1).uniform(-0.32, 0.32, centres.shape) * _CELL_UM
        return cKDTree((centres + shifts).reshape(-1, 3))

    @cached_property
    def organelles(self) -> Floats:
        """Vesicles, and rods as rows of beads: (n, 5) of z, y, x, radius and brightness."""
        rng = self._rng(2)
        volume_um3 = float(np.prod(self.extent_um))
        vesicles = self._beads(rng, count=int(0.25 * volume_um3), beads=1, radius_um=(0.12, 0.3))
        rods = self._beads(rng, count=int(0.12 * volume_um3), beads=9, radius_um=(0.1, 0.16))
        beads = np.concatenate([vesicles, rods])
        to_centre_um, _ = self.cells.query(beads[:, :3])
        return beads[np.asarray(to_centre_um) > 1.2]

    @cached_property
    def fields(self) -> dict[str, SmoothField]:
        """Smooth noise that bends, thickens and dims membranes."""
        spacing_um = {
            "bend_z": 1.7,
            "bend_y": 1.7,
            "bend_x": 1.7,
            "thickness": 1.2,
            "stain": 1.0,
            "cytoplasm": 0.7,
            "light": 9.0,
        }
        return {
            name: SmoothField.drawn(self._rng(10 + n), extent_um=self.extent_um, spacing_um=step)
            for n, (name, step) in enumerate(spacing_um.items())
        }

    def tissue(self, box: Box) -> tuple[Floats, Floats, Floats, NDArray[np.uint32]]:
        """Return distance to the nearest wall, its thickness (µm), sharp signal, ids of the cells.

        Each is (z, y, x) of ``box``. Cells meet in the middle of their walls, so every voxel has an
        id, from 1. The walls are the planes halfway between two cells' centres,
        in a space that the bending fields distort; the signal lies between 0 and about 1.
        """
        field = {name: f.at(box) for name, f in self.fields.items() if name != "light"}
        bend = np.stack([field["bend_z"], field["bend_y"], field["bend_x"]], axis=-1)
        points = np.stack(np.meshgrid(*_positions_um(box), indexing="ij"), axis=-1) + 0.45 * bend
        cell_ids, centre_um, wall_um = _nearest_cells(points, cells=self.cells)

        thickness_um = 0.27 * (1 + 0.22 * field["thickness"]).clip(0.6, 1.5)
        membrane = 0.72 * (1 + 0.38 * field["stain"]).clip(0.25, 1.6)
        signal = 0.2 + 0.05 * field["cytoplasm"]
        nucleus_um = 1.05 + 0.1 * field["thickness"]
        signal = np.where(centre_um < nucleus_um, 0.6 * signal, signal)
        signal = np.maximum(signal, 0.5 * _soft_step(0.1 - np.abs(centre_um - nucleus_um)))
        _paint_beads(signal, self.organelles, box=box)
        signal = np.maximum(signal, membrane * _soft_step(thickness_um / 2 - wall_um))
        return wall_um, thickness_um.astype(np.float32), signal.astype(np.float32), cell_ids

    def light(self, box: Box) -> Floats:
        """Return the illumination of the voxels of ``box``: less in corners and at depth."""
        z, y, x = np.meshgrid(*_positions_um(box), indexing="ij", sparse=True)
        off_axis = np.hypot(y / self.extent_um[1] - 0.5, x / self.extent_um[2] - 0.5)
        fall_off = (1 - 0.75 * off_axis**2) * np.exp(-z / 40)
        light = fall_off * (1 + 0.18 * self.fields["light"].at(box))
        return np.asarray(light.clip(0.2, None), np.float32)

    def noise_rng(self, box: Box) -> np.random.Generator:
        """Return the source of photon noise of one box."""
        return np.random.default_rng([self.seed, 99, *box.start])

    def _rng(self, purpose: int) -> np.random.Generator:
        return np.random.default_rng([self.seed, purpose])

    def _beads(
        self, rng: np.random.Generator, *, count: int, beads: int, radius_um: tuple[float, float]
    ) -> Floats:
        """Return ``count`` strings of ``beads``: random walks of nearly constant direction."""
        start = rng.uniform(-0.5, self.extent_um + 0.5, (count, 1, 3))
        heading = rng.normal(size=(count, 1, 3)) + 0.35 * rng.normal(size=(count, beads, 3))
        heading /= np.linalg.norm(heading, axis=-1, keepdims=True)
        centre = start + 0.15 * np.cumsum(heading, axis=1)
        radius = np.broadcast_to(rng.uniform(*radius_um, (count, 1, 1)), (count, beads, 1))
        bright = np.broadcast_to(rng.uniform(0.8, 1.9, (count, 1, 1)), (count, beads, 1))
        return np.concatenate([centre, radius, bright], axis=-1).reshape(-1, 5).astype(np.float32)


@dataclass(frozen=True, slots=True, eq=False)
class SmoothField:
    """Smooth noise about 0 with a standard deviation of about 1: knots under cubic B-splines."""

    knots: Floats
    spacing_um: float

    @classmethod
    def drawn(
        cls, rng: np.random.Generator, *, extent_um: Floats, spacing_um: float
    ) -> SmoothField:
        """Draw knots over a volume of ``extent_um``, three beyond each of its edges."""
        counts = [int(np.ceil(e / spacing_um)) + 6 for e in extent_um]
        return cls(rng.standard_normal(counts, dtype=np.float32) * 3.0, spacing_um)

    def at(self, box: Box) -> Floats:
        """Return the field at the voxels of ``box`` (z, y, x), one axis after the other."""
        values = self.knots
        for positions_um in _positions_um(box):
            first, rows = _spline_rows(positions_um / self.spacing_um + 3)
            near = values[first : first + rows.shape[1]]
            values = np.moveaxis(np.tensordot(rows, near, axes=(1, 0)), 0, -1)
        return values


def _spline_rows(position: Floats) -> tuple[int, Floats]:
    """Return the first knot in reach, and (position, knot) weights of the uniform cubic B-spline.

    position: ascending, in knots. Four weights in a row are not 0; a row sums to 1.
    """
    before = np.floor(position).astype(int)
    first = int(before[0]) - 1
    f = position - before
    weights = (
        (1 - f) ** 3 / 6,
        (3 * f**3 - 6 * f**2 + 4) / 6,
        (-3 * f**3 + 3 * f**2 + 3 * f + 1) / 6,
        f**3 / 6,
    )
    rows = np.zeros((len(position), int(before[-1]) + 3 - first), np.float32)
    for offset, weight in enumerate(weights, start=-1):
        rows[np.arange(len(position)), before + offset - first] = weight
    return first, rows


def _positions_um(box: Box) -> list[Floats]:
    """Return the centres of the voxels along each axis."""
    return [
        ((np.arange(a, b) + 0.5) * size).astype(np.float32)
        for a, b, size in zip(box.start, box.stop, VOXEL_SIZE_UM, strict=True)
    ]


def _nearest_cells(
    points: NDArray[Any], *, cells: cKDTree
) -> tuple[NDArray[np.uint32], Floats, Floats]:
    """Return the cells' ids of ``points`` (…, 3), and the distances (µm) to centre and wall.

    The wall between centres p and q lies ``(|x - q|² - |x - p|²) / (2 |p - q|)`` from x.
    """
    found = cells.query(points, k=4, workers=-1)
    distance, index = np.asarray(found[0]), np.asarray(found[1])
    own, others = distance[..., :1], distance[..., 1:]
    centres = cells.data.astype(np.float32)
    apart = np.linalg.norm(centres[index[..., 1:]] - centres[index[..., :1]], axis=-1)
    wall = ((others**2 - own**2) / (2 * apart)).min(axis=-1)
    ids = (index[..., 0] + 1).astype(np.uint32)
    return ids, own[..., 0].astype(np.float32), wall.astype(np.float32)


def _soft_step(inside_um: NDArray[Any]) -> NDArray[Any]:
    """Return 0 outside, 1 inside, and a ramp of one voxel (0.1 µm) between."""
    return (inside_um / 0.1 + 0.5).clip(0, 1)


def _paint_beads(signal: Floats, beads: Floats, *, box: Box) -> None:
    """Brighten ``signal`` (z, y, x of ``box``) where a bead lies."""
    voxel = np.asarray(VOXEL_SIZE_UM, np.float32)
    reach = 2 * beads[:, 3:4]
    first = np.floor((beads[:, :3] - reach) / voxel).astype(int) - box.start
    last = np.ceil((beads[:, :3] + reach) / voxel).astype(int) - box.start
    touching = np.flatnonzero(((last > 0) & (first < box.shape)).all(axis=1))
    axes = _positions_um(box)
    for n in touching:
        window = tuple(slice(max(a, 0), b) for a, b in zip(first[n], last[n], strict=True))
        z, y, x = (
            (axis[part] - c) ** 2 for axis, part, c in zip(axes, window, beads[n], strict=False)
        )
        squared = z[:, None, None] + y[:, None] + x
        glow = beads[n, 4] * np.exp(-squared / (2 * (0.7 * beads[n, 3]) ** 2))
        np.maximum(signal[window], glow, out=signal[window])


def _detected(light: Floats, *, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Return grey values of a camera: photon counts with read noise, digitised."""
    photons = rng.poisson(50 * light.clip(0, None)).astype(np.float32)
    grey = 6 + 6.0 * photons + rng.normal(0, 4, light.shape)
    return np.rint(grey).clip(0, 255).astype(np.uint8)
