"""The arguments with which a segmentation finds objects too."""

from __future__ import annotations

import argparse

from pipeline.base.errors import PlanError

from ..options.declared import words_of
from ..options.objects import ObjectDefinition
from ..options.segment import SegmentOptions
from .arguments import read_options


def read_definition(options: argparse.Namespace) -> ObjectDefinition | None:
    """Return what objects are, or None without ``--objects``. Raises PlanError."""
    definition = read_options(ObjectDefinition, options)
    if options.objects:
        return definition
    if words := words_of(definition):
        raise PlanError(f"{words[0]} defines objects: pass --objects too")
    return None


def read_segment_options(options: argparse.Namespace) -> SegmentOptions:
    """Return the options of a segmentation, with scores where objects are made from them."""
    parameters = read_options(SegmentOptions, options)
    return parameters.finding_objects() if options.objects else parameters
