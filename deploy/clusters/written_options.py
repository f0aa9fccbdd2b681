"""The options of a batch system that our scripts state, and which of them a profile replaces. Pure.

A site may forbid an option, or want another one in its place. ``directives`` of a profile replace
our line of the same option; ``skip_directives`` leave lines out.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from pipeline.base.errors import ClusterError

WRITTEN_OPTIONS: dict[str, tuple[str, ...]] = {
    "slurm": (
        "--job-name", "--partition", "--account", "--qos", "--gres", "--constraint", "--nodes",
        "--ntasks-per-node", "--cpus-per-task", "--mem", "--time", "--output", "--comment",
        "--chdir", "--open-mode", "--requeue", "--signal",
    ),
    "lsf": ("-J", "-q", "-P", "-n", "-R", "-M", "-W", "-o", "-gpu"),
    "pbs": ("-N", "-q", "-A", "-l select", "-l walltime", "-S", "-j", "-o"),
    "sge": ("-N", "-q", "-P", "-l h_rt", "-cwd", "-j", "-S", "-o", "-pe", "-l gpu"),
}  # fmt: skip
"""What may be left out, by kind; the order is that of the script."""
_LETTERS = {
    "-J": "--job-name", "-p": "--partition", "-A": "--account", "-q": "--qos", "-N": "--nodes",
    "-c": "--cpus-per-task", "-t": "--time", "-o": "--output", "-C": "--constraint",
    "-D": "--chdir",
}  # fmt: skip
_INSTEAD = {
    "--mem-per-cpu": "--mem", "--mem-per-gpu": "--mem", "--no-requeue": "--requeue",
}  # fmt: skip
"""Options of Slurm that exclude an option of our scripts."""
_REPEATABLE = ("-R",)
"""LSF combines several lines of this option."""
_SIZE = re.compile(r"--(mem|mem-per-cpu)[= ](\d+)([KMGT]?)B?", re.IGNORECASE)


def option_of(line: str, *, kind: str) -> str:
    """Return the option that a directive states, as in ``WRITTEN_OPTIONS``.

    >>> option_of("--mem-per-cpu=2G", kind="slurm"), option_of("-p main", kind="slurm")
    ('--mem-per-cpu', '--partition')
    >>> option_of("-l select=1:ncpus=4", kind="pbs")
    '-l select'
    """
    name, _, rest = line.strip().partition(" ")
    name = name.partition("=")[0]
    if name == "-l":
        return f"-l {re.split('[=:, ]', rest.strip(), maxsplit=1)[0]}"
    return _LETTERS.get(name, name) if kind == "slurm" else name


def kept_lines(
    lines: Sequence[str], *, kind: str, directives: Sequence[str], skip: Sequence[str]
) -> list[str]:
    """Return our lines without those that a profile skips or replaces.

    Lines of options that are not in ``WRITTEN_OPTIONS`` are always kept: a run depends on them.
    """
    stated = {option_of(line, kind=kind) for line in directives} - {*_REPEATABLE}
    replaced = {_INSTEAD.get(option, option) for option in stated}
    without = (replaced | {option_of(one, kind=kind) for one in skip}) & {*WRITTEN_OPTIONS[kind]}
    return [line for line in lines if option_of(line, kind=kind) not in without]


def check_skipped(skip: Sequence[str], *, kind: str) -> None:
    """Raise ClusterError for options that are not written anyway."""
    for one in skip:
        if option_of(one, kind=kind) not in WRITTEN_OPTIONS[kind]:
            raise ClusterError(
                f"skip_directives {one!r}: expected options that a script states by default: "
                f"{', '.join(WRITTEN_OPTIONS[kind])}"
            )


def stated_memory_bytes(directives: Sequence[str], *, cpus: int) -> int | None:
    """Return the memory per node that directives of Slurm request; None if they state none.

    >>> stated_memory_bytes(["--exclusive", "--mem-per-cpu=2000M"], cpus=4)
    8388608000
    """
    for line in reversed(directives):
        if match := _SIZE.fullmatch(line.strip()):
            factor = 2 ** (10 * " KMGT".index(match[3].upper() or "M"))
            size = int(match[2]) * factor * (cpus if match[1].lower() == "mem-per-cpu" else 1)
            return size or None  # --mem=0 requests all memory of a node
    return None
