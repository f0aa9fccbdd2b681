"""``overtile meshes``: writes the surfaces of objects as files of triangles."""

from __future__ import annotations

import argparse

from ..options.meshes import MeshesFiles, MeshesOptions
from ..text.terminal import Counter, say
from .arguments import add_options, read_options


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``overtile meshes``."""
    add_options(parser, MeshesFiles, MeshesOptions)


def run(options: argparse.Namespace) -> None:
    """Write the meshes, in this process."""
    from pipeline.base.errors import OutputError
    from pipeline.base.location import Location
    from pipeline.objects.meshes.write_meshes import plan_meshes, write_meshes
    from pipeline.objects.table.finished import find_finished

    from ..text.meshes import result_lines

    parameters = read_options(MeshesOptions, options)
    plan = plan_meshes(
        find_finished(Location.parse(options.objects)),
        Location.parse(options.out, kind=OutputError),
        kind=parameters.format, ids=parameters.ids, overwrite=parameters.overwrite,
        most_voxels=parameters.most_voxels,
    )  # fmt: skip
    for line in result_lines(plan, write_meshes(plan, on_objects=Counter("meshes"))):
        say(line)
