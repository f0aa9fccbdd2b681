"""Flows whose parameters hold no credentials: Prefect stores and shows them.

The form, ``prefect deployment run`` and the server refuse them by the schema of the parameters; a
flow that is called from Python refuses them before its run is created.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Final, ParamSpec, TypeAlias, TypeVar

from prefect import Flow
from pydantic import GetJsonSchemaHandler
from pydantic.json_schema import JsonSchemaValue

from ..options.credentials import refuse_credentials

PATTERN: Final = r"^(?![a-zA-Z][a-zA-Z0-9+.-]*://([^/]*:[^/]*@|[^?]*\?[^?]*=))"
"""In Python and in a browser: no password before an "@", and no query with values."""
_P = ParamSpec("_P")
_R = TypeVar("_R")


@dataclass(frozen=True, slots=True)
class WithoutCredentials:
    """Annotation of a parameter: its schema refuses credentials."""

    def __get_pydantic_json_schema__(
        self, core_schema: Any, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        return {**handler(core_schema), "pattern": PATTERN}


Place: TypeAlias = Annotated[str, WithoutCredentials()]
"""A path or URI."""


def without_credentials(flow: Flow[_P, _R]) -> Flow[_P, _R]:
    """Return the flow; a call or a run with credentials in its parameters raises PlanError."""
    validate, serialize = flow.validate_parameters, flow.serialize_parameters

    def validated(parameters: dict[str, Any]) -> dict[str, Any]:
        refuse_credentials(parameters, stored_by="Prefect")
        return validate(parameters)

    def serialized(parameters: dict[str, Any]) -> dict[str, Any]:
        refuse_credentials(parameters, stored_by="Prefect")
        return serialize(parameters)

    flow.validate_parameters = validated  # type: ignore[method-assign]
    flow.serialize_parameters = serialized  # type: ignore[method-assign]
    return flow
