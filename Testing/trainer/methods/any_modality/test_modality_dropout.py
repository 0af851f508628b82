from dataclasses import replace

import pytest
import torch
from small_trainings import small
from steps import batch, context

from DanteTrainerLib.loop.history import sum_over_steps
from DanteTrainerLib.methods.any_modality import robustseg
from DanteTrainerLib.methods.any_modality.modality_dropout import draw_present, share_without_privileged
from DanteTrainerLib.settings.tables import DroppingSettings
from DanteTrainerLib.settings.tasks import BRAIN

T1CE = BRAIN.full.index("t1ce")


def step_of(seed):
    return replace(context(0), generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("probability", [0.25, 0.5, 1.0])
def test_only_the_privileged_modality_is_dropped_at_the_set_rate(probability):
    dropping = DroppingSettings(probability=probability)
    drawn = torch.cat([draw_present(batch(), BRAIN, step_of(n), dropping) for n in range(300)])
    assert (drawn[:, BRAIN.limited_channels] == 1).all()
    assert drawn[:, T1CE].mean().item() == pytest.approx(1 - probability, abs=0.08)


def test_distributed_processes_drop_like_a_single_one():
    four = replace(batch(), images=batch().images.repeat(2, 1, 1, 1, 1))
    alone = draw_present(four, BRAIN, step_of(7), DroppingSettings())
    parts = [
        draw_present(batch(), BRAIN, replace(step_of(7), rank=n, world_size=2), DroppingSettings()) for n in (0, 1)
    ]
    assert torch.equal(torch.stack(parts, dim=1).flatten(0, 1), alone)


def test_log_counts_steps_without_the_privileged_scan():
    assert share_without_privileged(torch.tensor([[1.0, 0, 1, 1], [1, 1, 1, 1]]), BRAIN) == {
        "without_privileged_share": 0.5
    }
    rows = [{"stage": "s", "step": 10, "log_without_privileged_share": 0.5}, {"stage": "s", "step": 14}]
    rows += [{"stage": "s", "step": 20, "log_without_privileged_share": 1.0}]
    assert sum_over_steps(rows, "log_without_privileged_share") == 5 + 6
    stage = robustseg.stages(small("robustseg", "dropping.probability=1"), BRAIN)[0]
    assert stage.loss(batch(), context(0)).logged == {"without_privileged_share": 1.0}
