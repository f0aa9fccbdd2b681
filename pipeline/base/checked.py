"""Dataclasses that pydantic checks, with errors of one line and of the right kind.

    @checked(ConfigError, name="training")
    @dataclass(frozen=True, slots=True, kw_only=True, config=STRICT)     # pydantic's dataclass
    class TrainingConfig:
        steps: Annotated[int, Field(ge=1)] = 2000

``TrainingConfig(steps=0)`` then raises ``ConfigError: training.steps (0): expected 1 or more``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from difflib import get_close_matches
from functools import wraps
from typing import Any, Final, TypeVar

from pydantic import ConfigDict, ValidationError

from .errors import OvertileError
from .text import printable, shortened

STRICT: Final = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False)
"""Nothing is converted but integers to floats: 2.0 is not an integer, and neither is true."""

MOST_SHOWN = 80
"""Characters of a value in a message."""

_Class = TypeVar("_Class", bound=type)

_EXPECTED: Mapping[str, str] = {
    "bool_type": "true or false",
    "dataclass_exact_type": "a table of settings",
    "dataclass_type": "a table of settings",
    "finite_number": "a finite number",
    "float_type": "a number",
    "greater_than": "more than {gt}",
    "greater_than_equal": "{ge} or more",
    "int_type": "an integer",
    "is_instance_of": "a table of settings",
    "less_than": "less than {lt}",
    "less_than_equal": "{le} or less",
    "literal_error": "{expected}",
    "string_type": "a string",
    "tuple_type": "a list",
}
"""What was expected, by pydantic's type of the error; others keep pydantic's own words."""


def checked(kind: type[OvertileError], *, name: str = "") -> Callable[[_Class], _Class]:
    """Make a pydantic dataclass raise ``kind``, with one line, for values that are not valid.

    name: the table of a config file that the class describes; it goes before each setting's name.
    """

    def wrapped(owner: _Class) -> _Class:
        initialise = owner.__init__  # type: ignore[misc]

        @wraps(initialise)
        def initialise_or_raise(self: Any, /, **values: Any) -> None:
            known = [field.name for field in fields(owner)]
            if unknown := [key for key in values if key not in known]:  # `self` is one, too
                path = ".".join((*([name] if name else []), unknown[0]))
                raise kind(unknown_setting(path, known=known))
            try:
                initialise(self, **values)
            except ValidationError as error:
                raise kind(one_line(error, name=name, known=known)) from error

        owner.__init__ = initialise_or_raise  # type: ignore[misc]
        return owner

    return wrapped


def one_line(error: ValidationError, *, name: str = "", known: Sequence[str] = ()) -> str:
    """Return the first problem as ``problem (value): expected X``.

    name: goes before the setting's name, with a dot. known: the valid names.
    """
    first = error.errors(include_url=False)[0]
    path = ".".join(map(str, (*([name] if name else []), *first["loc"])))
    if first["type"] in ("unexpected_keyword_argument", "extra_forbidden"):
        return unknown_setting(path, known=known)
    problem = problem_of(first)
    value = shown(first["input"])
    return f"{_brief_path(path)} ({value}): {problem}" if first["loc"] else problem


def problem_of(error: Mapping[str, Any]) -> str:
    """Return what is wrong, as ``expected X``, of one of pydantic's ``ErrorDetails``."""
    context, expected = error.get("ctx", {}), _EXPECTED.get(error["type"])
    if error["type"] == "value_error":
        return str(context["error"])
    return f"expected {expected.format(**_readable(context))}" if expected else str(error["msg"])


def unknown_setting(path: str, *, known: Sequence[str]) -> str:
    """Return the message for a name that is not valid. path: the name, its table before it."""
    near = get_close_matches(path.rsplit(".", 1)[-1], known, n=1)
    meant = f"did you mean {near[0]}? " if near else ""
    return f"{_brief_path(path)}: unknown setting; {meant}expected one of {', '.join(known)}"


def _brief_path(path: str) -> str:
    return shortened(printable(path), most=MOST_SHOWN)


def shown(value: object) -> str:
    """Return a value as a message shows it: on one line, and not too long."""
    if isinstance(value, int) and abs(value) >= 2**64:
        return "beyond 2**64"  # Python prints integers of up to 4,300 digits
    written = " ".join(repr(value).split())
    return written if len(written) <= MOST_SHOWN else f"{written[: MOST_SHOWN - 3]}..."


def _readable(context: Mapping[str, Any]) -> dict[str, str]:
    """Return the limits of an error as text: 0.9999, 1e-12, 1000."""
    return {
        name: f"{value:g}" if isinstance(value, float) else str(value)
        for name, value in context.items()
    }
