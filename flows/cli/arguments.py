"""Declared options as argparse arguments, and parsed arguments as models."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Collection
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from pipeline.base.checked import problem_of
from pipeline.base.errors import PlanError

from ..options.declared import Option, Spelling, options_of

_Model = TypeVar("_Model", bound=BaseModel)

MOST_CHOICES = 50
"""Characters of the choices that stand in a usage line."""


def add_options(
    parser: argparse.ArgumentParser,
    *models: type[BaseModel],
    without: Collection[str] = (),
    all_optional: bool = False,
) -> None:
    """Add the options of some models to a parser, except some fields."""
    groups: dict[str | None, argparse._ActionsContainer] = {None: parser}
    for model in models:
        for option in options_of(model, without=without):
            if option.group not in groups:
                groups[option.group] = parser.add_argument_group(option.group)
            groups[option.group].add_argument(
                option.name, **_behaviour(option, is_optional=all_optional)
            )


def read_options(model: type[_Model], options: argparse.Namespace, **others: Any) -> _Model:
    """Return a model of the options that were parsed, and of other values. Raises PlanError."""
    fields = [option.field for option in options_of(model)]
    given = {name: getattr(options, name) for name in fields if hasattr(options, name)}
    return checked(model, **given, **others)


def checked(model: type[_Model], **values: Any) -> _Model:
    """Return a model of these values. Raises PlanError for the first wrong one."""
    try:
        return model(**values)
    except ValidationError as error:
        first = error.errors()[0]
        names = {option.field: option.name for option in options_of(model)}
        name = names.get(str(first["loc"][0]), first["loc"][0])
        raise PlanError(f"{name} {first['input']!r}: {problem_of(first)}") from error


def help_text(option: Option) -> str:
    """Return description, example and default in one line."""
    text, _, default = option.description.partition(" (default: ")
    default = default.removesuffix(")")
    if text[1:2].islower():  # not OME-Zarr
        text = text[0].lower() + text[1:]
    if option.default is not None and option.default is not False and option.default != []:
        default = option.spelling.write(option.default)
    notes = [f"default: {default}"] if default else []
    if option.example is not None and not option.required:
        notes.insert(0, f"e.g. {option.spelling.write(option.example)}")
    return (f"{text} ({'; '.join(notes)})" if notes else text).replace("%", "%%")


def _behaviour(option: Option, *, is_optional: bool) -> dict[str, Any]:
    """Return what argparse does with an option."""
    more: dict[str, Any] = {"help": help_text(option)}
    if option.positional:
        more |= {"metavar": option.metavar} | ({"nargs": "?"} if is_optional else {})
        return more
    more |= {"dest": option.field, "required": option.required and not is_optional}
    if option.type is bool:
        return more | {"action": "store_true"}
    more["default"] = option.default
    if option.choices:
        is_long = len(",".join(option.choices)) > MOST_CHOICES  # then the description lists them
        named = {"metavar": option.metavar} if is_long else {}
        return more | {"choices": option.choices} | named
    return more | {"type": parser_of(option.spelling), "metavar": option.metavar}


def parser_of(spelling: Spelling) -> Callable[[str], Any]:
    """Return the function that argparse calls with a value."""
    if spelling.parse in (int, float, str):
        return spelling.parse  # argparse itself states what it expected

    def parse(text: str) -> Any:
        try:
            return spelling.parse(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(f"{text!r}: {error}") from None

    return parse
