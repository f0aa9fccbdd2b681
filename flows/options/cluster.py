"""The cluster that a run computes on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from pydantic import BaseModel, ConfigDict, Field

from .declared import Shell

if TYPE_CHECKING:
    from deploy import ClusterSpec

CLUSTER = "cluster"


class ClusterOptions(BaseModel):
    """Where the workers are. The shell takes the settings of batch jobs from a profile."""

    model_config = ConfigDict(extra="forbid", title="Advanced")

    cluster: Annotated[str, Shell(CLUSTER, metavar="WHERE")] = Field(
        "local",
        title="Where",
        description="local, cuda, slurm, lsf, pbs or sge; a profile, a started cluster or a TOML "
        "file; the address or scheduler file of a Dask cluster",
        examples=["tcp://10.0.0.7:8786"],
    )
    workers: Annotated[int | None, Shell(CLUSTER)] = Field(
        None,
        ge=1,
        description="Processes of a local cluster (default: as many as suit the cores)",
    )
    tls: Annotated[str | None, Shell(CLUSTER, metavar="auto|off|FOLDER")] = Field(
        None,
        title="TLS",
        description="Encryption and authentication between scheduler, workers and this run: a key "
        "for this run, none, or the ca.pem, cert.pem and key.pem of a folder (default: auto where "
        "the run starts the cluster)",
        examples=["/home/ada/tls"],
    )
    devices: list[str] | None = Field(
        None, description="GPUs of a cuda cluster, by index or UUID", examples=[["0", "1"]]
    )
    jobs: int | None = Field(None, ge=1, description="Fixed number of batch jobs", examples=[4])
    maximum_jobs: int | None = Field(
        None,
        ge=1,
        title="Maximum jobs",
        description="Most batch jobs at a time; as many are used as there is work for",
        examples=[16],
    )
    partition: str | None = Field(
        None, description="Slurm's partition; the queue of other systems", examples=["gpu"]
    )
    account: str | None = Field(None, description="Account or project that pays for the jobs")
    walltime: str | None = Field(
        None, description="Time limit of one job", examples=["02:00:00", "90 min"]
    )
    gpus_per_job: int | None = Field(
        None,
        ge=0,
        title="GPUs per job",
        description="GPUs of one job, each with its own worker; 0 for CPUs only",
        examples=[4],
    )
    settings: str | None = Field(
        None, description="More settings of the cluster, as TOML lines", examples=['qos = "long"']
    )

    def spec(self) -> ClusterSpec:
        """Return the specification. Raises ClusterError."""
        from deploy import parse_cluster
        from deploy.clusters.profiles import settings_of_toml, with_settings

        spec = parse_cluster(self.cluster, workers=self.workers)
        given = self.model_dump(exclude={"cluster", "workers", "settings"}, exclude_none=True)
        return with_settings(spec, {**settings_of_toml(self.settings or ""), **given})
