"""The package ``overtile``: the public names under one name, and the command."""

from __future__ import annotations

import importlib
import subprocess
import sys

import pytest

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


ALIASES = """
import sys
import overtile.pipeline
import overtile.unet.network.config as config
from overtile.deploy import ClusterSpec
from overtile.unet import UNetConfig
import deploy.clusters.spec
import pipeline
import unet.network.config
assert overtile.pipeline is pipeline is sys.modules["overtile.pipeline"]
assert config is unet.network.config
assert config.UNetConfig is UNetConfig and UNetConfig.__module__ == "unet.network.config"
assert ClusterSpec is deploy.clusters.spec.ClusterSpec
for name, module in list(sys.modules.items()):
    if name.startswith(("overtile.deploy", "overtile.pipeline", "overtile.unet")):
        assert module is sys.modules[name.removeprefix("overtile.")], name
        assert module.__spec__.name == module.__name__ == name.removeprefix("overtile."), name
"""
NESTED = """
import pipeline.base.errors
import overtile.pipeline.base.geometry as geometry
from overtile.pipeline.base import errors
assert errors is pipeline.base.errors and geometry.Box is pipeline.Box
"""


@pytest.mark.parametrize("code", [ALIASES, NESTED], ids=["alias first", "package first"])
def test_a_module_has_one_copy_whatever_name_it_is_imported_by(code):
    python("-W", "error", "-c", code)


def test_a_name_that_no_package_has_is_reported_under_the_name_that_was_imported():
    with pytest.raises(ModuleNotFoundError, match=r"overtile\.pipeline\.absent"):
        importlib.import_module("overtile.pipeline.absent")
    with pytest.raises(ModuleNotFoundError, match=r"overtile\.absent"):
        importlib.import_module("overtile.absent")


def test_importing_it_loads_none_of_them():
    assert set(python("-c", CHEAP).split()) - sys.stdlib_module_names == {"overtile"}


def test_it_is_the_command():
    assert python("-m", "overtile", "--version") == f"overtile {overtile.__version__}\n"
