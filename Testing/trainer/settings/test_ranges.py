"""Invalid settings are refused in one sentence before anything is created."""

import itertools
from dataclasses import replace

import pytest

from DanteSegmenterLib.errors import ConfigError
from DanteTrainerLib.settings.loading import changed_experiment, load_experiment

IMPOSSIBLE = [
    "data.patch=[0,0,0]", "data.patch=[-16,-16,-16]", "data.patch=[100000,100000,100000]", "data.patch=[16,16]",
    "data.spacing_mm=[0,0,0]", "data.spacing_mm=[-1,1,1]", "data.spacing_mm=[1e-9,1,1]", "data.spacing_mm=[1e9,1,1]",
    "data.spacing_mm=[nan,1,1]", "data.batch_size=0", "data.batch_size=-1", "data.batch_size=1000000000",
    "data.batch_size=2.5", "data.workers=-2", "data.workers=100000", "seed=-1", "seed=99999999999999999999999",
    "data.split_seed=-1", "run.steps=0", "run.steps=true", "run.steps=99999999999999", "run.pretrain_steps=-1",
    "run.checkpoint_every=0", "run.validation_batches=-1", "run.validation_batches=0", "run.validate_every=-1",
    "optimiser.learning_rate=0", "optimiser.learning_rate=-0.1", "optimiser.learning_rate=nan",
    "optimiser.learning_rate=inf", "optimiser.learning_rate=1e300", "optimiser.learning_rate=1" + "0" * 400,
    "optimiser.learning_rate=1" + "0" * 9000, "optimiser.momentum=5", "optimiser.momentum=1", "optimiser.momentum=-1",
    "optimiser.weight_decay=-1", "optimiser.clip_norm=0", "optimiser.clip_norm=-1", "optimiser.exponent=-5",
    "network.features=[0,4,8,8,8]", "network.features=[99999,4,8,8,8]", "network.features=[]",
    "network.strides=[[0,0,0],[2,2,2]]", "network.kernels=[[2,2,2],[2,2,2]]", "network.convs_per_stage=0",
    "network.convs_per_stage=100", "data.foreground_share=nan", "data.foreground_share=1.1", "dante.temperature=0",
    "dante.anchors=-1", "dante.mask_ratio=1", "dante.freeze_share=2", "dante.auxiliary_from=-1",
    "mmanet.kd_weight=-1", "cpmn.alignment_weight=-1", "dropping.probability=0", "dropping.probability=1.5",
    "run.precision=fp8", "run=7", "data=[]", "data.augment=maybe", "x" * 5000, "=",
    "a=b=c", "run.steps={}", "run.steps=" + "[" * 3000, 'data.pretrain_folders=["\\u0000"]', "task=5",
]  # fmt: skip


@pytest.mark.parametrize("override", IMPOSSIBLE, ids=lambda text: text[:40])
def test_invalid_values_are_refused_in_one_sentence(override):
    with pytest.raises(ConfigError) as caught:
        load_experiment("brats-2mm", [override])
    assert str(caught.value) and "\n" not in str(caught.value)


def test_section_that_is_no_table_is_refused_even_with_an_override(tmp_path):
    (tmp_path / "mine.toml").write_text("run = 7\n")
    with pytest.raises(ConfigError, match="'run' must be a table"):
        load_experiment(str(tmp_path / "mine.toml"), ["run.steps=2"])


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b'base = "mine.toml"', "based on itself"),
        (b'method = "M\xfc"', "not valid TOML"),
        (b"x = " + b"[" * 5000, "not valid TOML"),
    ],
)
def test_invalid_experiment_file_is_refused(tmp_path, monkeypatch, content, reason):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.toml").write_bytes(content)
    with pytest.raises(ConfigError, match=reason):
        load_experiment("mine.toml")


def test_file_may_start_with_a_byte_order_mark(tmp_path):
    (tmp_path / "mine.toml").write_text("seed = 7\n", encoding="utf-8-sig")
    assert load_experiment(str(tmp_path / "mine.toml")).seed == 7


