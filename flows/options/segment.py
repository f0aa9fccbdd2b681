"""What a user may ask for, as pydantic models: they become the form in Prefect's UI.

They hold no rule of their own beyond types and choices: the pipeline checks, once, for all doors.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from deploy import ClusterSpec, parse_cluster
from deploy.clusters.profiles import settings_of_toml, with_settings
from pipeline.base.errors import OutputError, VolumeError
from pipeline.base.location import Location
from pipeline.models.protocol import Predictor
from pipeline.models.tta import Tta, with_tta
from pipeline.output.kinds import OutputName, ScoresDtype
from pipeline.segmentation.request import SegmentRequest
from pipeline.volume.intensity import parse_record
from unet import UNetPredictor

ZYX = tuple[int, int, int]


class SegmentOptions(BaseModel):
    """How to segment. Everything has a default that suits most volumes."""

    model_config = ConfigDict(extra="forbid", title="Options")

    level: int | str | None = Field(
        None, description="Resolution level, by number or by the name that the metadata lists"
    )
    channel: int | str | list[int | str] | None = Field(
        None, description="Channel(s), by index or name; all, if not given"
    )
    time: int | None = Field(None, ge=0, description="Time point of a time series")
    axes: str | None = Field(
        None, description="Axes of the stored array, like zyx or yxc; needed if not in the metadata"
    )
    outputs: list[OutputName] = Field(
        ["classes"], min_length=1, description="Classes per voxel, probabilities per class, or both"
    )
    scores_dtype: ScoresDtype = Field(
        "uint8",
        title="Scores dtype",
        description="How probabilities are stored; uint8 means 0..255",
    )
    normalisation: str | None = Field(
        None,
        description="none, dtype, range:LOW:HIGH, percentile:LOW:HIGH or zscore, with @LEVEL to "
        "measure on another level; by default what the weights were trained with",
    )
    block: ZYX | None = Field(None, description="Voxels z, y, x that one task writes")
    tile: ZYX | None = Field(None, description="Voxels z, y, x of one pass through the network")
    tile_memory_gib: float = Field(
        2.0, gt=0, title="Tile memory (GiB)", description="Memory that one tile may take"
    )
    precision: Literal["auto", "bf16", "fp32"] = Field(
        "auto", description="auto: bfloat16 where the device computes in it natively"
    )
    tta: Tta = Field(
        "none",
        title="Test-time augmentation",
        description="Average every tile's scores over 4 quarter turns (rotations), or over these "
        "with mirrors (full: 8, of a 3-D network 16): as many times the arithmetic",
    )
    engine: Literal["store", "map_overlap"] = Field(
        "store", description="Halos read from the store, or exchanged between workers"
    )
    format: Literal["0.5", "0.4"] = Field("0.5", description="OME-Zarr version of the output")
    overwrite: bool = Field(False, description="Replace an output that is there")
    allow_seams: bool = Field(
        False,
        title="Allow seams",
        description="Run networks whose layers look at statistics of a whole tile",
    )
    retries: int = Field(2, ge=0, description="How often a failing block is tried again")
    shard: str | None = Field(
        None,
        title="Shard i/N",
        description="Do one share of the volume, the i-th of N, like 2/3; runs of their own do the "
        "others at the same time, and overtile finish ends the output",
    )

    def request(self, *, input: str, output: str) -> SegmentRequest:  # noqa: A002
        """Return what the pipeline takes. Raises kinds of OvertileError."""
        source, target = Location.parse(input), Location.parse(output, kind=OutputError)
        for location in (source, target):
            if location.scheme == "memory":
                raise VolumeError(
                    f"{location}: memory:// lives within one process, and here workers are others: "
                    "give a path or s3://…; from Python, threads can share it "
                    "(pipeline.segment_volume without client=)"
                )
        values: dict[str, Any] = self.model_dump(
            exclude={"precision", "tta", "tile_memory_gib", "normalisation", "channel", "outputs"}
        )
        channel = tuple(self.channel) if isinstance(self.channel, list) else self.channel
        return SegmentRequest(
            input=source,
            output=target,
            channel=channel,
            outputs=tuple(self.outputs),
            normalisation=parse_record(self.normalisation) if self.normalisation else None,
            tile_memory_bytes=int(self.tile_memory_gib * 2**30),
            **values,
        )

    def predictor(self, weights: str) -> Predictor:
        """Return what computes the scores with these weights. Raises kinds of OvertileError."""
        return with_tta(UNetPredictor(weights, precision=self.precision), self.tta)


class ClusterOptions(BaseModel):
    """Where the workers are."""

    model_config = ConfigDict(extra="forbid", title="Cluster")

    cluster: str = Field(
        "local",
        title="Where",
        description="local, cuda, slurm, lsf, pbs or sge; the name of a profile or of a started "
        "cluster; a TOML file; an address like tcp://HOST:PORT, or a scheduler file",
    )
    workers: int | None = Field(None, ge=1, description="Processes of a local cluster")
    devices: list[str] | None = Field(None, description="GPUs of a cuda cluster, by index or UUID")
    jobs: int | None = Field(None, ge=1, description="How many batch jobs; always as many")
    maximum_jobs: int | None = Field(
        None, ge=1, title="Maximum jobs", description="As many batch jobs as there is work for"
    )
    partition: str | None = Field(None, description="Slurm's partition, others' queue")
    account: str | None = Field(None, description="Account or project that pays for the jobs")
    walltime: str | None = Field(None, description="Of one job, like 02:00:00 or 90 min")
    gpus_per_job: int | None = Field(
        None, ge=0, title="GPUs per job", description="Each has a worker of its own; 0: CPUs only"
    )
    settings: str | None = Field(
        None, description='More of the cluster\'s settings as TOML lines, like qos = "long"'
    )

    def spec(self) -> ClusterSpec:
        """Return the specification. Raises ClusterError."""
        spec = parse_cluster(self.cluster, workers=self.workers)
        given = self.model_dump(exclude={"cluster", "workers", "settings"}, exclude_none=True)
        return with_settings(spec, {**settings_of_toml(self.settings or ""), **given})
