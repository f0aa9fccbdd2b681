"""Values that an option may take, where forms and the shell need them before anything is loaded."""

from __future__ import annotations

from typing import Literal, TypeAlias

Tta: TypeAlias = Literal["none", "rotations", "full"]
OutputName: TypeAlias = Literal["classes", "scores"]
ScoresDtype: TypeAlias = Literal["uint8", "float16", "float32"]
Engine: TypeAlias = Literal["store", "map_overlap"]
Traversal: TypeAlias = Literal["auto", "tiles", "sweep"]
OmeVersion: TypeAlias = Literal["0.5", "0.4"]
Tissue: TypeAlias = Literal["auto", "saturated", "dark", "bright"]
ThresholdMethod: TypeAlias = Literal["otsu", "triangle", "li"]
Frame: TypeAlias = Literal["box", "volume"]
Objects: TypeAlias = Literal["ids", "components", "watershed"]

DEFAULT_THRESHOLDS = tuple(round(0.05 * step, 2) for step in range(1, 20))
"""Score thresholds of an evaluation: 0.05, 0.1 … 0.95."""

DECODED_CACHE_BYTES = 2**27
"""Most bytes of decoded strips, tiles and slices that a process keeps, all volumes together."""
