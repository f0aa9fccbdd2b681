"""The channels and the time point that a user selects, checked against the image."""

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
    """Return the channels' numbers, or None for all.

    count: number of channels, None if there is no c.
    A str is matched as a label first, then as a number. Raises VolumeError for a channel that does
    not exist or is selected twice.
    """
    if channel is None:
        return None
    if count is None:
        raise VolumeError(f"{where} has no channel axis: omit the channel, or pass --axes")
    selected = [channel] if isinstance(channel, int | str) else list(channel)
    if not selected:
        raise VolumeError(f"{where}: no channel is selected; it has {_named(count, labels)}")
    numbers = tuple(_number(one, count, labels, where) for one in selected)
    if len(set(numbers)) != len(numbers):
        raise VolumeError(f"{where}: a channel is selected twice: {', '.join(map(str, selected))}")
    return numbers


def name_notes(
    channel: int | str | Sequence[int | str] | None, numbers: Sequence[int] | None, count: int
) -> tuple[str, ...]:
    """Return notes on channels whose names could be taken for the numbers of others."""
    if channel is None or numbers is None:
        return ()
    selected = [channel] if isinstance(channel, int | str) else list(channel)
    return tuple(
        f"channel {one!r} is the name of channel number {number}, which is read"
        for one, number in zip(selected, numbers, strict=True)
        if isinstance(one, str) and one.strip().isdecimal() and number != int(one) < count
    )


def _number(channel: int | str, count: int, labels: Sequence[str], where: str) -> int:
    text = str(channel).strip()
    if isinstance(channel, str):
        named = channel if channel in labels else text
        if labels.count(named) == 1:
            return labels.index(named)
        if labels.count(named) > 1:
            raise VolumeError(f"{where}: several channels are named {named!r}; pass a number")
    if not text.isdecimal() or int(text) >= count:
        shown = text if text.isdecimal() else repr(channel)
        raise VolumeError(f"{where} has no channel {shown}; it has {_named(count, labels)}")
    return int(text)


def _named(count: int, labels: Sequence[str]) -> str:
    if not any(labels):
        return f"0 to {count - 1}" if count > 1 else "only 0"
    shown = [f"{number} ({label})" for number, label in enumerate(labels[:count])]
    return ", ".join(shown[:12]) + (f" … ({len(shown) - 12} more)" if len(shown) > 12 else "")


def chosen_time(time: int | None, count: int | None, *, where: str) -> int | None:
    """Return the time point, or None without a time axis. By default the only one is used."""
    if count is None:
        if time is not None:
            raise VolumeError(f"{where} has no time axis: omit the time point, or pass --axes")
        return None
    if time is None and count > 1:
        raise VolumeError(
            f"{where} has {count} time points: select one with --time 0 to {count - 1}"
        )
    if time is not None and not 0 <= time < count:
        raise VolumeError(f"{where} has no time point {time}; it has 0 to {count - 1}")
    return time or 0
