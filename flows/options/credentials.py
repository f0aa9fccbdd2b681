"""Refuses credentials where they would be stored: in job scripts, and in Prefect's parameters."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pydantic import BaseModel

from pipeline.base.errors import PlanError
from pipeline.base.redaction import has_secret, redacted, redacted_uri


def refuse_credentials(values: Mapping[str, Any] | Sequence[str], *, stored_by: str) -> None:
    """Raise PlanError where a value, or one inside it, holds credentials.

    stored_by: what would store them, as a subject: "the job's script".
    """
    for text in _texts(values):
        if has_secret(text):
            raise PlanError(
                f"{redacted(redacted_uri(text))} holds credentials, which {stored_by} would store: "
                "pass them in the environment (docs/credentials.md)"
            )


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, BaseModel):
        yield from _texts(dict(value))
    elif isinstance(value, Mapping):
        yield from _texts(list(value.values()))
    elif isinstance(value, Sequence) and not isinstance(value, bytes):
        for one in value:
            yield from _texts(one)
