"""Which labels an output of overtile holds, and how its classes are called."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from ..base.location import Location
from ..base.stores import read_node
from ..output.kinds import OBJECTS_PATH
from ..volume.formats.ome_zarr.ome_read import ome_attributes, parse_multiscale
from ..volume.formats.ome_zarr.painted import painted_classes
from ..volume.volume import LABELS
from .contingency import CLASSES_AT_MOST

CLASSES: Final = "labels/classes"


def objects_in(location: Location) -> Location | None:
    """Return the location of the objects inside an output of overtile; None without any."""
    return location / OBJECTS_PATH if read_node(location, path=OBJECTS_PATH) is not None else None


def labels_in(location: Location) -> Location:
    """Return the location of the classes: inside an output of overtile, else this location."""
    is_output = read_node(location, path=CLASSES) is not None
    return location / CLASSES if is_output else location


def class_names_of(prediction: Location) -> tuple[str, ...]:
    """Return the names of the classes that the prediction states, in order, or none.

    Those of painted labels are the classes that are learnt: value 1 is the first one.
    """
    for place in (prediction / CLASSES, prediction):
        node = read_node(place)
        if node is not None and (painted := painted_classes(node.attributes)):
            return painted
        stated = ome_attributes(node.attributes) if node else {}
        if names := _stated_classes(stated):
            return tuple(names.get(number, "") for number in range(max(names) + 1))
        image = parse_multiscale(node.attributes, where=str(place)) if node else None
        holds_labels = image is not None and image.levels[0].path.startswith(LABELS)
        if image is not None and image.channel_names and not holds_labels:
            return image.channel_names
    return ()


def _stated_classes(ome: Mapping[str, Any]) -> dict[int, str]:
    """Return the names of classes from the properties of OME-Zarr labels."""
    label = ome.get("image-label")
    properties = label.get("properties") if isinstance(label, Mapping) else None
    return {
        one["label-value"]: str(one["class"])
        for one in (properties if isinstance(properties, list) else ())
        if isinstance(one, Mapping)
        and "class" in one
        and one.get("label-value") in range(CLASSES_AT_MOST)
    }
