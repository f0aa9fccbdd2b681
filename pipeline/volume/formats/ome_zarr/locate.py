"""Finds the array that a location names: directly, or in an OME-Zarr group, collection or plate."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from ....base.errors import VolumeError
from ....base.location import Location
from ....base.similar_path import similar_text
from ....base.stores import Node, list_names, read_node
from ....base.text import shortened
from .ome_read import Level, Multiscale, ome_attributes, parse_multiscale, path_inside
from .unsupported import unsupported_text

_ABOVE: Final = 3  # groups read above an array; a dataset's path rarely has more parts
_SHOWN: Final = 12
_LISTED: Final = 1000  # images of a plate
_INSPECTED: Final = 100  # names in a folder that an error message inspects


@dataclass(frozen=True, slots=True, kw_only=True)
class Located:
    """An array, and the metadata of the groups around it."""

    store: Location
    path: str
    node: Node
    above: Mapping[str, Any]  # attributes of the group above a plain array
    image: Multiscale | None
    level: Level | None
    notes: tuple[str, ...] = ()

    @property
    def where(self) -> str:
        """The array's location, for messages."""
        return str(self.store / self.path)


def locate(location: Location, *, level: int | str | None = None) -> Located:
    """Return the array at a location and level. Raises VolumeError if there is none."""
    node = read_node(location)
    if node is None:
        raise VolumeError(_missing_text(location))
    if node.kind == "array":
        return _array(location, node, level)
    return _in_group(location, node, level)


def _array(location: Location, node: Node, level: int | str | None) -> Located:
    """Return an array that is named directly, with the metadata of its group."""
    above: Mapping[str, Any] = {}
    notes: tuple[str, ...] = ()
    for store, path, attributes in _groups_above(location):
        above = above or attributes
        try:
            image = parse_multiscale(attributes, where=str(store))
        except VolumeError as error:  # its message advises to pass an array inside
            notes += (f"the metadata of the group above is not used ({error})",)
            continue
        dataset = next((one for one in image.levels if one.path == path), None) if image else None
        if image is None or dataset is None:
            continue
        if level is not None and chosen_level(image, level, where=str(store)) != dataset:
            raise VolumeError(
                f"{location} is one level already, but level {level} was requested; "
                f"pass {store} to select a level"
            )
        return Located(store=store, path=path, node=node, above={}, image=image, level=dataset)
    if level not in (None, 0, "0"):
        raise VolumeError(f"{location} is a plain array: it has no level {level}")
    return Located(
        store=location, path="", node=node, above=above, image=None, level=None, notes=notes
    )


def _groups_above(location: Location) -> Iterator[tuple[Location, str, Mapping[str, Any]]]:
    """Yield (group, path from it, attributes), nearest first, as long as folders are groups."""
    path = ""
    for _ in range(_ABOVE):
        parent = location.parent
        if parent is None:
            return
        location, path = parent, f"{location.name}/{path}".rstrip("/")
        try:
            node = read_node(location)
        except VolumeError:  # the folder above a public array may be private
            return
        if node is None or node.kind != "group":
            return
        yield location, path, node.attributes


def _in_group(store: Location, node: Node, level: int | str | None) -> Located:
    where = str(store)
    image = parse_multiscale(node.attributes, where=where)
    if image is None:
        return _in_collection(store, node, level)
    dataset = chosen_level(image, level, where=where)
    array = read_node(store, path=dataset.path)
    if array is None or array.kind != "array":
        raise VolumeError(
            f"{where}: its metadata lists level {dataset.path!r}, but there is no such array"
        )
    return Located(store=store, path=dataset.path, node=array, above={}, image=image, level=dataset)


def chosen_level(image: Multiscale, level: int | str | None, *, where: str) -> Level:
    """Return a level by its array's name (``"s0"``), else by its number; None is the finest."""
    requested = level
    by_name = {dataset.path: dataset for dataset in image.levels}
    if isinstance(level, str):
        if level in by_name:
            return by_name[level]
        level = int(level[:18]) if level.isdecimal() else -1 if level else None
    number = 0 if level is None else level
    if not 0 <= number < len(image.levels):
        named = ", ".join(f"{index} ({name})" for index, name in enumerate([*by_name][:_SHOWN]))
        more = f" … ({len(by_name) - _SHOWN} more)" if len(by_name) > _SHOWN else ""
        raise VolumeError(
            f"{where} has no level {shortened(str(requested), most=60)}; it has {named}{more}"
        )
    return image.levels[number]


