"""Machine code is kept for the sources that it was made from, where there is a place for it."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

PROGRAM = """
import numpy as np
from pipeline.base.compiled import is_compiled
from pipeline.objects.fragments.measures import _measure
before = is_compiled()
_measure(np.ones((1, 1, 1), np.int32), 1, np.zeros(3, np.int64), np.ones(3, np.int64), True)
print(before, is_compiled())
"""


def answers(caches):
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True, timeout=120,
        env={**os.environ, "XDG_CACHE_HOME": str(caches)},
    )  # fmt: skip
    return done.stdout.split()


@pytest.mark.slow
def test_a_machine_is_known_to_be_compiled_for_only_after_the_first_run(tmp_path):
    assert answers(tmp_path) == ["False", "True"]
    assert answers(tmp_path) == ["True", "True"]


@pytest.mark.parametrize("place", ["/proc/nowhere", "/dev/null"])
def test_without_a_place_for_the_machine_code_it_is_compiled_all_the_same(place):
    assert answers(place)[0] == "False"
