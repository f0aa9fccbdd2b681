"""The weights that a training starts from: what they state, their tensors, their record."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.base.errors import TrainingError, WeightsError
from pipeline.base.redaction import redacted

from ...recipe.training_config import Recipe
from ...samples.rules.registry import outputs_of
from ...weights.file import WeightsInfo, load_weights, read_weights_info
from ...weights.location import settle_uri

if TYPE_CHECKING:
    from torch import Tensor

    from ...network.model import UNet

SHOWN_DIGITS = 12
"""Of a digest, in messages."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StartWeights:
    """Weights that a training starts from; small, picklable. The tensors are read by the ranks."""

    uri: str
    info: WeightsInfo

    @classmethod
    def of(cls, start_from: str | os.PathLike[str] | StartWeights | None) -> StartWeights | None:
        """Return the weights of a path, a URI or a bundled name; None for None.

        Raises WeightsError for what is not a weights file of overtile's.
        """
        if start_from is None or isinstance(start_from, StartWeights):
            return start_from
        uri = settle_uri(start_from)
        return cls(uri=uri, info=read_weights_info(uri))

    @property
    def name(self) -> str:
        """The file's name or a bundled name, or the URI without credentials; no folders."""
        return redacted(self.uri) if "://" in self.uri else Path(self.uri).name

    @property
    def normalisation(self) -> dict[str, Any] | None:
        """The record to normalise the training's volumes with; None where the weights state none.

        Without the level on which it was measured, which the volumes may not have.
        """
        record = self.info.normalisation
        return None if record is None else {k: v for k, v in record.items() if k != "level"}

    def record(self) -> dict[str, str]:
        """Return what checkpoints and weights state about it, as JSON."""
        return {"weights": self.name, "sha256": self.info.digest}

    def takes_head(self, recipe: Recipe) -> bool:
        """Return whether a completed recipe has the output channels of the weights."""
        network, info = recipe.network, self.info
        same_kind = outputs_of(recipe.labels, dims=network.dims) == info.outputs
        same_names = recipe.class_names == info.class_names
        return same_kind and same_names and network.classes == info.config.classes

    def check_tensors(self) -> None:
        """Raise WeightsError for tensors that are damaged or not finite, before anything starts."""
        load_weights(self.uri)

    def tensors(self, fresh: UNet, recipe: Recipe) -> dict[str, Tensor]:
        """Return the tensors of a training's first step; ``fresh`` is its network, initialised.

        Raises WeightsError if the file has changed since it was checked.
        """
        from ...network.adapt import adapted_tensors

        model, info = load_weights(self.uri)
        if info.digest != self.info.digest:
            raise WeightsError(
                f"weights {redacted(self.uri)!r} have changed since this training was prepared: "
                "start the command again"
            )
        with_head = self.takes_head(recipe)
        return adapted_tensors(model.state_dict(), fresh.state_dict(), with_head=with_head)


def start_record(start: StartWeights | None) -> dict[str, Any]:
    """Return the entry ``start`` of a checkpoint's record or of a provenance; {} without one."""
    return {} if start is None else {"start": start.record()}


def check_not_replaced(start: StartWeights | None, out: Path) -> None:
    """Raise TrainingError if the weights to create are those to start from."""
    if start is not None and os.path.isabs(start.uri) and os.path.realpath(start.uri) == str(out):
        raise TrainingError(
            f"--from and --out are the same file, {str(out)!r}: choose another --out"
        )


def check_same_start(before: Mapping[str, Any], start: StartWeights | None) -> None:
    """Raise TrainingError if a checkpoint's record, or a provenance, states another start."""
    stated = before.get("start")
    then = stated if isinstance(stated, Mapping) else {}
    now = {} if start is None else start.record()
    if then.get("sha256") != now.get("sha256"):
        raise TrainingError(
            f"the checkpoint's training started {_text(then)}, this one starts {_text(now)}: "
            "resume with the same --from, or choose another --out"
        )


def _text(record: Mapping[str, Any]) -> str:
    if not record:
        return "without --from"
    digest = str(record.get("sha256"))[:SHOWN_DIGITS]
    return f"from {record.get('weights')} (sha256 {digest}…)"
