"""Config files of a training: TOML, checked where it is read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pipeline.base.errors import ConfigError
from pipeline.base.toml_text import read_text, toml_table

from .training_config import recipe_from_toml


def read_config(path: str | Path) -> dict[str, Any]:
    """Return the tables of a config file: network, training, labels. Raises ConfigError.

    Unlike a Recipe, it holds only what the file states: the volumes decide the rest.
    """
    try:
        text = read_text(path)
    except (OSError, ValueError) as error:
        raise ConfigError(f"config {str(path)!r} cannot be read ({error})") from error
    recipe_from_toml(text, where=f"config {str(path)!r}")
    return toml_table(text)
