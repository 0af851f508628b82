"""What a run is asked for beside a model and volumes: the same for window, command line, batch and evaluation."""

from __future__ import annotations

from dataclasses import dataclass

DEEPBET = "deepbet>=1.0"  # what extracts the brain where `prepare` is asked for


@dataclass(frozen=True)
class SegmentOptions:
    """How volumes are segmented.

    Attributes:
        mirror: average over the eight mirrorings of each window; takes eight times as long.
        prepare: a raw study: align its volumes with the first one and extract the brain before.
        probabilities: keep the probability of every region in the result.
        limited: leave the privileged scan out where it is there.
    """

    mirror: bool = False
    prepare: bool = False
    probabilities: bool = False
    limited: bool = False


DEFAULTS = SegmentOptions()
