"""A note where the table of earlier objects has grey values, and that of new ones will not."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress

from ...base.errors import VolumeError
from ...base.json_text import inner_object
from ...base.location import Location
from ...base.shell_words import shell_word
from ...base.stores import read_node
from ...ledger.output_action import OutputAction
from ...output.guard import RUN_GROUP
from ..definition.request import PATH, ObjectsRequest


def lost_columns(request: ObjectsRequest, *, action: OutputAction) -> Iterator[str]:
    """Yield a note, unless grey values are measured or no earlier table has any.

    Earlier objects are those that the run replaces, and those inside the scores' own image.
    """
    if request.intensity is not None:
        return
    inside = request.scores / PATH
    replaced = [request.output] if action == "replaced" else []
    for place in dict.fromkeys((*replaced, inside)):
        image = None
        with suppress(VolumeError):  # damaged, or not to be listed: this is a note only
            image = _measured_image(place, request.scores)
        if image is not None:
            yield (
                f"the table will have no grey values, and that of {place} has: to measure them "
                f"again, add --intensity {image}"
            )
            return


def _measured_image(objects: Location, scores: Location) -> str | None:
    """Return the image whose grey values a table of objects has; None where it has none.

    Older tables do not state it: a segmentation measures its input.
    """
    run = read_node(objects, path=RUN_GROUP)
    if run is None or inner_object(run.attributes, "job").get("intensity") is None:
        return None
    stated = inner_object(run.attributes, "provenance").get("intensity")
    if stated is None and (of_scores := read_node(scores, path=RUN_GROUP)) is not None:
        stated = inner_object(of_scores.attributes, "provenance").get("input")
    return shell_word(stated) if isinstance(stated, str) else "IMAGE"
