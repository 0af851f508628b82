"""Options of a segmentation besides model and volumes, shared by GUI, command line, batch and evaluation."""

from __future__ import annotations

from dataclasses import dataclass

DEEPBET = "deepbet>=1.0"  # brain extraction for `prepare`


@dataclass(frozen=True)
class SegmentOptions:
    """Options for segmenting volumes.

    Attributes:
        mirror: average over the eight mirrorings of each window; takes eight times as long.
        prepare: the study is raw: first align its volumes with the first one and extract the brain.
        probabilities: keep the probability of every region in the result.
        limited: do not use the privileged scan, even if it is given.
    """

    mirror: bool = False
    prepare: bool = False
    probabilities: bool = False
    limited: bool = False


DEFAULTS = SegmentOptions()
