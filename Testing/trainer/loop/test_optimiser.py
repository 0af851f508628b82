"""Learning rates by hand, and each optimiser against torch's own."""

import copy

import pytest
import torch
from steps import batch, context
from torch import nn

from DanteSegmenterLib.errors import ConfigError
from DanteTrainerLib.loop.optimiser import TrainingFailed, Updater, rate_of
from DanteTrainerLib.loop.stage import LossTerms, Stage, Term
from DanteTrainerLib.methods.dante.stages import stages
from DanteTrainerLib.settings.loading import load_experiment
from DanteTrainerLib.settings.tables import OptimiserSettings
from DanteTrainerLib.settings.tasks import BRAIN

ADAMW = OptimiserSettings("adamw", 0.001, betas=(0.9, 0.95), weight_decay=0.05, warm_up=0.1, schedule="cosine")


@pytest.mark.parametrize(
    ("step", "rate"),
    [(0, 0.0001), (4, 0.0005), (9, 0.001), (10, 0.001), (55, 0.0005), (100, 0.0)],
)
def test_warm_up_of_a_tenth_then_half_a_cosine(step, rate):
    assert rate_of(step, 100, ADAMW) == pytest.approx(rate)


def test_schedule_without_warm_up_matches_nnunet():
    assert rate_of(50, 100, OptimiserSettings()) == pytest.approx(0.01 * 0.5**0.9)


def toy():
    torch.manual_seed(0)
    networks = nn.ModuleDict({"one": nn.Conv3d(4, 1, 1)})
    return networks, lambda b, c: LossTerms({"mean": Term(networks["one"](b.images).square().mean())})


@pytest.mark.parametrize("own", [None, ADAMW])
def test_stage_uses_its_own_optimiser_or_that_of_the_run(own):
    networks, loss = toy()
    updater = Updater(
        Stage("one", networks, 100, loss, optimiser=own), OptimiserSettings(), torch.device("cpu"), torch.float32
    )  # fmt: skip
    for step in (20, 21):
        updater.step(batch(), context(step))
    theirs, their_loss = toy()
    if own is None:
        reference = torch.optim.SGD(theirs.parameters(), 0.01, momentum=0.99, nesterov=True, weight_decay=3e-5)
    else:
        reference = torch.optim.AdamW(theirs.parameters(), 0.001, betas=(0.9, 0.95), weight_decay=0.05)
    for step in (20, 21):
        reference.param_groups[0]["lr"] = rate_of(step, 100, own or OptimiserSettings())
        reference.zero_grad()
        their_loss(batch(), context(step)).total.backward()
        torch.nn.utils.clip_grad_norm_(theirs.parameters(), 12)
        reference.step()
    for ours, wanted in zip(networks.parameters(), theirs.parameters()):
        assert (ours - wanted).abs().max() < 1e-6


def test_resumed_run_keeps_momentum_and_uses_new_settings():
    networks, loss = toy()
    stage, cpu = Stage("one", networks, 100, loss), torch.device("cpu")
    first = Updater(stage, OptimiserSettings(momentum=0.9), cpu, torch.float32)
    first.step(batch(), context(20))
    state = copy.deepcopy(first.state())
    resumed = Updater(stage, OptimiserSettings(momentum=0.5, weight_decay=0.25), cpu, torch.float32)
    resumed.load(state)
    weights = [p.detach().clone() for p in networks.parameters()]
    momentum = [entry["momentum_buffer"].clone() for entry in state["optimiser"]["state"].values()]
    resumed.step(batch(), context(21))
    rate = rate_of(21, 100, OptimiserSettings())
    for now, before, velocity in zip(networks.parameters(), weights, momentum):
        # Nesterov (Sutskever et al. 2013) as torch has it: v = m v + g, w -= rate * (g + m v), with g decayed.
        gradient = now.grad + 0.25 * before
        wanted = before - rate * (gradient + 0.5 * (0.5 * velocity + gradient))
        assert (now - wanted).abs().max() < 1e-6


def test_run_without_a_loss_scale_can_resume_in_fp16():
    networks, loss = toy()
    stage, cpu = Stage("one", networks, 100, loss), torch.device("cpu")
    without = Updater(stage, OptimiserSettings(), cpu, torch.bfloat16).state()
    scaled = Updater(stage, OptimiserSettings(), cpu, torch.float16)
    scaled.load(without)
    assert scaled.scaler.get_scale() == 65536


