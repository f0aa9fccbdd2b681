"""Plans an evaluation: which arrays, which voxels, which blocks. Reads metadata only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ..base.errors import LabelError, PlanError, VolumeError
from ..base.geometry import Box
from ..base.json_text import inner_object
from ..base.location import Location
from ..base.network_outputs import ATTRIBUTE, NetworkOutputs
from ..base.stores import read_node
from ..base.text import did_you_mean, shape_text
from ..objects.definition.find_scores import is_of_a_part
from ..output.guard import RUN_GROUP
from ..volume.companion import find_companion, states_axes
from ..volume.fingerprint import check_labels
from ..volume.formats.axes import slices_advice
from ..volume.formats.ome_zarr.ome_read import parse_multiscale
from ..volume.label_values import UNKNOWN
from ..volume.micrometres import voxel_size_um
from ..volume.volume import LABELS, VolumeSource
from .contingency import check_integers
from .grid import BoxGrid, reading_step
from .labels_inside import CLASSES, class_names_of, labels_in, objects_in
from .placement import Placement, placement_of
from .request import EvaluateRequest

BLOCK_VOXELS = 2**22
WHOLE_VOXELS_AT_MOST = 2**25
"""Most voxels of a slice, or of a watershed's region, in one task: about 2 GB."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluatePlan:
    """All that a worker needs; small, because every task carries it."""

    request: EvaluateRequest
    truth: VolumeSource
    classes: VolumeSource | None
    """The prediction's stored integers: classes, or ids of objects."""
    scores: VolumeSource | None
    """Scores of the chosen class."""
    grid: BoxGrid
    placement: Placement
    class_names: tuple[str, ...]
    made_by: dict[str, Any]
    """The prediction's record of the run that wrote it."""
    is_of_a_part: bool
    """Whether that run left voxels of its output out, which are 0."""

    @property
    def layers(self) -> tuple[float | None, ...]:
        """The thresholds; a single None if the prediction is not a score."""
        return self.request.thresholds if self.scores else (None,)

    @property
    def score_class(self) -> int:
        """Number of the class whose scores are used."""
        assert self.scores is not None
        return self.scores.channels[0] if self.scores.channels else 0

    @property
    def score_name(self) -> str:
        """Name of that class if one is stated, else a description."""
        other = "the boundary" if self.request.objects else f"class {self.score_class}"
        return self.stated_score_name or other

    @property
    def stated_score_name(self) -> str:
        """Name of that class if one is stated, else an empty text."""
        number = self.score_class
        return self.class_names[number] if number < len(self.class_names) else ""

    @property
    def spacing(self) -> tuple[float, ...]:
        """Voxel size in z, y, x as multiples of the finest.

        An axis that states no unit, beside others that do, counts as the finest of these.
        """
        source = self.scores or self.truth
        sizes = voxel_size_um(source)
        stated = [one for one in sizes if one is not None]
        size = (
            [min(stated) if one is None else one for one in sizes]
            if stated
            else (source.voxel_size)
        )
        return tuple(one / min(size) for one in size)


