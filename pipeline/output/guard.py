"""Guards the output before anything is written; deletes only what is Zarr through and through."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final, Literal, TypeAlias

from zarr.core.buffer import default_buffer_prototype

from ..base.errors import OutputError, VolumeError
from ..base.location import Location
from ..base.redaction import command_text
from ..base.store_errors import explained
from ..base.stores import (
    DOCUMENTS,
    Node,
    forget_arrays,
    list_names,
    open_store,
    read_node,
    wait_for,
)

Found: TypeAlias = Literal["absent", "ours", "foreign"]

RUN_GROUP: Final = "run"
MEASURING: Final = "measuring"
"""File in the run group while the run that creates an output measures the normalisation."""
_METADATA: Final = frozenset({*DOCUMENTS, ".zmetadata"})
_SCHEMES: Final = {"s3a": "s3", "gcs": "gs", "az": "abfs", "abfss": "abfs"}
"""Schemes that fsspec opens as another one."""
_CHUNK_KEY = re.compile(r"c|\d+(\.\d+)*")


def other_output_advice(output: Location, *, finishing: bool = False) -> str:
    """Return what to do about an output that another job made. finishing: by overtile finish.

    Of objects inside a segmentation, --overwrite of overtile segment would replace the scores too.
    """
    if finishing:
        return "pass the output and the arguments of the runs of overtile segment --shard"
    image, inside, _ = output.uri.rpartition("/labels/objects")
    if not inside or read_node(Location.parse(image), path=RUN_GROUP) is None:
        return "choose another output, or replace it with --overwrite"
    words = command_text(["overtile", "objects", image, output.uri])
    return f"write other objects elsewhere, or replace these alone: {words} … --overwrite"


def check_output(
    output: Location, *, source: Location | None, overwrite: bool, finishing: bool = False
) -> Found:
    """Return what is at ``output``: nothing, an overtile output, or other replaceable Zarr.

    Writes nothing. source: the input, None where the output may lie inside it. Raises OutputError
    where the output is the input, or one lies inside the other; where it lies inside an array or a
    ledger; where it cannot be written; where something is there that is not ours, unless
    ``overwrite``; and, even then, where its top level holds what is not Zarr.
    """
    check_place(output)
    if source is not None:
        check_apart(output, source)
        _check_not_in_array(output)
    found = _found(output)
    if found == "foreign" and not overwrite:
        raise OutputError(
            f"{output} exists and was not made by overtile: "
            f"{other_output_advice(output, finishing=finishing)}"
        )
    if found != "absent" and overwrite:
        _check_deletable(output)
    return found


def delete_output(output: Location) -> None:
    """Delete a Zarr hierarchy; the ledger first and the root's metadata last.

    So whatever interrupts it, what is left is never taken for an output to be resumed, and can be
    deleted again. Raises OutputError for anything that is not Zarr through and through.
    """
    check_place(output)
    if _found(output) == "absent":
        return
    _check_deletable(output)
    forget_arrays()
    found = list_names(output)
    if found is None:  # chunks that stay would be taken for those of the new output
        raise OutputError(
            f"{output} cannot be listed, so it is not deleted: start the same command again, or "
            "choose another output"
        )
    names = sorted(found, key=lambda name: (name in _METADATA, name != RUN_GROUP))
    with explained(OutputError, output):
        for name in names:
            _delete(output, name)
        if output.is_local and not output.path.is_symlink():
            output.path.rmdir()


def _delete(output: Location, name: str) -> None:
    if not output.is_local:
        store = open_store(output, read_only=False)
        wait_for(
            store.delete(name) if name in _METADATA else store.delete_dir(name), timeout_s=None
        )
        return
    path = output.path / name
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()


def _found(output: Location) -> Found:
    root = _node(output)  # read before the run group, which is the first to be created
    if _has_ledger(output):
        return "ours"
    if root is not None:
        return "foreign"
    if not list_names(output) or is_begun(output):
        return "absent"
    if _has_ledger(output):  # another run has created it since
        return "ours"
    raise OutputError(
        f"{output} contains other files and is not a Zarr group: choose another output, "
        f"e.g. {output / 'out.zarr'}"
    )


def _has_ledger(output: Location) -> bool:
    run = _node(output, RUN_GROUP)
    return run is not None and "job" in run.attributes


def is_begun(output: Location) -> bool:
    """Return whether an output has nothing but the first files of a run that creates it."""
    names = list_names(output) or ()
    inside = set(list_names(output / RUN_GROUP) or ()) - {MEASURING}
    return names == (RUN_GROUP,) and all(name.endswith(".partial") for name in inside)


def _node(output: Location, path: str = "") -> Node | None:
    if output.is_local and not output.path.is_dir():
        return None
    try:
        return read_node(output, path=path)
    except VolumeError as error:
        raise OutputError(str(error)) from error


def check_place(output: Location) -> None:
    """Raise OutputError for places where this process cannot create a folder."""
    if output.scheme in ("http", "https"):
        raise OutputError(f"{output}: http cannot be written; pass a path or s3://…")
    if not output.is_local:
        return
    path = output.path
    existing = next(one for one in (path, *path.parents) if os.path.lexists(one))
    if os.path.isfile(path):  # of Path, a folder that cannot be searched is an error
        raise OutputError(f"{output} is a file: choose another output")
    if existing != path and not existing.is_dir():
        raise OutputError(f"{output}: {existing} is not a folder; choose another output")
    if not os.access(existing, os.W_OK | os.X_OK):
        raise OutputError(f"{output}: {existing} cannot be written by you; choose another output")


def _check_not_in_array(output: Location) -> None:
    """Raise OutputError inside a local array or ledger, whose files would be beside the output."""
    if output.is_local:
        for folder in output.path.parents:
            if what := _holds_its_own_files(folder):
                raise OutputError(f"{output} lies inside {what}, {folder}: choose another output")


def _holds_its_own_files(folder: Path) -> str | None:
    if not any((folder / name).is_file() for name in (".zarray", ".zgroup", "zarr.json")):
        return None
    with suppress(VolumeError):  # its document cannot be read
        node = read_node(Location.parse(folder))
        if node is not None and node.kind == "array":
            return "an array"
        if node is not None and folder.name == RUN_GROUP and "job" in node.attributes:
            return "the ledger of an output"
    return None


def check_apart(output: Location, source: Location, *, name: str = "input") -> None:
    """Raise OutputError where the output is the input, or one lies inside the other."""
    if is_inside(output, source) and is_inside(source, output):
        raise OutputError(f"output and {name} are the same, {output}: choose another output")
    for inner, outer, text in (
        (output, source, f"the output lies inside the {name}"),
        (source, output, f"the {name} lies inside the output"),
    ):
        if is_inside(inner, outer):
            raise OutputError(f"{text} ({inner} in {outer}): choose another output")


def is_inside(inner: Location, outer: Location) -> bool:
    """Return whether ``inner`` is ``outer`` or lies in it, whichever names lead there."""
    if inner.is_local != outer.is_local:
        return False
    if not inner.is_local:
        return f"{_canonical(inner)}/".startswith(f"{_canonical(outer)}/")
    target = Path(os.path.realpath(outer.path))
    return any(path == target or _same_file(path, target) for path in _lineage(inner.path))


def _lineage(path: Path) -> Iterator[Path]:
    real = Path(os.path.realpath(path))
    yield from (real, *real.parents)


def _same_file(one: Path, other: Path) -> bool:
    try:
        return one.samefile(other)
    except OSError:
        return False


def _canonical(location: Location) -> str:
    """Return a remote URI by its scheme's usual name, without user info and dots in its path."""
    scheme, _, rest = location.uri.partition("://")
    host, _, path = rest.rpartition("@")[2].partition("/")
    return f"{_SCHEMES.get(scheme, scheme)}://{host.lower()}{os.path.normpath(f'/{path}')}"


