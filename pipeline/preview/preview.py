"""``preview_volume``: a few boxes of a volume, segmented in this process, as one picture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

from ..base.geometry import Box
from ..base.text import shape_text
from ..models.protocol import Predictor, StatesTraining, outputs_of
from ..planning.tile_memory import ASSUMED_BYTES
from ..report.pictures import Rgb
from ..segmentation.normalisation import choose_record
from ..segmentation.prepare import check_suits, notes_on
from ..segmentation.request import SegmentRequest
from ..volume.fingerprint import read_sample
from ..volume.intensity import Intensity, record_text
from ..volume.micrometres import voxel_size_um
from ..volume.volume import VolumeSource, read_box
from .normalisation import preview_intensity
from .places import Place, box_shape, chosen_places, given_places, whole_place
from .predict import box_scores
from .sheet import Scene, Sheet, draw
from .survey import Survey, survey_volume


@dataclass(frozen=True, slots=True, kw_only=True)
class Preview:
    """What a preview found."""

    source: VolumeSource
    picture: Rgb
    scenes: tuple[Scene, ...]
    notes: tuple[str, ...]
    """What the user should know, a line each."""


def preview_volume(
    request: SegmentRequest, predictor: Predictor, *, boxes: Sequence[Box] = ()
) -> Preview:
    """Segment a few boxes of the volume of ``request`` and draw them; nothing is written.

    boxes: what to show, in voxels of the level; of each, the middle plane. By default the middle of
    the volume, its brightest and its most textured place. The scores are those that a run of
    ``request`` would give there. Raises kinds of OvertileError where a run would.
    """
    source = request.find_source(level=request.level)
    check_suits(predictor, source, allow_seams=request.allow_seams)
    record, record_notes = choose_record(request, predictor, source)
    memory_bytes = request.tile_memory_bytes or ASSUMED_BYTES
    window = box_shape(source.shape_zyx, predictor, memory_bytes=memory_bytes)

    @cache
    def survey() -> Survey:
        return survey_volume(source, window)

    places = (
        given_places(source.shape_zyx, boxes)
        if boxes
        else chosen_places(
            source.shape_zyx, window, survey(), whole=whole_place(source.shape_zyx, predictor)
        )
    )
    intensity, measured_note = preview_intensity(request, source, record, survey=survey)
    settled = predictor.settled()
    scenes = _scenes(source, places, settled, intensity, memory_bytes=memory_bytes)
    notes = (
        *source.notes,
        *record_notes,
        *notes_on(predictor, source, record, read_sample(source)),
        *((measured_note,) if measured_note else ()),
    )
    stated = predictor.input_percentiles if isinstance(predictor, StatesTraining) else None
    sheet = Sheet(
        scenes=scenes,
        class_names=predictor.class_names,
        has_classes=outputs_of(predictor).has_classes,
        intensity=intensity,
        spatial_axes=source.spatial_axes if source.shape_zyx[0] > 1 else "yx",
        channels=source.channels or tuple(range(source.channel_count)),
        normalisation=record_text(record),
        input_percentiles=stated,
        um_per_voxel=voxel_size_um(source)[2],
        heading=_heading(source, predictor),
        notes=notes,
    )
    return Preview(source=source, picture=draw(sheet), scenes=scenes, notes=notes)


def _scenes(
    source: VolumeSource,
    places: Sequence[Place],
    predictor: Predictor,
    intensity: Intensity,
    *,
    memory_bytes: int,
) -> tuple[Scene, ...]:
    """Return what is shown of each place; details of a whole image are cut from it."""
    first, *others = places
    scene = _scene(source, first, predictor, intensity, memory_bytes=memory_bytes)
    if first.is_whole:
        return (scene, *(scene.detail(place) for place in others))
    more = (
        _scene(source, place, predictor, intensity, memory_bytes=memory_bytes) for place in others
    )
    return (scene, *more)


def _scene(
    source: VolumeSource,
    place: Place,
    predictor: Predictor,
    intensity: Intensity,
    *,
    memory_bytes: int,
) -> Scene:
    scores = box_scores(
        source, place.box, predictor=predictor, intensity=intensity, memory_bytes=memory_bytes
    )
    raw = read_box(source, place.box)
    return Scene(place=place, raw_cyx=raw[:, 0], scores_cyx=scores[:, 0])


def _heading(source: VolumeSource, predictor: Predictor) -> tuple[str, ...]:
    """Return the lines above the pictures: the volume, and the weights."""
    sizes = [um for um in voxel_size_um(source) if um is not None]
    size = f"voxels of {'x'.join(f'{um:.4g}' for um in sizes)} um" if sizes else "no voxel size"
    trained = predictor.voxel_size_um if isinstance(predictor, StatesTraining) else None
    scale = (
        f", trained at {'x'.join(f'{um:.4g}' for um in trained if um is not None)} um"
        if trained
        else ""
    )
    name = "/".join(str(source.image or source.location).rsplit("/", 2)[-2:])
    if len(source.level_names) > 1:
        name += f", level {source.path.rpartition('/')[2]}"
    return (
        f"{name}: {shape_text(source.shape)} {source.dtype}, axes {' '.join(source.axes)}, {size}",
        f"weights {predictor.digest[:12]}{scale}",
    )
