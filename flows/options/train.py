"""The options of a training."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field

from unet.recipe.choices import Rule
from unet.recipe.training_config import Freeze, Metric, Preset

from .cluster import CLUSTER, ClusterOptions
from .declared import Shell
from .image import VoxelSizeOption
from .values import Names, NumberOrName, Slices

if TYPE_CHECKING:
    from deploy import ClusterSpec

_, *_OF_IDS = get_args(Rule)
VOLUMES, INPUT, LABELS = "labelled volumes", "input", "meaning of labels"
TRAINING, PLAN = "training", "plan"


class LabelledVolume(BaseModel):
    """A volume and its labels."""

    model_config = ConfigDict(extra="forbid", title="Labelled volume")

    volume: Annotated[str, Shell(VOLUMES, metavar="URI")] = Field(
        description="Grey values, in any input format: a path or URI",
        examples=["raw.zarr"],
    )
    labels: Annotated[str, Shell(VOLUMES, metavar="URI")] = Field(
        description="Labels of its voxels, or of a part of it: classes, or ids of objects",
        examples=["labels.zarr"],
    )


class TrainFiles(BaseModel):
    """What a training writes."""

    out: Annotated[str, Shell(TRAINING, metavar="WEIGHTS")] = Field(
        description="Weights file to create; checkpoints, log and pictures go beside it, into "
        "WEIGHTS-without-suffix.training",
        examples=["membranes.safetensors"],
    )


class TrainOptions(VoxelSizeOption):
    """How to train. Every option has a default; a config file sets more."""

    model_config = ConfigDict(extra="forbid", title="Advanced")

    config: Annotated[str | None, Shell(TRAINING, metavar="FILE.toml")] = Field(
        None,
        description="Tables [network], [training] and [labels]; other options override it",
        examples=["membranes.toml"],
    )
    preset: Annotated[Preset | None, Shell(TRAINING)] = Field(
        None, description="Recipe to start from; unet-2015 is that of the paper (default: default)"
    )
    start_from: Annotated[str | None, Shell(TRAINING, metavar="WEIGHTS", name="from")] = Field(
        None,
        description="Weights whose layers are the start: a file or URI, or the name of bundled "
        "weights (default: random weights)",
        examples=["fib25-boundary"],
    )
    freeze: Annotated[Freeze | None, Shell(TRAINING)] = Field(
        None,
        description="Layers of --from that stay unchanged: contracting is the contracting path and "
        "the bottom level (default: none)",
    )
    steps: Annotated[int | None, Shell(TRAINING)] = Field(
        None,
        ge=1,
        description="Steps of the optimiser; more than before, with --resume, make a training "
        "longer (default: 2000)",
    )
    batch: Annotated[int | None, Shell(TRAINING)] = Field(
        None,
        ge=1,
        description="Patches per step, over all ranks (default: 1 with unet-2015, else as many as "
        "fit the GPUs, or one per rank on CPUs)",
    )
    seed: Annotated[int | None, Shell(TRAINING)] = Field(
        None,
        ge=0,
        description="Seed of all random choices: first weights, patches and their augmentation "
        "(default: 0)",
    )
    rule: Annotated[Rule | None, Shell(LABELS, metavar="RULE")] = Field(
        None,
        description="What the network learns: classes, the stored labels themselves; or, of stored "
        f"object ids, {', '.join(_OF_IDS[:-1])} or {_OF_IDS[-1]} (default: classes)",
    )
    ignore: Annotated[int | None, Shell(LABELS)] = Field(
        None, description="Label of voxels whose class is unknown", examples=[255]
    )
    object_class: Annotated[int | None, Shell(LABELS, metavar="CLASS")] = Field(
        None,
        description="Class whose connected components count as objects, which border weights keep "
        "apart",
    )
    class_names: Annotated[Names | None, Shell(LABELS)] = Field(
        None,
        description="One name per class, background first",
        examples=[["background", "membrane"]],
    )
    channel: Annotated[NumberOrName | None, Shell(INPUT)] = Field(
        None, description="Channel, by name or index (default: all)"
    )
    level: Annotated[NumberOrName | None, Shell(INPUT)] = Field(
        None, description="Resolution level, by name or number (default: the finest)"
    )
    time: Annotated[int | None, Shell(INPUT)] = Field(
        None, ge=0, description="Time point of a time series, and of labels that have time points"
    )
    axes: Annotated[str | None, Shell(INPUT, metavar="AXES")] = Field(
        None,
        description="Axes of the stored volumes, and of labels that do not state theirs, which may "
        "lack c and t (default: those in the metadata)",
        examples=["yxc"],
    )
    normalisation: Annotated[str | None, Shell(INPUT, metavar="KIND[:LOW:HIGH]")] = Field(
        None,
        description="none, dtype, range:LOW:HIGH, percentile:LOW:HIGH or zscore (default: that of "
        "--from, else dtype for uint8, else zscore)",
        examples=["percentile:1:99"],
    )
    validation_volumes: list[LabelledVolume] = Field(
        [], description="Volumes for validation only, with their labels"
    )
    validation_slices: Annotated[Slices | None, Shell(INPUT)] = Field(
        None,
        description="Slices A to B-1 of every volume, for validation only",
        examples=[(20, 24)],
    )
    ranks: Annotated[int | None, Shell(CLUSTER)] = Field(
        None,
        ge=1,
        description="Workers that train together, at most (default: 1 on a local cluster, else "
        "all, those that join later included)",
    )
    metric: Annotated[Metric | None, Shell(TRAINING)] = Field(
        None,
        description="Score that chooses the best validation (default: mean_iou, or loss where the "
        "outputs are not classes)",
    )
    patience: Annotated[int | None, Shell(TRAINING)] = Field(
        None,
        ge=1,
        description="Stop early after this many validations without a better score (default: "
        "never)",
    )
    kept_weights: Annotated[Literal["best", "last"] | None, Shell(TRAINING)] = Field(
        None,
        description="Weights to write: those of the best validation, or of the last step "
        "(default: last without a validation and with unet-2015, else best)",
    )
    dtype: Annotated[Literal["float32", "float16"], Shell(TRAINING)] = Field(
        "float32", description="Data type of the stored weights"
    )
    resume: Annotated[bool, Shell(TRAINING)] = Field(
        False, description="Resume from the last checkpoint of the same training, if one exists"
    )


class TrainingPlanOptions(BaseModel):
    """What is shown instead of a training."""

    model_config = ConfigDict(extra="forbid", title="Plan")

    plan: Annotated[bool, Shell(PLAN)] = Field(
        False,
        description="Train nothing: show class shares, number of patches, memory and time, which "
        "ten steps measure, and draw three augmented patches",
    )
    plan_picture: Annotated[str | None, Shell(PLAN, metavar="FILE.png")] = Field(
        None,
        description="Picture of these patches with their labels and weights (default: "
        "WEIGHTS-without-suffix.plan.png)",
        examples=["patches.png"],
    )


def training_cluster(cluster: ClusterOptions, *, ranks: int | None) -> ClusterSpec:
    """Return the cluster to train on; a local one has a worker process per rank, 1 by default.

    Raises ClusterError.
    """
    from pipeline.base.errors import ClusterError

    if cluster.cluster != "local":
        return cluster.spec()
    workers = cluster.workers or ranks or 1
    if ranks and ranks > workers:
        raise ClusterError(
            f"{ranks} ranks on {workers} workers: each rank needs its own worker; use "
            f"{ranks} workers, or at most {workers} ranks"
        )
    return cluster.model_copy(update={"workers": workers}).spec()
