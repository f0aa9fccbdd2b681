"""``overtile meshes``: writes the surfaces of objects as files of triangles."""

from __future__ import annotations

import argparse

from pipeline.base.errors import OutputError, RunDrainedError

from ..options.meshes import MeshesFiles, MeshesOptions
from ..signals.drain import drain_on_signal
from ..text.terminal import Counter, say
from .arguments import add_options, read_options


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``overtile meshes``."""
    add_options(parser, MeshesFiles, MeshesOptions)


def run(options: argparse.Namespace) -> None:
    """Write the meshes, in this process. Raises RunDrainedError after a SIGUSR1."""
    with drain_on_signal("the mesh in progress is written") as drain:
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
        counter = _UntilDrained()
        drain.begin(counter)
        for line in result_lines(plan, write_meshes(plan, on_objects=counter)):
            say(line)


class _UntilDrained:
    """Counts meshes on the terminal, and ends the run after one of them once that is asked."""

    def __init__(self) -> None:
        self._count = Counter("meshes")
        self._is_draining = False

    def drain(self) -> None:
        """Let the mesh in progress be the last one."""
        self._is_draining = True

    def __call__(self, done: int, total: int) -> None:
        """Show how many are done. Raises RunDrainedError if the others are not wanted now."""
        self._count(done, total)
        if self._is_draining and done < total:
            raise RunDrainedError(
                f"drained: {done:,} of {total:,} objects have their meshes; start the same "
                "command again to resume"
            )
