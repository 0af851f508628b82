import pytest
import torch
from steps import context
from torch import nn

from DanteTrainerLib.loop.average import update_average, with_average
from DanteTrainerLib.loop.stage import Deployed, LossTerms, Stage


def constant(value):
    network = nn.Linear(1, 1, bias=False)
    nn.init.constant_(network.weight, value)
    return network


def stage(frozen=()):
    networks = nn.ModuleDict({"net": constant(0.0), "teacher": constant(5.0)})
    deployed = {"limited": Deployed(lambda: networks["net"], ("t1",))}
    frozen = dict.fromkeys(frozen, 1.0)
    return Stage("one", networks, 10, lambda *_: LossTerms({}), frozen_until=frozen, deployed=deployed)


def test_average_follows_its_decay():
    average, network = constant(1.0), constant(3.0)
    update_average(average, network, 0.75)
    assert average.weight.item() == pytest.approx(0.75 * 1 + 0.25 * 3)


def test_counters_are_copied_instead_of_averaged():
    average, network = nn.BatchNorm1d(1), nn.BatchNorm1d(1)
    network.num_batches_tracked.fill_(7)
    update_average(average, network, 0.75)
    assert average.num_batches_tracked == 7


def test_early_steps_have_little_weight_and_the_deployed_network_is_the_average():
    whole = with_average(stage(), decay=0.2)
    weight = whole.networks["net"].weight
    for step, value in enumerate((10.0, 20.0)):
        nn.init.constant_(weight, value)
        whole.after_step(context(step))
    # decays min(0.2, 1/10) and min(0.2, 2/11)
    wanted = (2 / 11) * (0.1 * 0 + 0.9 * 10) + (9 / 11) * 20
    assert whole.deployed["limited"].network().weight.item() == pytest.approx(wanted)


def test_average_and_frozen_parameters_get_no_updates():
    whole = with_average(stage(frozen=["teacher"]), decay=0.9)
    whole.freeze(0.5)
    moving = {name for name, parameter in whole.networks.named_parameters() if parameter.requires_grad}
    assert moving == {"net.weight"} and set(whole.networks["average"]) == {"net"}


def test_other_after_step_callback_is_still_called():
    from dataclasses import replace

    called = []
    whole = with_average(replace(stage(), after_step=lambda c: called.append(c.step)), decay=0.9)
    whole.after_step(context(3))
    assert called == [3] and torch.isfinite(whole.networks["average"]["net"].weight).all()
