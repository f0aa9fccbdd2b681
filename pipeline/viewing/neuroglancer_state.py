"""What Neuroglancer shows when it opens: layers, colours, place and zoom, as its JSON; pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from ..output.image_spec import colour
from ..output.label_layer import segment_properties
from ..volume.micrometres import UM_PER_UNIT
from ..volume.volume import VolumeSource
from .layers import Layer, View
from .virtual_zarr import axis_units, voxel_step

PROPERTIES: Final = "properties"
"""Key of the names of a layer's labels, beside its arrays."""
_SCREEN: Final = 420
"""Pixels along which the longest side of the volume is shown at first."""
_SHADER: Final = """#uicontrol invlerp normalized
#uicontrol vec3 color color
void main() { emitRGB(color * normalized()); }
"""


def neuroglancer_state(view: View, urls: Sequence[str]) -> dict[str, Any]:
    """Return the state. urls: where each layer is served, in order."""
    last = view.layers[-1].source
    sizes = [_metres(size, unit) for size, unit in _per_axis(last)]
    middle = [
        origin / size + n / 2
        for origin, size, n in zip(last.translation, voxel_step(last), last.shape_zyx, strict=True)
    ]
    longest = max(n * size for n, (size, _) in zip(last.shape_zyx, sizes, strict=True))
    return {
        "dimensions": {axis: [*size] for axis, size in zip("xyz", sizes[::-1], strict=True)},
        "position": middle[::-1],
        "crossSectionScale": longest / sizes[2][0] / _SCREEN,
        "projectionScale": 1.5 * longest / sizes[2][0],
        "layout": "xy" if last.shape_zyx[0] == 1 else "4panel",
        "showSlices": True,
        "layers": [
            _labels(layer, url) if layer.kind == "labels" else _grey(layer, url)
            for layer, url in zip(view.layers, urls, strict=True)
        ],
    }


def names_document(layer: Layer) -> dict[str, Any]:
    """Return the document ``info`` with the names of a layer's labels."""
    return dict(segment_properties(layer.class_names))


def _per_axis(source: VolumeSource) -> list[tuple[float, str | None]]:
    return list(zip(voxel_step(source), axis_units(source), strict=True))


def _metres(size: float, unit: str | None) -> tuple[float, str]:
    um = UM_PER_UNIT.get(unit.lower()) if unit else None
    return (size, "") if um is None else (size * um * 1e-6, "m")


def _grey(layer: Layer, url: str) -> dict[str, Any]:
    is_raw = layer.kind == "raw"
    return {
        "type": "image",
        "name": layer.name,
        "source": f"zarr2://{url}",
        "shader": _SHADER,
        "shaderControls": {
            "normalized": {"range": [*layer.window]},
            "color": _hex(layer.colour),
        },
        "opacity": 1.0 if is_raw else 0.6,
        "blend": "additive",
        "visible": layer.is_shown,
    }


def _labels(layer: Layer, url: str) -> dict[str, Any]:
    values = range(1, len(layer.class_names))
    shown = {
        "type": "segmentation",
        "name": layer.name,
        "source": [{"url": f"zarr2://{url}"}],
        "selectedAlpha": 0.35,
        "visible": layer.is_shown,
    }
    if not values:
        return shown  # all objects, in Neuroglancer's colours
    shown["source"] = [{"url": f"zarr2://{url}"}, {"url": f"precomputed://{url}/{PROPERTIES}"}]
    shown["segments"] = [str(value) for value in values]
    shown["segmentColors"] = {str(value): _hex(colour(value)) for value in values}
    return shown


def _hex(rgb: tuple[int, int, int]) -> str:
    return "#" + "".join(f"{part:02x}" for part in rgb)
