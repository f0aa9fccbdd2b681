"""What the output channels of a network are: classes, affinities, a distance, or centres.

One small value for weights files, predictors and images of scores: docs/training-targets.md.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeAlias, get_args

from .errors import ConfigError
from .text import brief, shortened

OutputsKind: TypeAlias = Literal["classes", "affinities", "distance", "centre"]
Activation: TypeAlias = Literal["softmax", "sigmoid"]
Offset: TypeAlias = tuple[int, ...]

ATTRIBUTE: Final = "overtile"
"""Of the group of an image of scores: holds :meth:`NetworkOutputs.to_json`, unless of classes."""
FURTHEST: Final = 1024
"""Voxels along an axis that an offset may reach."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkOutputs:
    """What the channels of a network's scores are; by default, classes.

    Raises ConfigError for a kind that is not known, and for offsets that are malformed.
    """

    kind: OutputsKind = "classes"
    offsets: tuple[Offset, ...] = ()
    """Of affinities, one per channel, in voxels per axis (z,) y, x: channel k is the score that a
    voxel v and the voxel v + offsets[k] belong to one object."""

    def __post_init__(self) -> None:
        if self.kind not in get_args(OutputsKind):
            raise ConfigError(
                f"outputs ({brief(self.kind)}): expected one of {', '.join(get_args(OutputsKind))}"
            )
        if self.kind == "affinities":
            check_offsets(self.offsets)
        elif self.offsets:
            raise ConfigError(f"offsets go with outputs affinities, not {self.kind}")

    @property
    def activation(self) -> Activation:
        """How scores follow from the network's last layer."""
        return "softmax" if self.kind == "classes" else "sigmoid"

    @property
    def has_classes(self) -> bool:
        """Whether each voxel has one class: that of the highest score."""
        return self.kind == "classes"

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the channels; none of classes, which have names of their own."""
        if self.kind == "affinities":
            return tuple(f"affinity {','.join(map(str, offset))}" for offset in self.offsets)
        return () if self.kind == "classes" else (self.kind,)

    def check_network(self, *, channels: int, dims: int) -> None:
        """Raise ConfigError unless a network of so many output channels and axes has these."""
        if self.offsets and len(self.offsets[0]) != dims:
            raise ConfigError(
                f"offset {list(self.offsets[0])}: expected {dims} steps for a {dims}-D network"
            )
        if self.kind == "classes":
            if channels < 2:
                raise ConfigError(f"{channels} class: expected 2 or more, background included")
        elif channels != len(self.names):
            raise ConfigError(
                f"{channels} output channels for {self.kind}: expected {len(self.names)} "
                f"({shortened('; '.join(self.names), most=80)})"
            )

    def in_zyx(self) -> NetworkOutputs:
        """Return the same outputs with offsets along z, y and x: 0 in z where they have no z."""
        padded = tuple((0,) * (3 - len(offset)) + offset for offset in self.offsets)
        return NetworkOutputs(kind=self.kind, offsets=padded)

    def to_json(self) -> dict[str, Any]:
        """Return the value as JSON; :meth:`from_json` reads it."""
        stated: dict[str, Any] = {"outputs": self.kind, "activation": self.activation}
        if self.offsets:
            stated["offsets"] = [list(offset) for offset in self.offsets]
        return stated

    @classmethod
    def from_json(cls, stated: Mapping[str, Any]) -> NetworkOutputs:
        """Return the value of a record; without ``outputs`` it is classes. Raises ConfigError."""
        if not isinstance(stated, Mapping):
            raise ConfigError(f"outputs ({brief(stated)}): expected an object")
        offsets = stated.get("offsets", ())
        is_list = isinstance(offsets, list | tuple)
        if not is_list or not all(isinstance(one, list | tuple) for one in offsets):
            raise ConfigError(f"offsets ({brief(offsets)}): expected a list of lists of integers")
        found = cls(kind=stated.get("outputs", "classes"), offsets=tuple(map(tuple, offsets)))
        if (activation := stated.get("activation", found.activation)) != found.activation:
            raise ConfigError(
                f"activation ({brief(activation)}): expected {found.activation} for outputs "
                f"{found.kind}; update overtile"
            )
        return found


CLASSES: Final = NetworkOutputs()


def nearest_offsets(dims: int) -> tuple[Offset, ...]:
    """Return the offset to the neighbour before a voxel, along each axis.

    >>> nearest_offsets(2)
    ((-1, 0), (0, -1))
    """
    return tuple(tuple(-int(axis == own) for own in range(dims)) for axis in range(dims))


def check_offsets(offsets: Sequence[Sequence[int]]) -> None:
    """Raise ConfigError unless these are distinct offsets to other voxels, all of 2 or of 3 axes.

    An offset and its opposite are the same pairs of voxels, and refused like an offset twice.
    """
    if not offsets:
        raise ConfigError("offsets ([]): expected one or more, such as [-1, 0, 0]")
    axes = len(offsets[0])
    seen: set[tuple[int, ...]] = set()
    for offset in offsets:
        shown = brief(list(offset))
        if not all(isinstance(step, int) and not isinstance(step, bool) for step in offset):
            raise ConfigError(f"offset {shown}: expected integers, in voxels")
        if axes not in (2, 3) or len(offset) != axes:
            raise ConfigError(
                f"offset {shown}: expected {axes if axes in (2, 3) else '2 or 3'} steps, along "
                f"{'y and x' if axes == 2 else 'z, y and x'}, as in every other offset"
            )
        if not any(offset):
            raise ConfigError(f"offset {shown}: expected another voxel than the voxel itself")
        if max(map(abs, offset)) > FURTHEST:
            raise ConfigError(f"offset {shown}: expected steps of at most {FURTHEST} voxels")
        if tuple(offset) in seen:
            raise ConfigError(
                f"offset {shown} occurs twice, or with the opposite sign: expected every pair of "
                "voxels once"
            )
        seen |= {tuple(offset), tuple(-step for step in offset)}