def test_stage_1_may_have_another_optimiser_than_stage_2():
    words = ["pretrain_optimiser.kind=adamw", "pretrain_optimiser.learning_rate=0.001", "learning_rate=0.02"]
    first, second = stages(load_experiment("brats-2mm", words, method="dante"), BRAIN)
    assert first.optimiser == OptimiserSettings("adamw", 0.001) and second.optimiser is None
    assert load_experiment("brats-2mm", words).optimiser.learning_rate == 0.02


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("optimiser.kind=lion", "optimiser.kind must be one of sgd, adamw"),
        ("pretrain_optimiser.warm_up=1", "pretrain_optimiser.warm_up must be at most 0.99"),
        ("optimiser.betas=[0.9, 1.0]", "optimiser.betas must lie between 0 and 1"),
    ],
)
def test_invalid_optimiser_settings_are_refused(word, message):
    with pytest.raises(ConfigError, match=message.replace(".", r"\.")):
        load_experiment("brats-2mm", [word])


def two_networks(**options):
    torch.manual_seed(0)
    networks = nn.ModuleDict({"fast": nn.Conv3d(4, 1, 1), "slow": nn.Conv3d(4, 1, 1)})

    def loss(b, _):
        return LossTerms({name: Term(network(b.images).square().mean()) for name, network in networks.items()})

    return Stage("one", networks, 100, loss, **options)


def test_network_with_its_own_rate_is_updated_less():
    plain = OptimiserSettings(momentum=0.0, weight_decay=0.0, clip_norm=1e9)
    moved = []
    for rates in ({}, {"slow": 0.1}):
        stage = two_networks(rates=rates)
        before = {name: network.weight.detach().clone() for name, network in stage.networks.items()}
        Updater(stage, plain, torch.device("cpu"), torch.float32).step(batch(), context(0))
        moved.append({name: network.weight.detach() - before[name] for name, network in stage.networks.items()})
    assert torch.equal(moved[1]["fast"], moved[0]["fast"])
    assert torch.allclose(moved[1]["slow"], 0.1 * moved[0]["slow"], atol=1e-7)


@pytest.mark.parametrize("scaled", [False, True], ids=["single precision", "losses of fp16 scaled up"])
def test_gradients_are_clipped_independently_of_the_loss_scale(scaled):
    plain = OptimiserSettings(momentum=0.0, weight_decay=0.0, clip_norm=0.25)
    stage = two_networks()
    mover = Updater(stage, plain, torch.device("cpu"), torch.float16 if scaled else torch.float32)
    mover.dtype = torch.float32  # CPUs convolve in no other format
    before = nn.utils.parameters_to_vector(stage.networks.parameters()).detach()
    mover.step(batch(), context(0))
    moved = nn.utils.parameters_to_vector(stage.networks.parameters()).detach() - before
    assert moved.norm().item() == pytest.approx(0.01 * 0.25, rel=1e-3)


def test_network_is_frozen_until_its_share_of_the_stage():
    stage = two_networks(frozen_until={"slow": 0.5})
    for share, moves in ((0.0, False), (0.49, False), (0.5, True), (0.99, True)):
        stage.freeze(share)
        assert stage.networks["slow"].weight.requires_grad == moves and stage.networks["fast"].weight.requires_grad
    never = two_networks(frozen_until={"slow": 1.0})
    never.freeze(1.0)
    assert not never.networks["slow"].weight.requires_grad


def test_non_finite_loss_updates_nothing():
    stage = two_networks()
    mover = Updater(stage, OptimiserSettings(), torch.device("cpu"), torch.float32)
    before = copy.deepcopy(stage.networks.state_dict())
    nothing = batch()
    nothing.images[0, 0, 0, 0, 0] = float("nan")
    with pytest.raises(TrainingFailed, match=r"step 7: the loss is not finite \(fast nan, slow nan\)"):
        mover.step(nothing, context(7))
    assert all(torch.equal(value, before[name]) for name, value in stage.networks.state_dict().items())


def test_after_step_is_called_after_the_update_without_gradients():
    seen = []
    stage = two_networks(after_step=lambda c: seen.append((c.step, torch.is_grad_enabled(), weight().clone())))

    def weight():
        return stage.networks["fast"].weight.detach()

    before = weight().clone()
    Updater(stage, OptimiserSettings(), torch.device("cpu"), torch.float32).step(batch(), context(7))
    [(step, grad, after)] = seen
    assert step == 7 and not grad and torch.equal(after, weight()) and not torch.equal(after, before)
