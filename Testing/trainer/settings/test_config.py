import pytest

from DanteSegmenterLib.errors import ConfigError
from DanteTrainerLib.methods import METHODS, method_named
from DanteTrainerLib.settings.experiment import Experiment
from DanteTrainerLib.settings.loading import list_experiments, load_experiment
from DanteTrainerLib.settings.smoke import smoke
from DanteTrainerLib.settings.tasks import TASKS

# These need a teacher: see trainer/methods/distillation.
TAUGHT = ("mmanet", "pmkl", "cmfd")


@pytest.mark.parametrize("name", list_experiments())
def test_every_shipped_experiment_loads_with_a_patch_that_fits_its_network(name):
    assert smoke(load_experiment(name)).data.patch == (16, 16, 16)  # `Experiment` validates itself


def test_defaults_are_the_settings_of_the_paper():
    experiment = load_experiment("brats-1mm")
    assert experiment == Experiment()
    assert experiment.data.patch == (128, 128, 128) and experiment.data.batch_size == 2
    assert experiment.network.features == (32, 64, 128, 256, 320, 320)
    assert (experiment.optimiser.learning_rate, experiment.optimiser.momentum) == (0.01, 0.99)
    assert experiment.optimiser.weight_decay == 3e-5 and experiment.run.steps == 500 * 250


def test_settings_are_overridden_by_full_or_unique_short_keys():
    overrides = ["run.steps=8", "learning_rate=0.1", "patch=[32, 32, 32]", "precision=bf16", "augment=false"]
    experiment = load_experiment("brats-2mm", overrides, method="upper")
    assert experiment.run.steps == 8 and experiment.optimiser.learning_rate == 0.1
    assert experiment.data.patch == (32, 32, 32) and experiment.run.precision == "bf16" and not experiment.data.augment
    assert experiment.method == "upper"


@pytest.mark.parametrize(
    ("override", "reason"),
    [
        ("stepz=8", "unknown key 'stepz'. Did you mean 'steps'|run.steps"),
        ("run.stps=8", "Did you mean 'run.steps'"),
        ("steps", "key=value is needed"),
        ("steps=many", "int is needed, got 'many'"),
        ("steps=0", "run.steps must be at least 1"),
        ("precision=fp8", "must be one of auto, fp32, bf16, fp16"),
        ("features=[8]", "2 to 10 stages"),
        ("strides=[[1,1,1],[2,2,2]]", "same length"),
    ],
)
def test_wrong_override_names_the_expected_form(override, reason):
    with pytest.raises(ConfigError, match=reason.replace("[", r"\[") if "[" in reason else reason):
        load_experiment("brats-2mm", [override])


def test_setting_given_by_a_command_option_cannot_be_repeated():
    with pytest.raises(ConfigError, match="--set method=upper: the method is said elsewhere, 'lower'"):
        load_experiment("brats-2mm", ["method=upper"], method="lower")
    assert load_experiment("brats-2mm", ["method=upper"]).method == "upper"


def test_file_with_a_byte_order_mark_is_read(tmp_path):
    (tmp_path / "mine.toml").write_text("[data]\nbatch_size = 7\n", encoding="utf-8-sig")
    assert load_experiment(str(tmp_path / "mine.toml")).data.batch_size == 7


def test_unknown_key_in_a_file_suggests_the_nearest(tmp_path):
    (tmp_path / "mine.toml").write_text("[data]\npach = [1, 2, 3]\n")
    with pytest.raises(ConfigError, match="unknown key 'pach'. Did you mean 'patch'"):
        load_experiment(str(tmp_path / "mine.toml"))


@pytest.mark.parametrize(("content", "reason"), [("[data", "not valid TOML"), (None, "there is no experiment")])
def test_invalid_file_is_refused(tmp_path, content, reason):
    if content:
        (tmp_path / "mine.toml").write_text(content)
    with pytest.raises(ConfigError, match=reason):
        load_experiment(str(tmp_path / "mine.toml"))


def test_patch_the_network_cannot_halve_is_refused():
    with pytest.raises(ConfigError, match="multiple of 16, got 60"):
        load_experiment("brats-2mm", ["patch=[64, 60, 64]"])


def test_unknown_method_suggests_the_nearest():
    with pytest.raises(ConfigError, match="unknown method 'loser'. Did you mean 'lower'"):
        method_named("loser")


@pytest.mark.parametrize("method", [name for name in METHODS if name not in TAUGHT])
@pytest.mark.parametrize("task", TASKS)
def test_every_method_has_stages_ending_in_a_deployed_network_for_every_task(method, task):
    stages = METHODS[method](smoke(load_experiment("brats-2mm", method=method)), TASKS[task])
    limited = stages[-1].deployed["limited"]
    assert set(limited.modalities) <= set(TASKS[task].full) and stages[-1].predict is not None
    assert method == "upper" or TASKS[task].privileged not in limited.modalities
