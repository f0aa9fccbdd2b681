"""Inputs that were moved together with the output: a renamed folder, or another mount."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from ..base.location import Location
from ..volume.volume import VolumeSource
from .creation import PLACE
from .ledger import run_attributes


def as_recorded(source: VolumeSource, output: Location, digest: Any) -> VolumeSource:
    """Return the input under the place that the run of an output knows it by.

    digest: of the input, in the record of that run. The place differs from the present one only if
    output and input are local and were moved together: the way from one to the other is the same,
    and so is the metadata of the input.
    """
    began = run_attributes(output).get(PLACE)
    if not (isinstance(began, str) and output.is_local and source.store.is_local):
        return source
    way = os.path.relpath(source.store.identity, output.identity)
    earlier = replace(source, known_as=os.path.normpath(os.path.join(began, way)))
    return earlier if earlier.metadata_digest == digest != source.metadata_digest else source


def places_of(recorded: str, output: Location) -> tuple[str, ...]:
    """Return where an input of an output may lie: moved together with the output, or as recorded.

    recorded: its identity in the record of the run.
    """
    began = run_attributes(output).get(PLACE)
    if not (isinstance(began, str) and output.is_local and os.path.isabs(recorded)):
        return (recorded,)
    way = os.path.relpath(recorded, began)
    return (os.path.normpath(os.path.join(output.identity, way)), recorded)


def moved_notes(*sources: VolumeSource | None) -> Iterator[str]:
    """Yield which inputs have another place than in the record of the run."""
    for source in sources:
        if source is not None and source.known_as is not None:
            how = "copied" if os.path.lexists(source.known_as) else "moved"
            yield (
                f"{source.store} was {source.known_as} when the output was begun; by its "
                f"metadata and a sample of its voxels, both were {how} together: the run is resumed"
            )
