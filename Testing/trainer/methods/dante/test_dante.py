import os
import subprocess
import sys
import time
from dataclasses import replace

import pytest
import torch
from conftest import REPOSITORY
from datasets import write_case
from steps import batch, context
from torch._subclasses.fake_tensor import FakeTensorMode

from DanteSegmenterLib.errors import Cancelled, ConfigError
from DanteSegmenterLib.inference import load_model, segment
from DanteSegmenterLib.model_folder import sha256_of
from DanteTrainerLib.data.patches import Batch
from DanteTrainerLib.loop.checkpoint import read_state
from DanteTrainerLib.loop.stage import StepContext
from DanteTrainerLib.methods.bounds import lower as lower_bound
from DanteTrainerLib.methods.dante import masking
from DanteTrainerLib.methods.dante.stage_2 import both_pathways
from DanteTrainerLib.methods.dante.stages import stages
from DanteTrainerLib.run.start import start_run
from DanteTrainerLib.run.train import continue_run
from DanteTrainerLib.settings.experiment import Experiment
from DanteTrainerLib.settings.loading import load_experiment
from DanteTrainerLib.settings.smoke import smoke
from DanteTrainerLib.settings.tables import OptimiserSettings
from DanteTrainerLib.settings.tasks import BRAIN, TASKS


def experiment(**settings) -> Experiment:
    small = smoke(load_experiment("brats-2mm", method="dante"))
    return replace(small, dante=replace(small.dante, **settings))


def stage_2(**settings):
    return stages(experiment(**settings), BRAIN)[1]


def with_other_t1ce(b):
    images = b.images.clone()
    images[:, BRAIN.full.index("t1ce")] += 5
    return replace(b, images=images)


def test_limited_pathway_never_sees_the_privileged_scan():
    stage = stage_2()
    assert torch.equal(stage.predict(batch().images), stage.predict(with_other_t1ce(batch()).images))
    before, after = (stage.loss(b, context(0)).terms for b in (batch(), with_other_t1ce(batch())))
    assert torch.equal(before["seg_L"].value, after["seg_L"].value)
    assert not torch.equal(before["seg_F"].value, after["seg_F"].value)


def test_loss_is_both_segmentations_plus_weighted_compaction_and_alignment():
    terms = stage_2().loss(batch(), context(50))
    assert {name: term.weight for name, term in terms.terms.items()} == {
        "seg_L": 1,
        "seg_F": 1,
        "pib": 0.3,
        "align": 0.5,
    }
    by_hand = sum(
        weight * terms.terms[name].value for name, weight in (("seg_L", 1), ("seg_F", 1), ("pib", 0.3), ("align", 0.5))
    )
    assert torch.allclose(terms.total, by_hand)


def test_auxiliary_terms_start_at_a_fifth_and_are_not_computed_before():
    stage = stage_2()
    assert set(stage.loss(batch(), context(19)).terms) == {"seg_L", "seg_F"}
    assert set(stage.loss(batch(), context(20)).terms) == {"seg_L", "seg_F", "pib", "align"}


def gradients(term, **settings):
    stage = stage_2(**settings)
    stage.loss(batch(), context(50)).terms[term].value.backward()
    return {
        name: any(p.grad is not None and p.grad.any() for p in net.parameters()) for name, net in stage.networks.items()
    }


@pytest.mark.parametrize(("step", "part"), [(20, 0.0), (25, 0.25), (30, 0.5), (40, 1.0), (99, 1.0)])
def test_ramp_increases_both_weights_linearly_from_the_onset(step, part):
    """By hand: from a fifth of 100 steps on, over a fifth of them."""
    terms = stage_2(align_ramp=0.2).loss(batch(), context(step)).terms
    assert terms["pib"].weight == pytest.approx(0.3 * part) and terms["align"].weight == pytest.approx(0.5 * part)


def test_corrections_start_at_the_set_scale():
    whole, tenth = (stage_2(fusion_init=factor).networks for factor in (1.0, 0.1))
    for (name, one), (_, other) in zip(whole.named_parameters(), tenth.named_parameters()):
        assert torch.equal(one * 0.1 if name.startswith("psi.") else one, other), name


def test_gradients_of_each_term_reach_the_parts_named_in_the_paper():
    nothing = dict.fromkeys(("E_L", "E_A", "E_P", "psi", "D_L", "D_F"), False)
    assert gradients("seg_L") == nothing | {"E_L": True, "D_L": True}
    assert gradients("seg_F") == nothing | {"E_A": True, "E_P": True, "psi": True, "D_F": True}
    assert gradients("pib") == nothing | {"E_A": True, "E_P": True, "psi": True}
    assert gradients("align") == nothing | {"E_L": True, "E_A": True}
    assert gradients("align", align_grad="to_L") == nothing | {"E_L": True}
    assert gradients("align", align_grad="to_A") == nothing | {"E_A": True}


