"""Messages between the driver and its ranks: frozen dataclasses, sent as plain values.

They travel as msgpack through the Dask scheduler, on a topic that every client may write to. So
nothing is unpickled: a message names its type, and only the types that a :class:`Codec` lists are
built from it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields, is_dataclass
from typing import Any, Literal, TypeAlias


@dataclass(frozen=True, slots=True, kw_only=True)
class RankReport:
    """What one rank reported: an instance of a type that the caller listed."""

    attempt: int
    rank: int
    payload: Any


@dataclass(frozen=True, slots=True, kw_only=True)
class TurnChanged:
    """The devices pass to other work on the same workers, or back to the ranks."""

    holder: Literal["others", "ranks"]


@dataclass(frozen=True, slots=True, kw_only=True)
class RanksResumed:
    """All ranks start again: one was lost, or workers joined, or are about to end."""

    attempt: int
    """1 after the first loss, turn or change of the workers."""
    world_size: int
    reason: str


RankEvent: TypeAlias = RankReport | TurnChanged | RanksResumed


@dataclass(frozen=True, slots=True, kw_only=True)
class RankAssignment:
    """Which rank a task is; submitted with it."""

    channel: str
    attempt: int
    rank: int
    world_size: int
    timeout_s: float
    """Of a collective."""
    message_types: tuple[type, ...]
    """What the rank may report."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrived:
    """Rank to driver: the rank has its worker and waits for the others."""

    attempt: int
    rank: int
    host: str
    port: int
    """Of rank 0's store; 0 on other ranks."""
    gpu: str | None
    """UUID; None on a CPU."""
    nccl: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Left:
    """Rank to driver: no code of the rank runs any more."""

    attempt: int
    rank: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Leaving:
    """Rank to driver: its worker is about to end, so the rank asks all others to leave."""

    attempt: int
    rank: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Rendezvous:
    """How the ranks connect: the address of rank 0's store, and torch's backend."""

    host: str
    port: int
    backend: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """Driver to the ranks of one attempt; each order replaces the one before it."""

    attempt: int
    rendezvous: Rendezvous | None = None
    """Set once every rank has its worker."""
    stop: bool = False
    regroup: bool = False
    """Other workers could join: the ranks leave when they have next saved their state."""


FROM_RANK = (Arrived, Left, Leaving, RankReport)
FROM_DRIVER = (Order, Rendezvous)

_TYPE, _FIELDS = "dataclass", "fields"


class Codec:
    """Dataclasses of the listed types to plain values and back."""

    def __init__(self, types: Iterable[type]) -> None:
        """Raise ValueError for a type that is not a dataclass, or a name that stands twice."""
        self._types: dict[str, type] = {}
        for one in types:
            if not is_dataclass(one) or one.__name__ in self._types:
                raise ValueError(
                    f"message type {one.__name__}: expected dataclasses with different names"
                )
            self._types[one.__name__] = one

    def encode(self, value: object) -> Any:
        """Return ``value`` as plain values; sequences become tuples.

        Raises TypeError for dataclasses that are not listed, and for values that msgpack does not
        carry: a message that cannot be sent would break the worker's connection.
        """
        if is_dataclass(value) and type(value).__name__ in self._types:
            plain = {field.name: self.encode(getattr(value, field.name)) for field in fields(value)}
            return {_TYPE: type(value).__name__, _FIELDS: plain}
        if isinstance(value, Mapping):
            return {str(name): self.encode(one) for name, one in value.items()}
        if isinstance(value, (list, tuple)):
            return tuple(self.encode(one) for one in value)
        if value is None or isinstance(value, (bool, int, float, str, bytes)):
            return value
        raise TypeError(
            f"message value of type {type(value).__name__}: expected plain values or one of "
            f"{', '.join(self._types)}; list its dataclass in message_types"
        )

    def decode(self, value: object) -> Any:
        """Return what :meth:`encode` was given. Raises ValueError for anything else."""
        if isinstance(value, Mapping):
            if not {_TYPE, _FIELDS} <= value.keys():  # Worker.log_event adds its address
                return {name: self.decode(one) for name, one in value.items()}
            try:
                values = {name: self.decode(one) for name, one in value[_FIELDS].items()}
                return self._types[value[_TYPE]](**values)
            except (KeyError, TypeError, AttributeError) as error:
                raise ValueError(f"not a message of a listed type: {error}") from error
        if isinstance(value, (list, tuple)):
            return tuple(self.decode(one) for one in value)
        return value
