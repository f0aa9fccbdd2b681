"""The parser of all commands: errors in one line, an example at the end of each help."""

from __future__ import annotations

import argparse
from typing import NoReturn


class Parser(argparse.ArgumentParser):
    """A parser that reports an error in one line, as the commands themselves do."""

    example: str = ""
    """A command line that the help ends with."""

    def error(self, message: str) -> NoReturn:
        """Exit with 2 and one line that names the help."""
        self.exit(2, f"overtile: {message}; see {self.prog} --help\n")

    def format_help(self) -> str:
        """Return the help, with the example on a separate line, to copy."""
        example = f"\nexample:\n  {self.example}\n" if self.example else ""
        return super().format_help() + example