@pytest.mark.parametrize("settings", [{"align": "l2"}, {"align": "infonce"}, {"align_norm": "channel_l2"}])
def test_other_alignments_are_selected_by_one_setting_and_differ(settings):
    plain = stage_2().loss(batch(), context(50)).terms["align"].value
    other = stage_2(**settings).loss(batch(), context(50)).terms["align"].value
    assert torch.isfinite(other) and not torch.allclose(plain, other)


def test_named_levels_are_aligned_and_all_by_default():
    def value(*levels, **settings):
        return stage_2(align_levels=levels, **settings).loss(batch(), context(50)).terms["align"].value.item()

    each = [value(n) for n in (1, 2, 3)]
    assert value() == pytest.approx(sum(each)) and value(3, 1) == pytest.approx(each[0] + each[2])
    assert value(level_reduction="mean") == pytest.approx(sum(each) / 3)
    # The bottleneck has 8 channels of 4^3 voxels.
    assert value(3, reduction="sum") == pytest.approx(8 * 4**3 * each[2], rel=1e-5)


@pytest.mark.parametrize("levels", [(0,), (4,), (1, 1)])
def test_missing_or_repeated_level_is_refused(levels):
    with pytest.raises(ConfigError, match="dante.align_levels must name levels from 1 to 3, none twice"):
        stage_2(align_levels=levels)


@pytest.mark.parametrize("setting", ["reduction", "level_reduction"])
def test_both_l1_terms_follow_the_reduction(setting):
    other = {"reduction": "sum", "level_reduction": "mean"}[setting]
    plain, changed = (stage_2(**s).loss(batch(), context(50)).terms for s in ({}, {setting: other}))
    for term in ("pib", "align"):
        assert not torch.allclose(plain[term].value, changed[term].value), term


def test_infonce_is_zero_without_foreground_in_the_batch():
    nothing = replace(batch(), foreground=torch.zeros(2, 1, 16, 16, 16, dtype=torch.bool))
    assert stage_2(align="infonce").loss(nothing, context(50)).terms["align"].value == 0


@pytest.mark.parametrize("settings", [{}, {"common_start": True}, {"naive": True}])
def test_limited_pathway_starts_like_the_lower_bound_of_the_same_seed(settings):
    """Any difference is then due to the method, not to different initial weights."""
    chosen = experiment(**settings)
    first, second = stages(chosen, BRAIN)
    (lower,) = lower_bound(chosen, BRAIN)
    e_l = lower.networks["unet"].encoder.state_dict()
    assert all(torch.equal(e_l[name], weight) for name, weight in first.networks["E_L"].state_dict().items())
    assert torch.equal(second.predict(batch().images), lower.predict(batch().images))
    (alone,) = lower.loss(batch(), context(0)).terms.values()
    assert torch.equal(second.loss(batch(), context(0)).terms["seg_L"].value, alone.value)


@pytest.mark.parametrize("of_stage", [0, 1])
def test_common_start_gives_both_encoders_equal_output_at_first(of_stage):
    images = batch().images

    def features(**settings):
        networks = stages(experiment(**settings), BRAIN)[of_stage].networks
        return networks["E_L"](images[:, BRAIN.limited_channels]), networks["E_A"](images)

    assert all(torch.allclose(z_l, z_a, atol=1e-5) for z_l, z_a in zip(*features(common_start=True)))
    assert not any(torch.allclose(z_l, z_a, atol=1e-2) for z_l, z_a in zip(*features()))


def test_common_start_gives_both_decoders_equal_weights():
    def alike(**settings):
        networks = stage_2(**settings).networks
        return all(torch.equal(a, b) for a, b in zip(networks["D_L"].parameters(), networks["D_F"].parameters()))

    assert alike(common_start=True) and not alike()


@pytest.mark.parametrize("decoder", ["D_L", "D_F"])
def test_deployed_encoder_is_used_with_the_chosen_decoder(decoder):
    stage, other = stage_2(limited_decoder=decoder), {"D_L": "D_F", "D_F": "D_L"}[decoder]
    images = batch().images
    features = stage.networks["E_L"](images[:, BRAIN.limited_channels])
    assert torch.equal(stage.predict(images), stage.networks[decoder](features))
    assert not torch.equal(stage.predict(images), stage.networks[other](features))
    written = stage.deployed["limited"].network().state_dict()
    for part, name in (("encoder", "E_L"), ("decoder", decoder)):
        theirs = stage.networks[name].state_dict()
        assert all(torch.equal(written[f"{part}.{key}"], value) for key, value in theirs.items())
    assert stage.loss(batch(), context(50)).terms.keys() == stage_2().loss(batch(), context(50)).terms.keys()


