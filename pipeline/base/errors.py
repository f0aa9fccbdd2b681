"""The few kinds of error that a user can cause, and the one that a run ends with.

Each is also the standard library's kind, so that ``except ValueError`` works as anywhere. The
message is one line: what came, what was wanted, what to do. The shell prints it and exits with 2.
"""


class OvertileError(Exception):
    """Base of every error that a user can cause; its message is one line for a person."""


class GeometryError(OvertileError, ValueError):
    """A box, a halo or a shape that cannot be."""


class PlanError(OvertileError, ValueError):
    """Blocks, tiles or memory that do not fit the volume, the network or the machine."""


class VolumeError(OvertileError, ValueError):
    """A volume that is not there, is no image, or cannot be read as asked."""


class OutputError(OvertileError, ValueError):
    """An output that is there already, belongs to another job, or cannot be written."""


class IntensityError(OvertileError, ValueError):
    """A normalisation that is not defined, or not for this volume."""


class ConfigError(OvertileError, ValueError):
    """A network configuration that cannot be built."""


class LabelError(OvertileError, ValueError):
    """Labels that are no class or object ids, or not those that the network was made for."""


class WeightsError(OvertileError, ValueError):
    """A file that holds no weights of ours, or not the ones that were meant."""


class TrainingError(OvertileError, RuntimeError):
    """A training that cannot start, go on or be resumed as asked."""


class ClusterError(OvertileError, RuntimeError):
    """A cluster that cannot be opened, or does not answer."""


class RunError(RuntimeError):
    """A run that started and did not end well; its message says how to resume. No user error."""


class RunStoppedError(RunError):
    """A run that somebody stopped, by Ctrl-C or by cancelling it: nothing is wrong with it."""


class TrainingFailedError(RunError):
    """A training that had begun and failed; its checkpoints stay, to go on from with --resume."""


class RunDrainedError(RunStoppedError):
    """A run that was asked to end early and did, its blocks in flight done: it wants to go on."""
