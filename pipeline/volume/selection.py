"""What the user chose of an image, checked against what it has: channels and a time point."""

from __future__ import annotations

from collections.abc import Sequence

from ..base.errors import VolumeError


def chosen_channels(
    channel: int | str | Sequence[int | str] | None,
    count: int | None,
    *,
    labels: Sequence[str],
    where: str,
) -> tuple[int, ...] | None:
    """Return the channels' numbers, or None for all. count: channels there are, None without c.

    A text is a label first, then a number. Raises VolumeError for what is not there, or twice.
    """
    if channel is None:
        return None
    if count is None:
        raise VolumeError(f"{where} has no channel axis: leave the channel out, or say --axes")
    wanted = [channel] if isinstance(channel, int | str) else list(channel)
    if not wanted:
        raise VolumeError(f"{where}: no channel is chosen; it has {_named(count, labels)}")
    numbers = tuple(_number(one, count, labels, where) for one in wanted)
    if len(set(numbers)) != len(numbers):
        raise VolumeError(f"{where}: a channel is chosen twice: {', '.join(map(str, wanted))}")
    return numbers


def _number(channel: int | str, count: int, labels: Sequence[str], where: str) -> int:
    if isinstance(channel, str):
        if labels.count(channel) == 1:
            return labels.index(channel)
        if labels.count(channel) > 1:
            raise VolumeError(f"{where}: several channels are named {channel!r}; give a number")
    text = str(channel).strip()
    if not text.isdecimal() or int(text) >= count:
        raise VolumeError(f"{where} has no channel {channel!r}; it has {_named(count, labels)}")
    return int(text)


def _named(count: int, labels: Sequence[str]) -> str:
    if not any(labels):
        return f"0 to {count - 1}" if count > 1 else "only 0"
    shown = [f"{number} ({label})" for number, label in enumerate(labels[:count])]
    return ", ".join(shown[:12]) + (f" … ({len(shown) - 12} more)" if len(shown) > 12 else "")


def chosen_time(time: int | None, count: int | None, *, where: str) -> int | None:
    """Return the time point, None where there is no such axis. The only one is taken unasked."""
    if count is None:
        if time is not None:
            raise VolumeError(f"{where} has no time axis: leave the time point out, or say --axes")
        return None
    if time is None and count > 1:
        raise VolumeError(
            f"{where} has {count} time points: choose one with --time 0 to {count - 1}"
        )
    if time is not None and not 0 <= time < count:
        raise VolumeError(f"{where} has no time point {time}; it has 0 to {count - 1}")
    return time or 0