def test_without_stage_1_there_is_one_stage_and_nothing_is_frozen():
    small = experiment()
    only = stages(replace(small, run=replace(small.run, pretrain_steps=0)), BRAIN)
    assert [stage.name for stage in only] == ["stage-2"] and not only[0].frozen_until and not only[0].carried


@pytest.mark.parametrize("settings", [{}, {"masking": "dense"}, {"masking": "dense", "per_modality_masks": True}])
def test_stage_1_reconstructs_limited_from_limited_and_full_from_two_pairs(settings):
    stage = stages(experiment(**settings), BRAIN)[0]
    terms = stage.loss(batch(), context(0)).terms
    assert set(terms) == {"L_from_L", "F_from_AP", "F_from_LP"} and all(t.weight == 1 for t in terms.values())
    stage.loss(batch(), context(0)).total.backward()
    # Only the finest level's head: coarser heads of a reconstruction decoder are unused.
    unused = {n for n, net in stage.networks.items() if not any(p.grad is not None for p in net.parameters())}
    assert not unused and stage.augmentation == "spatial" and not stage.labelled_only


def test_naive_ablation_trains_three_separate_encoders():
    stage = stages(experiment(naive=True), BRAIN)[0]
    terms = stage.loss(batch(), context(0)).terms
    assert set(terms) == {"E_L", "E_A", "E_P"}
    terms["E_P"].value.backward()
    moved = {n for n, net in stage.networks.items() if any(p.grad is not None for p in net.parameters())}
    assert moved == {"E_P", "rec_E_P"}


def test_stage_1_masks_differ_between_steps_but_not_between_runs():
    stage = stages(experiment(), BRAIN)[0]

    def value(seed):
        step = StepContext(0, 10, torch.Generator().manual_seed(seed))
        return stage.loss(batch(), step).total.item()

    assert value(1) == value(1) != value(2)


def test_contradictory_settings_are_refused():
    with pytest.raises(ConfigError, match="needs dante.masking = 'dense'"):
        experiment(per_modality_masks=True)
    with pytest.raises(ConfigError, match="dante.align must be one of"):
        experiment(align="l3")


def settings_for_runs():
    small = experiment()
    return replace(small, run=replace(small.run, steps=10, pretrain_steps=4, checkpoint_every=1, validate_every=0))


