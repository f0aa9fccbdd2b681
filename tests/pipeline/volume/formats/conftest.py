"""What the tests of formats share: the reading of damaged images."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.base.errors import VolumeError
from pipeline.base.geometry import Box
from pipeline.volume.volume import find_volume, open_volume


@pytest.fixture(scope="session")
def error_of() -> Callable[[Path], str]:
    """Return a function that reads a damaged image and returns the error, or an empty text."""

    def read(folder: Path) -> str:
        try:
            source = find_volume(str(folder))
            if max(source.shape) < 100:
                open_volume(source).read(Box.of_shape(source.shape_zyx))
        except VolumeError as error:
            return str(error)
        return ""

    return read
