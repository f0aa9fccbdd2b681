"""The contents of a weights file as text and as JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from pipeline.base.text import aligned_rows, counted, shape_text, size_text
from unet import WeightsInfo
from unet.training.selection.metric import METRICS

MOST_SHOWN = 400
"""Characters of a record that are shown."""


def weights_json(info: WeightsInfo) -> dict[str, Any]:
    """Return the contents of a weights file as JSON values."""
    config = info.config
    return {
        "digest": info.digest,
        "size_bytes": info.size_bytes,
        "parameters": info.parameters,
        "dtype": info.dtype,
        "config": config.to_dict(),
        "halo": list(config.halo),
        "divisor": list(config.divisor),
        "tile_dependent_layers": list(config.tile_dependent_layers),
        "class_names": list(info.class_names),
        **info.outputs.to_json(),
        "normalisation": dict(info.normalisation) if info.normalisation else None,
        "voxel_size_um": list(info.voxel_size_um) if info.voxel_size_um else None,
        "input_percentiles": (
            {name: list(values) for name, values in info.input_percentiles.items()}
            if info.input_percentiles
            else None
        ),
        "provenance": dict(info.provenance),
    }


def weights_text(info: WeightsInfo) -> str:
    """Return the contents of a weights file as aligned lines."""
    config = info.config
    record = info.normalisation
    rows = [
        ("network", f"U-Net, {config.dims}-D, {config.levels} levels, {config.base_channels} base "
                    f"channels, norm {config.norm}, {info.parameters:,} parameters"),
        ("input", counted(config.in_channels, "channel")),
        _channels_row(info),
        ("halo", f"{shape_text(config.halo)} voxels per side"),
        ("divisor", shape_text(config.divisor)),
        ("kernels", " ".join(shape_text(kernel) for kernel in config.level_kernels)),
        ("pooling", " ".join(shape_text(pool) for pool in config.level_pooling) or "none"),
        ("normalisation", json.dumps(dict(record)) if record else "not stated"),
        ("voxel size", voxel_size_text(info)),
        ("stored as", f"{info.dtype}, {size_text(info.size_bytes)}"),
        ("digest", f"sha256 {info.digest}"),
    ]  # fmt: skip
    if config.tile_dependent_layers:
        layers = ", ".join(config.tile_dependent_layers)
        rows.append(("seams", f"{layers}: the tiled result differs from the whole"))
    rows += [("weights of", text) for text in _origin_texts(info.provenance)]
    rows += [
        (f"provenance {name}", _shortened(_plain(value))) for name, value in info.provenance.items()
    ]
    return aligned_rows(rows)


def _shortened(text: str) -> str:
    """Return a text, or its beginning if it is longer than a few lines."""
    return text if len(text) <= MOST_SHOWN else f"{text[:MOST_SHOWN]}… (whole with --json)"


def _channels_row(info: WeightsInfo) -> tuple[str, str]:
    """Return what the output channels are: classes, or the kind and the name of each."""
    names = ", ".join(f"{i} {name}" for i, name in enumerate(info.class_names))
    outputs = info.outputs
    if outputs.has_classes:
        return "classes", names
    return "outputs", f"{outputs.kind} ({outputs.activation}): {names}"


def voxel_size_text(info: WeightsInfo) -> str:
    """Return the voxel size of the training's volumes."""
    if info.voxel_size_um is None:
        return "not stated"
    return "×".join(f"{size:g}" for size in info.voxel_size_um) + " µm"


def _origin_texts(provenance: Mapping[str, Any]) -> list[str]:
    """Return which weights of its training a file holds; nothing if it does not state it."""
    kept, steps, trained = (provenance.get(name) for name in ("kept", "steps", "steps_trained"))
    if kept not in ("best", "last") or not all(type(step) is int for step in (steps, trained)):
        return []
    words = {str(name): metric.words for name, metric in METRICS.items()}
    metric, score = (provenance.get(name) for name in ("metric", "score"))
    is_scored = isinstance(metric, str) and metric in words and isinstance(score, float)
    chosen = f"{words[str(metric)]} {score:.4f}" if is_scored else ""
    if kept == "best":
        which = f"step {steps} of {trained}, the best validation" if chosen else f"step {steps}"
        return [f"{which} ({chosen})" if chosen else which]
    return [f"the last step, {steps}" + (f" ({chosen})" if chosen else "")]


def _plain(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)
