"""Profiles: clusters described in a flat TOML file, whose keys are fields of the specification.

kind = "slurm"              # local, cuda, slurm, lsf, pbs, sge, or an address
partition = "gpu"
gpus_per_job = 1
maximum_jobs = 8
walltime = "02:00:00"
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from functools import cache
from pathlib import Path
from typing import Any, TypeAlias, cast, get_type_hints

from pydantic import TypeAdapter, ValidationError

from pipeline.base.checked import one_line, shown, unknown_setting
from pipeline.base.errors import ClusterError
from pipeline.base.toml_text import read_text, toml_table

from ..tls.files import checked_tls
from .existing import ADDRESS_SCHEMES, checked_address
from .script_secrets import check_lines
from .spec import JOB_KINDS, ONLY_OF, STARTED_KINDS, ClusterSpec, JobSpec, Kind
from .units import duration_s, size_bytes

Setting: TypeAlias = str | int | float | Sequence[str] | None
"""A value in a profile, or of a keyword of ``open_cluster``."""
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_TEXTS = {
    "walltime": ("walltime_s", duration_s),
    "memory_per_job": ("memory_per_job_bytes", size_bytes),
}
_OTHER_WORDS = {"partition": "queue", "project": "account"}


def config_directory() -> Path:
    """Return the folder of the user's profiles."""
    base = os.environ.get("XDG_CONFIG_HOME") or _home("XDG_CONFIG_HOME") / ".config"
    return Path(base) / "overtile"


def state_directory() -> Path:
    """Return the folder of state between runs: logs of jobs, started clusters."""
    base = os.environ.get("XDG_STATE_HOME") or _home("XDG_STATE_HOME") / ".local" / "state"
    return Path(base) / "overtile"


def _home(instead: str) -> Path:
    """Return the home folder. instead: the variable that makes it unnecessary."""
    try:
        return Path.home()
    except RuntimeError as error:
        raise ClusterError(
            f"the home folder of user {os.getuid()} is not known: set HOME, or {instead}"
        ) from error


def is_name(text: str) -> bool:
    """Return whether a text is a valid name of a profile or a cluster."""
    return bool(_NAME.fullmatch(text))


def find_profile(name: str) -> Path | None:
    """Return the file of a profile; None if it does not exist."""
    path = config_directory() / f"{name}.toml"
    return path if is_name(name) and path.is_file() else None


def profile_names() -> list[str]:
    """Return the names of all profiles of this user."""
    return sorted(path.stem for path in config_directory().glob("*.toml") if is_name(path.stem))


def read_profile(path: Path) -> ClusterSpec:
    """Return the specification in a TOML file. Raises ClusterError."""
    try:
        text = read_text(path)
    except (OSError, ValueError) as error:
        raise ClusterError(f"cannot read {path}: {error}") from error
    return spec_of_toml(text, source=str(path))


def spec_of_toml(text: str, *, source: str) -> ClusterSpec:
    """Return the specification in TOML text. source: its name in errors. Raises ClusterError."""
    try:
        values = toml_table(text)
    except ValueError as error:
        raise ClusterError(f"{source} is not TOML: {error}") from error
    try:
        kind = values.pop("kind", None)
        return with_settings(spec_of_kind(kind), values)
    except ClusterError as error:
        raise ClusterError(f"{source}: {error}") from error


def settings_of_toml(text: str) -> dict[str, Any]:
    """Return settings in TOML lines. Raises ClusterError."""
    try:
        return toml_table(text)
    except ValueError as error:
        raise ClusterError(f"{shown(text)} is not TOML: {error}") from error


def spec_of_kind(kind: object) -> ClusterSpec:
    """Return the default specification of a kind or an address. Raises ClusterError."""
    if isinstance(kind, str) and kind.startswith(ADDRESS_SCHEMES):
        return ClusterSpec(kind="address", where=checked_address(kind))
    if kind not in STARTED_KINDS:
        problem = "kind is not set" if kind is None else f"kind {shown(kind)}"
        raise ClusterError(
            f"{problem}: expected {', '.join(STARTED_KINDS)}, or an address like tcp://HOST:8786"
        )
    return ClusterSpec(kind=cast(Kind, kind), job=JobSpec() if kind in JOB_KINDS else None)


def with_settings(spec: ClusterSpec, settings: Mapping[str, Any]) -> ClusterSpec:
    """Return a specification with some fields replaced, by their names in Python or in TOML.

    Raises ClusterError for a field that this kind of cluster does not have, or a wrong type.
    """
    known = _known(spec)
    of_cluster: dict[str, Any] = {}
    of_job: dict[str, Any] = {}
    for key, value in settings.items():
        name, parse = _TEXTS.get(key, (_OTHER_WORDS.get(key, key), None))
        if name not in known:
            raise ClusterError(_unknown_text(key, spec))
        if parse is not None:
            value = parse(_typed(key, value, str))
        target, owner = (of_job, JobSpec) if name in _hints(JobSpec) else (of_cluster, ClusterSpec)
        target[name] = _typed(key, value, _hints(owner)[name])
        if name in ("prologue", "directives"):
            check_lines(key, target[name])
        if name == "tls" and value is not None:
            target[name] = checked_tls(value)
    if spec.job is not None and of_job:
        of_cluster["job"] = replace(spec.job, **_without_other_number(of_job))
    return replace(spec, **of_cluster)


def _without_other_number(of_job: dict[str, Any]) -> dict[str, Any]:
    """Remove earlier bounds if a fixed number of jobs is set, and vice versa."""
    if "jobs" in of_job and "maximum_jobs" not in of_job:
        return {"minimum_jobs": None, "maximum_jobs": None, **of_job}
    return {"jobs": None, **of_job} if "maximum_jobs" in of_job else of_job


def _known(spec: ClusterSpec) -> set[str]:
    """Return the fields of this kind of cluster."""
    names = {field.name for field in fields(ClusterSpec)} - {"kind", "where", "job"}
    if spec.job is not None:
        names |= {field.name for field in fields(JobSpec)}
    return {name for name in names if spec.kind in ONLY_OF.get(name, (spec.kind,))}


def _unknown_text(key: str, spec: ClusterSpec) -> str:
    words = {name: toml for toml, (name, _) in _TEXTS.items()}
    words |= {name: word for word, name in _OTHER_WORDS.items() if word == "partition"}
    known = sorted(words.get(name, name) for name in _known(spec))
    return f"cluster {spec.kind}: {unknown_setting(key, known=known)}"


@cache
def _hints(owner: type) -> dict[str, Any]:
    return get_type_hints(owner)


def _typed(key: str, value: Any, hint: Any) -> Any:
    """Return a value of TOML as the field's type. Raises ClusterError for a wrong type."""
    if hint == tuple[str, ...]:
        value = (value,) if isinstance(value, str) else value
        value = tuple(value) if isinstance(value, list) else value
    adapter = TypeAdapter(dict[str, hint])
    try:
        return adapter.validate_python({key: value}, strict=True)[key]
    except ValidationError as error:
        raise ClusterError(one_line(error)) from error
