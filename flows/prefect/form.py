"""Prefect's form: lists to choose from, and rarely needed settings folded behind a tab.

Prefect's UI shows a parameter that may be one of several things as tabs, and opens the tab of its
value. So each parameter here is a short list first and, in another tab, a file or all settings.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal, TypeAlias, TypeVar

from pydantic import BaseModel, GetJsonSchemaHandler
from pydantic.json_schema import JsonSchemaValue

from deploy.clusters.profiles import profile_names
from unet.weights.location import bundled_names

from ..options.cluster import ClusterOptions
from ..options.evaluate import EvaluateOptions
from ..options.objects import ObjectDefinition
from ..options.segment import SegmentOptions
from ..options.train import TrainOptions
from .without_credentials import PATTERN

CLUSTERS = ("local", "cuda", "slurm")
DEFAULTS: Any = "defaults"
"""The value of options that are not set."""
_Options = TypeVar("_Options", bound=BaseModel)
_TABS = {"null": "Default", "string": "Text", "integer": "Number", "number": "Number",
         "boolean": "Yes or no", "array": "List"}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Listed:
    """Annotation: the form has a tab with a list of values, and one for each other type."""

    title: str
    values: Callable[[], Sequence[str]]
    text: str | None = None
    """Title of a tab for any text."""
    nothing: str | None = None
    """Title of a tab for None."""

    def __get_pydantic_json_schema__(
        self, core_schema: Any, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        found = handler(core_schema)
        groups = [kind for kind in found.get("anyOf", [found]) if "$ref" in kind]
        for group in groups:
            _name_tabs(handler.resolve_ref_schema(group))
        listed: JsonSchemaValue = {"title": self.title, "enum": list(self.values())}
        texts: list[JsonSchemaValue] = []
        if self.text:  # the UI opens the first tab of type string: that for a file must be it
            texts.append({"title": self.text, "type": "string", "pattern": PATTERN})
        else:
            listed["type"] = "string"
        nothing = [{"title": self.nothing, "type": "null"}] if self.nothing else []
        return {"anyOf": [*nothing, listed, *groups, *texts]}


def _name_tabs(model: JsonSchemaValue) -> None:
    """Give the tabs of a model's fields titles in plain words, in place of ``int`` and ``None``."""
    for field in model.get("properties", {}).values():
        for kind in field.get("anyOf", []):
            if (title := _TABS.get(kind.get("type"))) and "enum" not in kind:
                kind.setdefault("title", title)


def _clusters() -> list[str]:
    return list(dict.fromkeys([*CLUSTERS, *profile_names()]))


_Defaults: TypeAlias = Literal["defaults"]
_FOLDED = Listed("Defaults", lambda: [DEFAULTS])

Weights: TypeAlias = Annotated[str, Listed("Bundled with overtile", bundled_names, "File or URI")]
Objects: TypeAlias = Annotated[
    Literal["components", "watershed"] | ObjectDefinition | None,
    Listed("Yes", lambda: ["components", "watershed"], nothing="No"),
]
Cluster: TypeAlias = Annotated[str | ClusterOptions, Listed("From the list", _clusters)]
HowToSegment: TypeAlias = Annotated[_Defaults | SegmentOptions, _FOLDED]
HowToTrain: TypeAlias = Annotated[_Defaults | TrainOptions, _FOLDED]
HowToEvaluate: TypeAlias = Annotated[_Defaults | EvaluateOptions, _FOLDED]


def options_of(given: str | _Options, kind: type[_Options]) -> _Options:
    """Return the options of a run, the defaults where none are set."""
    return kind() if isinstance(given, str) else given


def cluster_of(given: str | ClusterOptions) -> ClusterOptions:
    """Return the cluster of a run from its name in the list, or the given one."""
    return ClusterOptions(cluster=given) if isinstance(given, str) else given


def objects_of(
    given: Literal["components", "watershed"] | ObjectDefinition | None,
) -> ObjectDefinition | None:
    """Return the definition of objects from the method in the list, or the given one."""
    return ObjectDefinition(method=given) if isinstance(given, str) else given
