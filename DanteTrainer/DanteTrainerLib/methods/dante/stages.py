"""DANTE: Disentangling for Transfer (AAAI 2026, doi 10.1609/aaai.v40i15.38305).

Stage 1 pre-trains three encoders by cross-modal masked reconstruction (eq. 7-9). Stage 2 trains both pathways,
f_L = D_L(E_L(X^L)) and f_F = D_F(psi(E_A(X^F), E_P(X^F))), with mutual alignment of Z^A and Z^L and compaction
of the privileged correction (eq. 2-6). E_L and D_L are deployed; f_F is the model's full pathway.
"""

from __future__ import annotations

import torch

from ...loop.stage import Stage
from ...settings.experiment import Experiment
from ...settings.tasks import Task
from .stage_1 import cross_modal, naive
from .stage_2 import both_pathways
from .teacher_stage import full_pathway


def stages(experiment: Experiment, task: Task) -> list[Stage]:
    """Stage 1 if `run.pretrain_steps` > 0, f_F alone if `mature_teacher` > 0, and Stage 2."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(experiment.seed)
        result = []
        if experiment.run.pretrain_steps:
            result.append(naive(experiment, task) if experiment.dante.naive else cross_modal(experiment, task))
        if experiment.dante.mature_teacher:
            result.append(full_pathway(experiment, task, pretrained=bool(result)))
        result.append(both_pathways(experiment, task, [stage.name for stage in result]))
        return result