def plan_evaluation(request: EvaluateRequest) -> EvaluatePlan:
    """Find all arrays and check that they fit together.

    Raises VolumeError for arrays that cannot be read as requested, LabelError for truth or classes
    that are not integers, PlanError if a task would not fit the memory of one worker.
    """
    request = _of_found_objects(_with_class_number(request))
    true_ids = request.objects is not None and request.truth_objects == "ids"
    true_objects = objects_in(request.truth) if true_ids else None
    truth = find_companion(
        true_objects or labels_in(request.truth), time=request.time, axes=request.axes,
        overrides=states_axes(labels_in(request.prediction)),
    )  # fmt: skip
    if truth.channel_count != 1:
        raise VolumeError(
            f"{request.truth} has {truth.channel_count} channels: expected one array of "
            f"classes or ids{slices_advice(truth.axes)}"
        )
    if truth.label_mapping is not None:
        request = replace(request, ignore=UNKNOWN)
    check_integers(np.dtype(truth.read_dtype), name="the truth")
    check_labels(truth)
    classes, scores = _prediction(request)
    _check_time(request, (truth, classes, scores))
    run = _run_attributes(request.prediction)
    names, made_by = class_names_of(request.prediction), _made_by(run)
    placed = [placement_of(one, truth, is_output=bool(made_by)) for one in (classes, scores) if one]
    if placed[-1] != placed[0]:
        raise VolumeError(f"{request.prediction}: its classes and its scores lie at other places")
    box = _box(request, truth, placed[0].common)
    sources = [source for source in (truth, classes, scores) if source is not None]
    return EvaluatePlan(
        request=request,
        truth=truth,
        classes=classes,
        scores=scores,
        grid=BoxGrid(box=box, step=_step(request, sources, box)),
        placement=placed[0],
        class_names=names,
        made_by=made_by,
        is_of_a_part=is_of_a_part(run.get("job", {})),
    )


def _prediction(request: EvaluateRequest) -> tuple[VolumeSource | None, VolumeSource | None]:
    """Return the stored integers and the scores of the prediction, as far as they are needed."""
    prediction = request.prediction
    _check_has_classes(prediction)
    inside = labels_in(prediction)
    shared: dict[str, Any] = {"time": request.time, "axes": request.axes}
    if request.scores is not None:
        has_argmax = inside != prediction and request.has_class_truth
        argmax = find_companion(inside, **shared) if has_argmax else None
        return argmax, _scores(request, request.scores)
    classes = find_companion(inside, **shared)
    if classes.channel_count != 1:
        raise VolumeError(
            f"{prediction} has {classes.channel_count} channels: choose the class whose "
            "scores are used with --scores, or pass an array of classes"
            f"{slices_advice(classes.axes)}"
        )
    try:
        check_labels(classes)
    except LabelError as error:
        raise VolumeError(
            f"{prediction} holds {classes.dtype}, not classes: if these are scores, pass --scores 0"
        ) from error
    return classes, None


def _check_has_classes(prediction: Location) -> None:
    """Raise VolumeError for scores of a network without classes."""
    node = read_node(prediction)
    outputs = (
        NetworkOutputs.from_json(node.attributes.get(ATTRIBUTE, {})) if node else NetworkOutputs()
    )
    if not outputs.has_classes:
        raise VolumeError(
            f"{prediction} holds the scores of a network of {outputs.kind}, not of classes: find "
            f"objects with overtile objects, then evaluate {prediction}/labels/objects"
        )


def _of_found_objects(request: EvaluateRequest) -> EvaluateRequest:
    """Return the request for the objects inside an output whose ids are to be scored.

    Raises VolumeError for an output that holds classes alone.
    """
    if request.objects != "ids":
        return request
    if (found := objects_in(request.prediction)) is not None:
        return replace(request, prediction=found)
    if read_node(request.prediction, path=CLASSES) is not None:
        raise VolumeError(
            f"{request.prediction} holds classes and no objects: find objects with overtile "
            "objects, or score the connected parts of a class with --objects components"
        )
    return request


def _with_class_number(request: EvaluateRequest) -> EvaluateRequest:
    """Return the request with the number of the class that is named. Raises PlanError.

    Names are those that the truth states, else those of the prediction.
    """
    chosen = request.truth_objects
    if isinstance(chosen, int) or chosen == "ids":
        return request
    names = class_names_of(request.truth) or class_names_of(request.prediction)
    matches = [n for n, name in enumerate(names) if name.lower() == chosen.strip().lower()]
    if len(matches) != 1:
        stated = ", ".join(f"{n} ({name})" for n, name in enumerate(names) if name)
        raise PlanError(
            f"--truth-objects {chosen}{did_you_mean(chosen, names)}: expected ids, or a class, by "
            f"number or name: {stated or 'neither the truth nor the prediction names its classes'}"
        )
    return replace(request, truth_objects=matches[0])


