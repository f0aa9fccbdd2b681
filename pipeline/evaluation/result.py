"""The result of an evaluation: all figures, the settings, and the compared arrays."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

from ..base.geometry import Box
from ..base.versions import versions
from ..volume.volume import VolumeSource
from .confusion import ConfusionMatrix
from .object_metrics import ObjectFigures
from .plan import EvaluatePlan


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    """Figures at one threshold; threshold is None if the prediction is not a score."""

    threshold: float | None
    pixels: ConfusionMatrix | None
    """Of the class whose scores are used (1) against all others (0)."""
    objects: ObjectFigures | None
    """With ``per_slice`` the mean over the slices that have a true object."""
    slices: tuple[tuple[int, ObjectFigures], ...] = ()
    """(z, figures) of each slice."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """The result of :func:`pipeline.evaluate_volume`."""

    plan: EvaluatePlan
    classes: ConfusionMatrix | None
    """Of the predicted classes, if truth and prediction have classes."""
    layers: tuple[Layer, ...]
    """One per threshold, ascending; a single one if the prediction is not a score."""
    voxels: int
    """Compared voxels: inside the box, and not ignored."""
    seconds: float
    notes: tuple[str, ...] = ()
    """What a reader of the figures must know, one line each."""

    @property
    def box(self) -> Box:
        """The compared box, in voxels of the whole volume."""
        return self.plan.grid.box

    @property
    def pixels(self) -> Layer | None:
        """The layer with the least pixel error of the scores; the lowest threshold of equals."""
        scored = [layer for layer in self.layers if layer.pixels is not None]
        return min(scored, key=lambda layer: _pixels(layer).pixel_error) if scored else None

    @property
    def objects(self) -> Layer | None:
        """The layer with the least adapted Rand error; the lowest threshold of equals."""
        return self.best(lambda figures: -figures.adapted_rand_error)

    def best(self, value: Callable[[ObjectFigures], float]) -> Layer | None:
        """Return the layer whose objects have the largest ``value``; the lowest of equals."""
        found = [layer for layer in self.layers if layer.objects is not None]
        return max(found, key=lambda layer: value(_objects(layer))) if found else None

    def class_name(self, number: int) -> str:
        """Return the name of a class, or its number."""
        names = self.plan.class_names
        return (names[number] if number < len(names) else "") or f"class {number}"

    def to_json(self) -> dict[str, Any]:
        """Return everything as JSON values."""
        plan = self.plan
        values: dict[str, Any] = {
            "prediction": _identity(plan.scores or plan.classes) | {"made_by": plan.made_by},
            "truth": _identity(plan.truth),
            "box": [list(self.box.start), list(self.box.stop)],
            "voxels": self.voxels,
            "settings": plan.request.settings(),
            "notes": list(self.notes),
            "threshold_chosen_on_scored_voxels": len(self.layers) > 1,
            "classes": None,
            "pixels": None,
            "objects": None,
        }
        if self.classes is not None:
            values["classes"] = self._classes_json(self.classes)
        if self.pixels is not None:
            values["pixels"] = {
                "class": plan.score_name,
                "threshold": self.pixels.threshold,
                **_binary_json(_pixels(self.pixels)),
            }
        if self.objects is not None:
            values["objects"] = self._objects_json(self.objects)
        if plan.scores is not None:
            values["thresholds"] = [_layer_json(layer) for layer in self.layers]
        computed_by = versions() | {name: version(name) for name in _COMPUTED_BY}
        return {**values, "seconds": round(self.seconds, 3), "versions": computed_by}

    def _classes_json(self, matrix: ConfusionMatrix) -> dict[str, Any]:
        return {
            "pixel_error": matrix.pixel_error,
            "accuracy": matrix.accuracy,
            "mean_iou": matrix.mean_iou,
            "per_class": [
                {"class": number, "name": self.class_name(number)}
                | {name: getattr(matrix, name)[number] for name in _PER_CLASS}
                for number in present_classes(matrix)
            ],
            "counts": [list(row) for row in matrix.counts],
        }

    def _objects_json(self, layer: Layer) -> dict[str, Any]:
        best = {}
        for name, value in BEST_OF.items():
            one = self.best(value)
            assert one is not None
            figure = getattr(_objects(one), name)
            best[name] = {"threshold": one.threshold, "value": figure}
        return {
            "threshold": layer.threshold,
            **_objects(layer).to_json(),
            "slices": [{"z": z, **figures.to_json()} for z, figures in layer.slices],
            "best": best,
        }


BEST_OF: dict[str, Callable[[ObjectFigures], float]] = {
    "adapted_rand_error": lambda figures: -figures.adapted_rand_error,
    "voi": lambda figures: -figures.voi,
    "v_rand": lambda figures: figures.v_rand,
    "v_info": lambda figures: figures.v_info,
}
"""Figures with separate best thresholds, as in the challenge."""

_COMPUTED_BY = ("overtile", "scikit-image", "scipy")
_PER_CLASS = ("iou", "dice", "precision", "recall", "truth_voxels", "predicted_voxels")


def present_classes(matrix: ConfusionMatrix) -> tuple[int, ...]:
    """Return the classes in truth or prediction."""
    totals = zip(matrix.truth_voxels, matrix.predicted_voxels, strict=True)
    return tuple(number for number, both in enumerate(totals) if any(both))


def _pixels(layer: Layer) -> ConfusionMatrix:
    assert layer.pixels is not None
    return layer.pixels


def _objects(layer: Layer) -> ObjectFigures:
    assert layer.objects is not None
    return layer.objects


def _binary_json(matrix: ConfusionMatrix) -> dict[str, Any]:
    return {
        "pixel_error": matrix.pixel_error,
        "iou": matrix.iou[1],
        "dice": matrix.dice[1],
        "precision": matrix.precision[1],
        "recall": matrix.recall[1],
    }


def _layer_json(layer: Layer) -> dict[str, Any]:
    return {
        "threshold": layer.threshold,
        "pixels": None if layer.pixels is None else _binary_json(layer.pixels),
        "objects": None if layer.objects is None else layer.objects.to_json(),
    }


def _identity(source: VolumeSource | None) -> dict[str, Any]:
    assert source is not None
    return {
        "uri": str(source.location),
        "shape": list(source.shape),
        "axes": source.axes,
        "dtype": source.dtype,
        "metadata_digest": source.metadata_digest,
    }
