"""The parser of all commands: errors in one line, examples at the end of each help."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from textwrap import indent
from typing import Any, NoReturn

from pipeline.base.redaction import redacted
from pipeline.base.text import did_you_mean, printable, shortened

from ..text.terminal import say
from .examples import EXAMPLES

MOST_SHOWN = 400
"""Characters of an error: a word of a command line may have a hundred thousand."""


class Parser(argparse.ArgumentParser):
    """A parser that reports an error in one line, as the commands themselves do.

    The line names the help of the command that was called. Words that are close to a command, an
    option or a choice are answered with that one.
    """

    def error(self, message: str) -> NoReturn:
        """Exit with 2 and one line that names the help."""
        text = shortened(printable(redacted(message)), most=MOST_SHOWN)
        self.exit(2, f"overtile: {text}; see {self.prog} --help\n")

    def format_help(self) -> str:
        """Return the help, with the examples on separate lines, to copy."""
        examples = EXAMPLES.get(self.prog, "").strip()
        return super().format_help() + (
            f"\nexamples:\n{indent(examples, '  ')}\n" if examples else ""
        )

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Parse the words of this command. Exits with 2 for words that it does not know.

        argparse would report missing arguments first, and unknown ones in the name of the parser
        of all commands. Without a command the help is shown, but as an error: a script that lost
        its arguments must not seem to succeed.
        """
        words: Sequence[str] = sys.argv[1:] if args is None else args
        if self.has_commands and not words:
            say(self.format_help().rstrip())
            self.exit(2)
        for option in self._options_in(words):
            if not any(name.startswith(option) for name in self._option_string_actions):
                self.error(f"unrecognized arguments: {option}{self._similar(option)}")
        options, unknown = super().parse_known_args(args, namespace)
        if unknown:
            self.error(f"unrecognized arguments: {' '.join(unknown)}")
        return options, unknown

    @property
    def has_commands(self) -> bool:
        """Whether the first word is the name of a command below this one."""
        return self._subparsers is not None

    def _options_in(self, words: Sequence[str]) -> Iterator[str]:
        """Yield the long options among the words of this command, without their values."""
        for word in words:
            if word == "--" or (self.has_commands and not word.startswith("-")):
                return
            if word.startswith("--"):
                yield word.partition("=")[0]

    def _similar(self, option: str) -> str:
        names = [name[2:] for name in self._option_string_actions if name.startswith("--")]
        return did_you_mean(option[2:], names).replace("mean ", "mean --")

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        try:
            super()._check_value(action, value)
        except argparse.ArgumentError as error:
            similar = did_you_mean(str(value), action.choices or ())
            if isinstance(action, argparse._SubParsersAction):
                expected = similar or f": expected {', '.join(action.choices)}"
                self.error(f"unknown command {value!r}{expected}")
            raise argparse.ArgumentError(action, error.message + similar) from None
