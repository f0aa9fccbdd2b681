"""What the user should know about a network that was chosen by the volumes: a line."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from ..recipe.training_config import Recipe
from .start.weights import StartWeights
from .suggest import ANISOTROPIC
from .volumes import TrainingVolumes


def network_notes(
    volumes: TrainingVolumes, recipe: Recipe, config: Mapping[str, Any], start: StartWeights | None
) -> Iterator[str]:
    """Yield that a 3-D network was chosen without knowing how far apart the slices are."""
    is_chosen = start is None and "network" not in config
    sizes, spacing = volumes.voxel_size_um, volumes.training[0].spacing_zyx
    is_unknown = sizes is not None and None in sizes and len(set(spacing)) == 1
    if is_chosen and is_unknown and recipe.network.dims == 3:
        yield (
            "the files do not state how far apart the slices are, so a 3-D network was chosen as "
            "if they were as far apart as the pixels: if not, pass --voxel-size Z,Y,X (from "
            f"{ANISOTROPIC:g} times as far on, the network is 2-D), or set dims in the table "
            "[network] of a --config"
        )
