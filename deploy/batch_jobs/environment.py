"""The environment of the batch system's commands, without what describes the submitter's own job.

Inside an allocation (salloc, an interactive job, another batch job) the environment describes that
allocation. The commands pass it on to new jobs, where it contradicts what the script requests. So
do a user's own defaults for these commands, which take precedence over the lines of a script. Pure.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

_OWN: Final[dict[str, tuple[str, ...]]] = {
    "slurm": ("SLURM_", "SLURMD_", "SRUN_", "SALLOC_", "SBATCH_", "SQUEUE_", "SCANCEL_", "PMI_",
              "PMIX_"),
    "lsf": ("LSB_", "LS_", "LSFUSER"),
    "pbs": ("PBS_",),
    "sge": ("SGE_",),
}  # fmt: skip
"""How the names of a batch system's variables begin."""
_KEPT: Final[dict[str, frozenset[str]]] = {
    "slurm": frozenset({
        "SLURM_CONF", "SLURM_CONF_SERVER", "SLURM_CLUSTERS", "SLURM_JWT", "SLURM_SACK_KEY",
        "SLURM_SACK_JWKS", "SLURM_SACK_SOCKET", "SBATCH_EXPORT", "SBATCH_GET_USER_ENV",
    }),
    "lsf": frozenset({
        "LSB_DEFAULTQUEUE", "LSB_DEFAULTPROJECT", "LSB_DEFAULTGROUP", "LSB_CONFDIR", "LSB_SHAREDIR",
    }),
    "pbs": frozenset({
        "PBS_DEFAULT", "PBS_SERVER", "PBS_CONF_FILE", "PBS_EXEC", "PBS_HOME", "PBS_AUTH_METHOD",
    }),
    "sge": frozenset({
        "SGE_ROOT", "SGE_CELL", "SGE_CLUSTER_NAME", "SGE_QMASTER_PORT", "SGE_EXECD_PORT",
    }),
}  # fmt: skip
"""Where the batch system is and who the user is, what sites decide about the environment of jobs,
and defaults that the lines of a script override."""
_IN_A_JOB: Final[dict[str, str]] = {
    "slurm": "SLURM_JOB_ID", "lsf": "LSB_JOBID", "pbs": "PBS_JOBID", "sge": "JOB_ID",
}  # fmt: skip
"""A variable that exists in jobs only."""
_ALSO_OF_A_JOB: Final[dict[str, frozenset[str]]] = {
    "sge": frozenset({
        "JOB_ID", "JOB_NAME", "JOB_SCRIPT", "QUEUE", "REQUEST", "RESTARTED", "NSLOTS", "NHOSTS",
        "NQUEUES", "PE", "PE_HOSTFILE", "TASK_ID", "ARC", "ENVIRONMENT",
    }),
}  # fmt: skip
_DEVICES: Final = frozenset({
    "CUDA_VISIBLE_DEVICES", "GPU_DEVICE_ORDINAL", "ROCR_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES",
    "ZE_AFFINITY_MASK",
})  # fmt: skip
"""Devices of the submitter's job."""
_PAYS: Final = {
    "SBATCH_ACCOUNT": ("account", "A"), "SBATCH_PARTITION": ("partition", "p"),
    "SBATCH_QOS": ("qos", "q"), "SBATCH_RESERVATION": ("reservation", ""),
    "SBATCH_CLUSTERS": ("clusters", "M"), "SBATCH_CONSTRAINT": ("constraint", "C"),
    "SBATCH_WCKEY": ("wckey", ""),
}  # fmt: skip
"""Defaults of users and sites for where a job runs and who pays, with the options that mean the
same. They are kept if the script does not state them."""


def submitting_environment(
    kind: str, environment: Mapping[str, str], *, script: str = ""
) -> dict[str, str]:
    """Return the environment for a command of a batch system. script: what is submitted, if any."""
    in_a_job = _IN_A_JOB[kind] in environment
    dropped = _DEVICES | _ALSO_OF_A_JOB.get(kind, frozenset()) if in_a_job else frozenset()
    return {
        name: value for name, value in environment.items()
        if name not in dropped and (
            not name.startswith(_OWN[kind]) or name in _KEPT[kind]
            or (name in _PAYS and kind == "slurm" and not states(script, *_PAYS[name]))
        )
    }  # fmt: skip


def states(script: str, option: str, letter: str = "") -> bool:
    """Return whether a Slurm script has a directive for an option."""
    names = f"--{option}\\b" + (f"|-{letter}" if letter else "")
    return re.search(rf"^#SBATCH ({names})", script, re.MULTILINE) is not None