def _check_time(request: EvaluateRequest, sources: Sequence[VolumeSource | None]) -> None:
    """Raise VolumeError for a time point where nothing has a time axis."""
    if request.time is not None and not any("t" in one.axes for one in sources if one):
        raise VolumeError(
            f"time point {request.time}: neither {request.prediction} nor {request.truth} has a "
            "time axis; omit --time, or pass --axes"
        )


def _scores(request: EvaluateRequest, chosen: int | str) -> VolumeSource:
    prediction = request.prediction
    node = read_node(prediction)
    image = parse_multiscale(node.attributes, where=str(prediction)) if node else None
    has_scores = image is not None and not image.levels[0].path.startswith(LABELS)
    if node is not None and read_node(prediction, path=CLASSES) is not None and not has_scores:
        raise VolumeError(
            f"{prediction} holds classes and no scores: segment with --outputs classes,scores"
        )
    shared: dict[str, Any] = {"time": request.time, "axes": request.axes, "holds": "grey values"}
    stored = find_companion(prediction, **shared)
    if "c" in stored.axes:
        return find_companion(prediction, channel=chosen, **shared)
    if str(chosen) != "0":
        raise VolumeError(f"{prediction} has the scores of one class only: pass --scores 0")
    return stored


def _run_attributes(prediction: Location) -> dict[str, Any]:
    node = read_node(prediction, path=RUN_GROUP)
    return dict(node.attributes) if node is not None else {}


def _made_by(stated: Mapping[str, Any]) -> dict[str, Any]:
    record = inner_object(stated, "provenance")
    made = {
        "job_digest": stated.get("job_digest"),
        "weights": inner_object(record, "weights").get("digest"),
        "input": record.get("input"),
        "overtile": record.get("overtile"),
    }
    return {name: value for name, value in made.items() if value is not None}


def _box(request: EvaluateRequest, truth: VolumeSource, common: Box) -> Box:
    """Return the box to compare, in voxels of the truth. common: voxels that both have."""
    box = request.box or common
    if request.slices is not None:
        first, end = request.slices
        box = Box((first, *common.start[1:]), (end, *common.stop[1:]))
    whole = Box.of_shape(truth.shape_zyx)
    if not whole.contains(box):
        raise PlanError(
            f"{_ranges(box)} is not inside the volume of {shape_text(whole.shape)} voxels"
        )
    if not common.contains(box):
        raise PlanError(f"{_ranges(box)} is not inside {_ranges(common)}, which was predicted")
    return box


def _ranges(box: Box) -> str:
    return ",".join(f"{a}:{b}" for a, b in zip(box.start, box.stop, strict=True))


def _step(request: EvaluateRequest, sources: list[VolumeSource], box: Box) -> tuple[int, ...]:
    """Return the size of the blocks: the whole box for a watershed, else whole chunks.

    For separate slices, as many as a chunk holds are read together.
    """
    shape = sources[0].shape_zyx
    chunks = [source.chunk_shape_zyx for source in sources]
    if request.per_slice or request.objects == "watershed":
        voxels = (1 if request.per_slice else box.shape[0]) * box.shape[1] * box.shape[2]
        if voxels > WHOLE_VOXELS_AT_MOST:
            what = "a slice" if request.per_slice else "a watershed's region"
            other = "" if request.per_slice else ", --per-slice or --objects components"
            raise PlanError(
                f"{what} of {voxels:,} voxels is too large for one task (at most "
                f"{WHOLE_VOXELS_AT_MOST:,}): choose a part with --box{other}"
            )
        if not request.per_slice:
            return shape
        deep = min(max(chunk[0] for chunk in chunks), BLOCK_VOXELS // (shape[1] * shape[2]))
        return (max(1, deep), *shape[1:])
    return reading_step(*chunks, shape=shape, voxels=BLOCK_VOXELS)
