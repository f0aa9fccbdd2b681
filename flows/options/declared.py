"""How an option is declared: a field of a pydantic model, annotated with what the shell adds.

The field holds name, type, default, description and example. From it are made the shell's argument
(flows/cli/arguments.py), the entry of Prefect's form (by pydantic), and the words of a batch
script's command (:func:`words_of`).
"""

from __future__ import annotations

import types
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from typing import Any, Literal, TypeVar, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

_Kind = TypeVar("_Kind")


@dataclass(frozen=True, slots=True)
class Shell:
    """Annotation of a field: the shell has this option, under this heading of its help."""

    group: str | None = None
    metavar: str | None = None
    """What stands for the value; by default that of the type."""
    name: str | None = None
    """The option without its dashes; by default the field's name."""
    positional: bool = False


def _joined(value: Any) -> str:
    return ",".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)


def write_number(value: float) -> str:
    """Return a number without a fraction of 0."""
    return str(value).removesuffix(".0")


@dataclass(frozen=True, slots=True)
class Spelling:
    """Annotation of a type: how its values are written as one word."""

    metavar: str
    parse: Callable[[str], Any]
    """Raises ValueError that states what was expected."""
    write: Callable[[Any], str] = _joined


@dataclass(frozen=True, slots=True, kw_only=True)
class Option:
    """An option of the shell, as its field declares it."""

    field: str
    name: str
    """``--like-this``; of a positional argument, the field's name."""
    group: str | None
    metavar: str
    positional: bool
    required: bool
    type: Any
    """The field's type without None: ``bool``, a ``Literal``, or anything that has a spelling."""
    spelling: Spelling
    default: Any
    description: str
    example: Any = None

    @property
    def choices(self) -> tuple[str, ...] | None:
        """The values of a ``Literal``; None for any other type."""
        return get_args(self.type) if get_origin(self.type) is Literal else None

    def words(self, value: Any) -> list[str]:
        """Return the words that give this value."""
        if value is True:
            return [self.name]
        return valued(self.name, self.spelling.write(value))


def valued(name: str, text: str) -> list[str]:
    """Return the words of an option and its value; one word where the value starts with a dash."""
    return [f"{name}={text}"] if text.startswith("-") else [name, text]


def options_of(model: type[BaseModel], *, without: Collection[str] = ()) -> Iterator[Option]:
    """Yield the options of a model, except some fields."""
    for name, field in model.model_fields.items():
        shell = _found(Shell, field)
        if shell is not None and name not in without:
            yield _option(name, field, shell)


def words_of(options: BaseModel, *, without: Collection[str] = ()) -> list[str]:
    """Return the words that give all values but the defaults: ``["--block", "64,256,256"]``."""
    words = []
    for option in options_of(type(options), without=without):
        value = getattr(options, option.field)
        if value != option.default:
            words += option.words(value)
    return words


def _option(name: str, field: FieldInfo, shell: Shell) -> Option:
    annotation = _without_none(field.annotation)
    spelling = _found(Spelling, field) or _spelling_of(annotation)
    return Option(
        field=name,
        name=name if shell.positional else "--" + (shell.name or name).replace("_", "-"),
        group=shell.group,
        metavar=shell.metavar or spelling.metavar,
        positional=shell.positional,
        required=field.is_required(),
        type=annotation,
        spelling=spelling,
        default=None if field.is_required() else field.default,
        description=field.description or "",
        example=field.examples[0] if field.examples else None,
    )


def _found(kind: type[_Kind], field: FieldInfo) -> _Kind | None:
    return next((one for one in field.metadata if isinstance(one, kind)), None)


def _without_none(annotation: Any) -> Any:
    """Return ``T`` of ``T | None``, and any other type unchanged."""
    if get_origin(annotation) not in (Union, types.UnionType):
        return annotation
    kinds = [kind for kind in get_args(annotation) if kind is not types.NoneType]
    return kinds[0] if len(kinds) == 1 else annotation


def _spelling_of(annotation: Any) -> Spelling:
    for one in getattr(annotation, "__metadata__", ()):
        if isinstance(one, Spelling):
            return one
    return _PLAIN.get(annotation, Spelling("TEXT", str))


_PLAIN: dict[Any, Spelling] = {int: Spelling("N", int), float: Spelling("X", float, write_number)}
