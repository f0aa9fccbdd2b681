"""The bundled weights as text and as JSON."""

from __future__ import annotations

from typing import Any

from pipeline.base.text import aligned_rows, size_text
from unet import WeightsInfo, read_weights_info
from unet.weights.bundled_models import MODELS, BundledModel
from unet.weights.location import is_bundled

from .weights import voxel_size_text


def bundled_json() -> list[dict[str, Any]]:
    """Return what is known of each bundled file as JSON values."""
    return [
        {
            "name": model.name,
            "shows": model.shows,
            "dims": info.config.dims,
            "classes": list(info.class_names),
            "voxel_size_um": list(info.voxel_size_um) if info.voxel_size_um else None,
            "parameters": info.parameters,
            "size_bytes": info.size_bytes,
            "licence": model.licence,
            "scores": model.scores,
        }
        for model, info in _read()
    ]


def bundled_text() -> str:
    """Return the bundled weights, a paragraph each."""
    return "\n\n".join(_paragraph(model, info) for model, info in _read())


def bundled_paragraph(name: str) -> str | None:
    """Return what bundled weights are for; None for other weights, and files of such a name."""
    model = next((model for model in MODELS if model.name == name and is_bundled(name)), None)
    return None if model is None else _paragraph(model, read_weights_info(name))


def _paragraph(model: BundledModel, info: WeightsInfo) -> str:
    rows = [
        ("image", f"{info.config.dims}-D, {model.shows}"),
        ("voxel size", voxel_size_text(info)),
        ("classes", ", ".join(info.class_names)),
        ("size", f"{size_text(info.size_bytes)}, {info.parameters:,} parameters"),
        ("licence", model.licence),
        ("scores", model.scores),
    ]
    return f"{model.name}\n{aligned_rows(rows)}"


def _read() -> list[tuple[BundledModel, WeightsInfo]]:
    return [(model, read_weights_info(model.name)) for model in MODELS]
