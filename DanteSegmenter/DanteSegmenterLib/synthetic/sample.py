"""Synthetic patients with ground truth, for the demo, Slicer's Sample Data and the tests.

No public volume may be redistributed, and new users have none at hand. These need only numpy and scipy, and are
reproducible by seed:

    brain_mr(seed)   T1, T1ce, T2, FLAIR of a brain with a glioma, in BraTS's world
    chest_ct(seed)   paired chest CT without and with contrast, with pulmonary embolism

They resemble patients closely enough for a network trained on real ones to find its target, but must not be used to
learn medicine from.
"""

from __future__ import annotations

from .brain_mr import brain_mr
from .chest_ct import chest_ct
from .shapes import SyntheticPatient

__all__ = ["SyntheticPatient", "brain_mr", "chest_ct"]
