"""The package ``overtile``: the public names under one name, and the command."""

from __future__ import annotations

import subprocess
import sys

import deploy
import overtile
import pipeline
import unet

CHEAP = """
import sys
before = set(sys.modules)
import overtile
print(*sorted({name.split(".")[0] for name in set(sys.modules) - before}))
"""


def python(*arguments):
    command = [sys.executable, "-P", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def test_the_packages_are_those_of_their_own_names():
    assert (overtile.pipeline, overtile.unet, overtile.deploy) == (pipeline, unet, deploy)
    assert overtile.pipeline.segment_volume is pipeline.segment_volume
    assert set(overtile.__all__) <= set(dir(overtile))


def test_importing_it_loads_none_of_them():
    assert set(python("-c", CHEAP).split()) - sys.stdlib_module_names == {"overtile"}


def test_it_is_the_command():
    assert python("-m", "overtile", "--version") == f"overtile {overtile.__version__}\n"