@pytest.fixture(scope="module")
def run(data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "whole"
    start_run(settings_for_runs(), data, folder)
    continue_run(folder, "cpu", quiet=True)
    return folder


def encoders(state):
    return {name: value for name, value in state["networks"].items() if name[:3] in ("E_L", "E_A", "E_P")}


def test_stage_2_starts_from_stage_1_encoders_and_freezes_them_for_a_tenth(run, data, tmp_path):
    pretrained = encoders(read_state(run / "stage-1.pt"))
    for steps, same in ((1, True), (2, False)):  # 1 of 10 steps is the first tenth
        folder = tmp_path / str(steps)
        start_run(settings_for_runs(), data, folder)
        asked = iter([False] * (4 + steps - 1) + [True])
        with pytest.raises(Cancelled):
            continue_run(folder, "cpu", quiet=True, stop=lambda asked=asked: next(asked))
        now = encoders(read_state(folder / "checkpoint.pt"))
        assert now.keys() == pretrained.keys()
        assert all(torch.equal(now[name], value) for name, value in pretrained.items()) == same


@pytest.mark.parametrize("after", [1, 3, 4, 5, 6, 10])  # Stage 1 has 4 steps, Stage 2 freezes encoders for its first
def test_run_stopped_in_either_stage_and_resumed_is_bit_identical(run, data, tmp_path, after):
    folder = tmp_path / "run"
    start_run(settings_for_runs(), data, folder)
    asked = iter([False] * (after - 1) + [True] + [False] * 100)
    try:
        continue_run(folder, "cpu", quiet=True, stop=lambda: next(asked))
    except Cancelled:
        continue_run(folder, "cpu", quiet=True)
    for name in ("limited.safetensors", "full.safetensors"):
        assert sha256_of(folder / "model" / name) == sha256_of(run / "model" / name), name


@pytest.mark.slow
def test_resumed_run_with_adamw_in_stage_1_is_bit_identical(data, tmp_path):
    settings = replace(settings_for_runs(), pretrain_optimiser=OptimiserSettings("adamw", 0.001, warm_up=0.5))
    digests = []
    for after in (99, 3):  # never, and within Stage 1
        folder = tmp_path / str(after)
        start_run(settings, data, folder)
        asked = iter([False] * (after - 1) + [True] + [False] * 100)
        try:
            continue_run(folder, "cpu", quiet=True, stop=lambda asked=asked: next(asked))
        except Cancelled:
            continue_run(folder, "cpu", quiet=True)
        digests.append(sha256_of(folder / "model" / "limited.safetensors"))
    assert digests[0] == digests[1]


def test_model_has_two_pathways_and_uses_the_second_with_the_privileged_scan(run, tmp_path):
    from DanteSegmenterLib.cases.case_folder import read_case_folder

    volumes = read_case_folder(write_case(tmp_path / "case", 3)).read_images()
    model = load_model(run / "model", "cpu")
    full = segment(model, volumes, probabilities=True)
    limited = segment(model, {name: volumes[name] for name in ("t1", "t2", "flair")}, probabilities=True)
    assert "full-modality network" in full.notes[0] and not limited.notes
    assert (full.probabilities != limited.probabilities).any()


def test_log_contains_the_magnitudes_of_each_level(run):
    header = (run / "log.csv").read_text().splitlines()[0]
    for name in ("anchor", "limited", "gap", "cosine", "correction"):
        assert all(f"log_{name}_{level}" in header for level in (1, 2, 3))


def test_stage_2_at_paper_size_has_77_million_parameters():
    with torch.device("meta"):
        stage = both_pathways(load_experiment("brats-1mm"), BRAIN)
    assert sum(p.numel() for p in stage.networks.parameters()) / 1e6 == pytest.approx(77.0, abs=0.1)


@pytest.mark.parametrize("name", ["brats-1mm", pytest.param("chest-dp2e", marks=pytest.mark.slow)])
def test_paper_sizes_are_consistent_in_both_stages(name, monkeypatch):
    """With meta tensors: 128^3 at 1 mm, and 64x160x192 at 2.0x0.7x0.7 mm (DP2E)."""
    paper = load_experiment(name, method="dante")
    task = TASKS[paper.task]
    # Code that reads values does not work on meta tensors.
    monkeypatch.setattr(torch.nn.init, "trunc_normal_", lambda tensor, **_: tensor)
    monkeypatch.setattr(masking, "visible_positions", lambda mask: torch.arange(mask.numel() // 2))
    with FakeTensorMode():
        trained = stages(paper, task)
        shape = (paper.data.batch_size, len(task.full), *paper.data.patch)
        regions = torch.empty(shape[0], len(task.regions), *shape[2:])
        big = Batch(torch.empty(shape), regions, torch.empty(shape[0], 1, *shape[2:], dtype=torch.bool))
        assert len(trained) == 2
        for stage in trained:
            terms = stage.loss(big, StepContext(stage.steps - 1, stage.steps, torch.Generator().manual_seed(0)))
            assert terms.total.shape == () and len(terms.terms) == (3 if stage.name == "stage-1" else 4)


@pytest.mark.skipif(os.name != "posix", reason="needs SIGKILL")
@pytest.mark.parametrize(
    "stage, step",
    [
        pytest.param("stage-1", 2, marks=pytest.mark.slow),
        pytest.param("stage-1", 4, marks=pytest.mark.slow),
        ("stage-2", 4),
    ],
)
def test_run_killed_in_either_stage_and_resumed_is_bit_identical(run, data, tmp_path, stage, step):
    folder = tmp_path / "run"
    start_run(settings_for_runs(), data, folder)
    command = [sys.executable, "-m", "DanteTrainerLib", "resume", str(folder), "--device", "cpu", "--quiet"]
    process = subprocess.Popen(command, env=environment())
    while (state := read_state(folder / "checkpoint.pt")) is None or (
        state["stage"] + 1 < int(stage[-1]) or (state["stage"] + 1 == int(stage[-1]) and state["step"] < step)
    ):
        assert process.poll() is None, "it ended before it could be killed"
        time.sleep(0.005)
    process.kill()
    process.wait()
    continue_run(folder, "cpu", quiet=True)
    for name in ("limited.safetensors", "full.safetensors"):
        assert sha256_of(folder / "model" / name) == sha256_of(run / "model" / name), name


def environment():
    """This process's environment, so that a new process finds both libraries and uses as many threads."""
    paths = [str(REPOSITORY / "DanteSegmenter"), str(REPOSITORY / "DanteTrainer")]
    threads = str(torch.get_num_threads())  # PyTorch takes MKL's number where that is set
    return {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(paths),
        "OMP_NUM_THREADS": threads,
        "MKL_NUM_THREADS": threads,
    }
