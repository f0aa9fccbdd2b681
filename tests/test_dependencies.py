"""What the extras of pyproject.toml take and refuse."""

import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

PROJECT = tomllib.loads((Path(__file__).parent.parent / "pyproject.toml").read_text())["project"]


@pytest.mark.parametrize(("extra", "newer"), [("cuda", "2.11.0"), ("cuda12", "2.10.0")])
def test_no_cuda_extra_takes_torch_2_9(extra, newer):
    """Its bfloat16 3-D convolutions are wrong with its cuDNN."""
    requirements = map(Requirement, PROJECT["optional-dependencies"][extra])
    (torch,) = (one.specifier for one in requirements if one.name == "torch")
    assert not any(torch.contains(version) for version in ("2.9.0", "2.9.1"))
    assert torch.contains(newer)