def _in_collection(group: Location, node: Node, level: int | str | None) -> Located:
    """Return the image of a bioformats2raw collection of one image; raise for any other group."""
    attributes = ome_attributes(node.attributes)
    if "plate" in attributes:
        raise VolumeError(_plate_text(group, attributes["plate"]))
    if "well" in attributes:
        raise VolumeError(f"{group} is a well of a plate: {_advice(group, _fields(attributes))}")
    if "bioformats2raw.layout" in attributes:
        series = _series(group)
        if len(series) != 1:
            raise VolumeError(
                f"{group} is a collection of {len(series)} images: {_advice(group, series)}"
            )
        inside = group / series[0]
        first = read_node(inside)
        if first is not None and first.kind == "group":
            return _in_group(inside, first, level)
    raise VolumeError(f"{group} is a group without an image: {_advice(group, arrays_in(group))}")


def _series(group: Location) -> list[str]:
    """Return the images of a bioformats2raw collection: as listed in ``OME``, else 0, 1, 2 …"""
    listing = read_node(group, path="OME")
    named = ome_attributes(listing.attributes).get("series") if listing else None
    if isinstance(named, list) and named:
        return [_inside(group, name) for name in named]
    found: list[str] = []
    while len(found) <= _SHOWN and read_node(group, path=str(len(found))) is not None:
        found.append(str(len(found)))
    return found


def _inside(group: Location, path: Any) -> str:
    """Return a path that the metadata of a group states. Raises VolumeError if it leads out."""
    try:
        return path_inside(path)
    except ValueError as error:
        raise VolumeError(f"{group}: its OME-Zarr metadata is malformed ({error})") from error


def _plate_text(group: Location, plate: object) -> str:
    wells = plate.get("wells", ()) if isinstance(plate, Mapping) else ()
    paths = [str(well["path"]) for well in wells if isinstance(well, Mapping) and "path" in well]
    first = read_node(group, path=_inside(group, paths[0])) if paths else None
    fields = _fields(ome_attributes(first.attributes)) if first else []
    every = (f"{path}/{field}" for path in paths for field in fields or ["0"])
    images = list(itertools.islice(every, _LISTED))
    return f"{group} is a plate of {len(paths)} wells: {_advice(group, images)}"


def _fields(attributes: Mapping[str, Any]) -> list[str]:
    well = attributes.get("well")
    images = well.get("images", ()) if isinstance(well, Mapping) else ()
    return [
        str(image["path"]) for image in images if isinstance(image, Mapping) and "path" in image
    ]


def _advice(group: Location, paths: list[str]) -> str:
    """Return advice: which paths inside the group to pass."""
    if not paths:
        return "no array was found in it (not every server can list); pass the path of an image"
    example = next((path for path in paths if "label" not in path), paths[0])
    more = f" … ({len(paths) - _SHOWN} more)" if len(paths) > _SHOWN else ""
    return f"pass one of {', '.join(paths[:_SHOWN])}{more}, e.g. {group / example}"


def arrays_in(group: Location, *, deep: int = 3) -> list[str]:
    """Return paths of some images and arrays inside a group; empty if it cannot be listed."""
    found: list[str] = []
    for name in (list_names(group) or ())[:_INSPECTED]:
        if len(found) > _SHOWN:
            break
        if re.fullmatch(r"\.z\w+|zarr\.json", name):
            continue
        try:
            node = read_node(group, path=name)
        except VolumeError:  # an unreadable node must not hide the others
            continue
        if node is None:
            continue
        if node.kind == "array" or ome_attributes(node.attributes).get("multiscales"):
            found.append(name)
        elif deep > 1:
            inside = arrays_in(group / name, deep=deep - 1)
            found += [f"{name}/{path}" for path in inside]
    return found


def _missing_text(location: Location) -> str:
    """Return why there is no Zarr node at ``location``, and the remedy."""
    if location.is_local and location.path.is_file():
        return unsupported_text(location)
    for group, path, _ in _groups_above(location):
        return f"{group} has no {path!r}: {_advice(group, arrays_in(group))}"
    if location.is_local and location.path.is_symlink() and not location.path.exists():
        return f"{location} is a symbolic link to nothing or to itself: pass the image itself"
    if location.is_local and not location.path.exists():
        return f"{location} does not exist{similar_text(location.path)}"
    inside = arrays_in(location, deep=2) if location.is_local else []
    advice = f"; {_advice(location, inside)}" if inside else "; check the path"
    return (
        f"{location} holds no image: neither Zarr (zarr.json, .zgroup, .zarray) nor TIFF or PNG "
        f"slices were found{advice}"
    )
