"""The errors that a user can cause, and those that end a run.

Each also derives from the matching built-in, so that ``except ValueError`` works. The message is
one line: the problem, the expected value, the remedy. The shell prints it and exits with 2, with 1
where the same command can succeed later.
"""


class OvertileError(Exception):
    """Base of every error that a user can cause; its message is one line."""


class GeometryError(OvertileError, ValueError):
    """An invalid box, halo or shape."""


class PlanError(OvertileError, ValueError):
    """Blocks, tiles or memory that do not fit the volume, the network or the machine."""


class VolumeError(OvertileError, ValueError):
    """A volume that does not exist, is not an image, or cannot be read as requested."""


class OutputError(OvertileError, ValueError):
    """An output that already exists, belongs to another job, or cannot be written."""


class StorageFullError(OutputError):
    """An output whose disk or quota is full. The same command resumes it once there is space."""


class IntensityError(OvertileError, ValueError):
    """A normalisation that is invalid, or does not apply to this volume."""


class ConfigError(OvertileError, ValueError):
    """An invalid configuration of a network, a predictor or a training."""


class LabelError(OvertileError, ValueError):
    """Labels that are not class or object ids, or do not match the network's classes."""


class WeightsError(OvertileError, ValueError):
    """A file that does not hold weights of overtile, or not the expected ones."""


class TrainingError(OvertileError, RuntimeError):
    """A training that cannot start or resume as requested."""


class ClusterError(OvertileError, RuntimeError):
    """A cluster that cannot be opened or does not answer."""


class RunError(RuntimeError):
    """A run that started and failed; its message states how to resume. Not a user error."""


class RunStoppedError(RunError):
    """A run that the user stopped, by Ctrl-C or by cancelling it. Not a failure."""


class TrainingFailedError(RunError):
    """A training that started and failed; its checkpoints are kept for --resume."""


class RunDrainedError(RunStoppedError):
    """A run that drained on request: the blocks in flight are done, the rest can be resumed."""
