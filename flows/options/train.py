"""What a training may be asked for, as pydantic models: they become the form in Prefect's UI."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from deploy import ClusterSpec
from pipeline.base.errors import ClusterError

from .segment import ClusterOptions


class LabelledVolume(BaseModel):
    """A volume and its labels."""

    model_config = ConfigDict(extra="forbid", title="Labelled volume")

    volume: str = Field(description="Grey values: OME-Zarr or a Zarr array, a path or a URI")
    labels: str = Field(description="Labels of the same shape: classes, or ids of objects")


class TrainOptions(BaseModel):
    """How to train. Everything has a default; a config file changes more."""

    model_config = ConfigDict(extra="forbid", title="Options")

    config: str | None = Field(
        None, description="TOML file with [network], [training] and [labels]; the rest goes first"
    )
    preset: Literal["default", "unet-2015"] | None = Field(
        None, description="Recipe to start from; unet-2015 is the paper's"
    )
    steps: int | None = Field(None, ge=1, description="Steps of the optimiser")
    batch: int | None = Field(None, ge=1, description="Patches per step, over all ranks")
    seed: int | None = Field(None, ge=0, description="Of every random number")
    rule: Literal["classes", "foreground", "boundary"] | None = Field(
        None, description="What labels are: classes, or ids of objects to learn as a class"
    )
    ignore: int | None = Field(None, description="Label of voxels that nobody knows")
    object_class: int | None = Field(
        None, description="Class whose connected parts the weight map keeps apart"
    )
    class_names: list[str] | None = Field(None, description="One per class, background first")
    channel: int | str | None = Field(None, description="Channel, by index or name; all, if none")
    level: int | str | None = Field(None, description="Resolution level of the volumes")
    normalisation: str | None = Field(
        None, description="none, dtype, range:LOW:HIGH, percentile:LOW:HIGH or zscore"
    )
    validation_volumes: list[LabelledVolume] = Field(
        [], description="Held out of training, to validate on"
    )
    validation_slices: tuple[int, int] | None = Field(
        None, description="First slice and the one after the last, held out of every volume"
    )
    ranks: int | None = Field(
        None,
        ge=1,
        description="Workers that train together; if none is said, one of a local cluster, else "
        "all",
    )
    dtype: Literal["float32", "float16"] = Field(
        "float32", description="How the weights are stored"
    )
    resume: bool = Field(
        False,
        description="Go on from the last checkpoint of the same training, if there is one",
    )


def training_cluster(cluster: ClusterOptions, *, ranks: int | None) -> ClusterSpec:
    """Return where to train: of a local cluster, one worker process per rank, one if none is said.

    Raises ClusterError.
    """
    if cluster.cluster != "local":
        return cluster.spec()
    workers = cluster.workers or ranks or 1
    if ranks and ranks > workers:
        raise ClusterError(
            f"{ranks} ranks on {workers} workers, but each needs a worker of its own: give "
            f"{ranks} workers, or at most {workers} ranks"
        )
    return cluster.model_copy(update={"workers": workers}).spec()