def test_resumed_run_may_change_its_schedule_but_not_its_networks():
    before = load_experiment("brats-2mm")
    after = changed_experiment(before, ["learning_rate=0.001", "run.precision=fp32", "data.workers=0"])
    assert (after.optimiser.learning_rate, after.run.precision, after.data.workers) == (0.001, "fp32", 0)
    assert after.network == before.network and changed_experiment(before, []) == before
    for key in ("seed=1", "method=upper", "patch=[16,16,16]", "batch_size=4", "convs_per_stage=1", "task=chest"):
        with pytest.raises(ConfigError, match="cannot change within a run"):
            changed_experiment(before, [key])
    with pytest.raises(ConfigError, match="at least 1"):
        changed_experiment(before, ["run.steps=0"])


def test_resumed_method_with_its_own_optimiser_may_change_only_that():
    transformer = load_experiment("brats-2mm", method="vit")
    assert changed_experiment(transformer, ["vit.learning_rate=0.0001"]).vit.learning_rate == 0.0001
    with pytest.raises(
        ConfigError, match=r"optimiser\.learning_rate: 'vit' does not read it\. Set its own: vit\.learning_rate,"
    ):
        changed_experiment(transformer, ["optimiser.learning_rate=0.001"])
    with pytest.raises(ConfigError, match="cannot change within a run"):
        changed_experiment(transformer, ["vit.hidden=48"])
    robust = load_experiment("brats-2mm", method="robustseg")
    assert changed_experiment(robust, ["optimiser.learning_rate=0.001"]).optimiser.learning_rate == 0.001
    assert changed_experiment(robust, ["robustseg.weight_decay=0"]).robustseg.weight_decay == 0
    with pytest.raises(ConfigError, match=r"Set its own: robustseg\.weight_decay\."):
        changed_experiment(robust, ["optimiser.weight_decay=0"])
    with pytest.raises(ConfigError, match="cannot change within a run"):
        changed_experiment(load_experiment("brats-2mm", method="lower"), ["vit.learning_rate=0.0001"])


@pytest.mark.parametrize("key", ["optimiser.kind", "pretrain_optimiser.kind"])
def test_resumed_run_keeps_its_kind_of_optimiser(key):
    before = load_experiment("brats-2mm")
    assert changed_experiment(before, [f"{key}=sgd"]).optimiser == before.optimiser
    with pytest.raises(ConfigError, match=r"optimiser\.kind: this cannot change within a run"):
        changed_experiment(before, [f"{key}=adamw"])


def test_resumed_pretraining_keeps_what_is_not_overridden_of_the_optimiser_that_it_shares():
    before = load_experiment("brats-2mm", method="dante")
    changed = changed_experiment(before, ["pretrain_optimiser.learning_rate=0.001", "optimiser.learning_rate=0.002"])
    assert changed.pretrain_optimiser == replace(before.optimiser, learning_rate=0.001)
    assert changed.optimiser == replace(before.optimiser, learning_rate=0.002)
    for overrides in itertools.permutations(["pretrain_optimiser.learning_rate=0.001", "optimiser.momentum=0.5"]):
        changed = changed_experiment(before, overrides)
        assert changed.pretrain_optimiser == replace(before.optimiser, learning_rate=0.001), overrides
        assert changed.optimiser == replace(before.optimiser, momentum=0.5)


def test_resumed_pretraining_with_the_methods_own_optimiser_is_not_given_another_kind():
    before = load_experiment("brats-2mm", method="vit")
    with pytest.raises(ConfigError, match=r"'vit' does not read it\. Set its own: .*vit\.mae_rate"):
        changed_experiment(before, ["pretrain_optimiser.learning_rate=0.001"])
    with_table = load_experiment("brats-2mm", ["pretrain_optimiser.kind=adamw"], method="vit")
    changed = changed_experiment(with_table, ["pretrain_optimiser.learning_rate=0.001"])
    assert (changed.pretrain_optimiser.kind, changed.pretrain_optimiser.learning_rate) == ("adamw", 0.001)


def test_resumed_run_neither_gains_nor_loses_its_pretraining():
    run, without = (load_experiment("brats-2mm", [f"pretrain_steps={n}"], method="dante") for n in (500, 0))
    assert changed_experiment(run, ["pretrain_steps=600"]).run.pretrain_steps == 600
    for before, steps in ((run, 0), (without, 500)):
        with pytest.raises(ConfigError, match=r"run\.pretrain_steps: a run cannot gain or lose its pre-training stage"):
            changed_experiment(before, [f"pretrain_steps={steps}"])
