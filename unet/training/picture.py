"""The picture of a validation: a slice's grey values, its true classes, and the prediction."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from pipeline.base.errors import TrainingFailedError
from pipeline.report.pictures import (
    channels_picture,
    classes_picture,
    grey_picture,
    panel,
    png_bytes,
    scores_picture,
)

from .validation import Picture


def validation_picture(picture: Picture) -> bytes:
    """Return raw, truth and prediction side by side, as PNG. Ignored voxels are class 0.

    Of channels that are not classes, the first three are shown as red, green and blue.
    """
    if picture.truth_yx.ndim == 2:
        truth = classes_picture(np.maximum(picture.truth_yx, 0))
        prediction = scores_picture(picture.scores_cyx)
    else:
        truth = channels_picture(picture.truth_yx)
        prediction = channels_picture(picture.scores_cyx)
    return png_bytes(
        panel(
            [
                ("raw", grey_picture(picture.raw_cyx)),
                ("truth", truth),
                ("prediction", prediction),
            ]
        )
    )


def draw_validation(picture: Picture, path: Path) -> None:
    """Write the picture to a file. Raises TrainingFailedError."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(validation_picture(picture))
    except OSError as error:
        raise TrainingFailedError(
            f"{str(path)!r} cannot be written ({error}): free some space, then resume with --resume"
        ) from error
