"""What the labels of one volume mean: those of the recipe, or the classes that a person painted."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from pipeline.base.errors import LabelError

from ..recipe.training_config import LabelConfig
from .rules.registry import outputs_of


class Named(Protocol):
    """A volume with labels; one of painted labels has ``painted_classes``."""

    @property
    def name(self) -> str:
        """Its name in messages."""


def labels_of(volume: Named, labels: LabelConfig) -> LabelConfig:
    """Return the meaning of a volume's labels.

    Painted ones (overtile corrections) are the network's classes, whatever the recipe learns from
    the labels of other volumes; what is unknown in them is marked as such, by no label.
    """
    return LabelConfig() if painted_classes(volume) else labels


def painted_classes(volume: Named) -> tuple[str, ...]:
    """Return the names of the classes that were painted in a volume; none for other labels."""
    names: tuple[str, ...] = getattr(volume, "painted_classes", ())
    return names


def check_painted(
    volumes: Iterable[Named], labels: LabelConfig, class_names: tuple[str, ...]
) -> None:
    """Raise LabelError for painted labels of which the network learns nothing, or other classes."""
    for volume in volumes:
        names = painted_classes(volume)
        if names and not outputs_of(labels, dims=3).has_classes:
            raise LabelError(
                f"labels of {volume.name} are painted classes: with rule {labels.rule} the network "
                "learns no classes; leave these labels out"
            )
        is_reordered = names != class_names and sorted(names) == sorted(class_names)
        if names and (len(names) != len(class_names) or is_reordered):
            raise LabelError(
                f"labels of {volume.name} are painted for the classes {', '.join(names)}, and the "
                f"network has {', '.join(class_names)}: expected the same classes in the same order"
            )