def _check_deletable(output: Location) -> None:
    """Raise OutputError unless all of it is Zarr, without the home or the current folder."""
    if output.is_local:
        for place, what in ((Path.home(), "your home"), (Path.cwd(), "the current folder")):
            if is_inside(Location.parse(place), output):
                raise OutputError(
                    f"{output} holds {what}: it is not deleted; choose another output"
                )
    root = _node(output)
    for name in list_names(output) or ():
        if name in _METADATA or (root and root.kind == "array" and _CHUNK_KEY.fullmatch(name)):
            continue
        if _node(output, name) is None:
            raise OutputError(
                f"{output} contains {name!r}, which is not Zarr, so it is not deleted: "
                "choose another output, or delete it yourself"
            )


def write_beside_ledger(output: Location, name: str, content: bytes) -> None:
    """Write a file for people (a report) into the output's run group."""
    with explained(OutputError, output):
        store = open_store(output, read_only=False)
        buffer = default_buffer_prototype().buffer.from_bytes(content)
        wait_for(store.set(f"{RUN_GROUP}/{name}", buffer), timeout_s=None)


def read_beside_ledger(output: Location, name: str) -> bytes | None:
    """Return a file of the output's run group, or None. Raises OutputError."""
    with explained(OutputError, output):
        request = open_store(output).get(f"{RUN_GROUP}/{name}", default_buffer_prototype())
        found = wait_for(request, timeout_s=None)
    return None if found is None else found.to_bytes()
