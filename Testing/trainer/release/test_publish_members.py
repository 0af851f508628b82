"""Runs of several seeds -> one model with all their weights, listed in its card; mismatched runs are refused."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from models import write_brain_model
from safetensors.torch import load_file, save_file
from small_trainings import small, train

from DanteSegmenterLib.errors import ConfigError, InputError, ModelError
from DanteSegmenterLib.inference import load_model, segment
from DanteSegmenterLib.model_folder import Calibration, Scaling, read_spec, sha256_of, write_spec
from DanteTrainerLib.__main__ import main
from DanteTrainerLib.data.dataset import Split
from DanteTrainerLib.evaluation.cost import cost_of
from DanteTrainerLib.evaluation.feature_map import draw_feature_map
from DanteTrainerLib.evaluation.tables import read_table
from DanteTrainerLib.methods.distillation.teacher import read_teacher
from DanteTrainerLib.release.provenance import provenance, read_provenance, write_provenance
from DanteTrainerLib.release.publish import publish
from DanteTrainerLib.settings.loading import load_experiment
from DanteTrainerLib.settings.tasks import TASKS

CARD = 'name="N"\nversion="2"\nlicence="x"\nintended_use="y"\ntraining_data="z"\n'
SPLIT = Split(("A", "B"), ("C",), ("D",))


def trained(folder, seed, split=SPLIT, with_full=False, **settings):
    """A model folder as left by a training with this seed."""
    write_brain_model(folder, with_full, seed)
    overrides = [f"{key}={value}" for key, value in settings.items()]
    experiment = load_experiment("brats-2mm", [f"seed={seed}", *overrides])
    write_provenance(folder, provenance(experiment, split, (), 60.0 * seed))
    return folder


@pytest.fixture
def models(tmp_path):
    return [trained(tmp_path / name, seed) for seed, name in enumerate("abc", start=1)]


@pytest.fixture
def card(tmp_path):
    (tmp_path / "card.toml").write_text(CARD)
    return tmp_path / "card.toml"


def change_spec(folder, **values):
    write_spec(folder, replace(read_spec(folder), **values))


def test_several_runs_become_one_model_that_names_them(models, card, tmp_path):
    spec = publish(models[0], card, [], tmp_path / "public", more=models[1:])
    assert spec == read_spec(tmp_path / "public")
    assert spec.limited.files == ("limited.safetensors", "limited-2.safetensors", "limited-3.safetensors")
    for model, name in zip(models, spec.limited.files):
        assert (tmp_path / "public" / name).read_bytes() == (model / "limited.safetensors").read_bytes()
    text = (tmp_path / "public" / "README.md").read_text()
    assert "patches, seeds 1, 2, 3 |" in text and "; 3 of them, whose logits are averaged |" in text
    plain = json.loads((tmp_path / "public" / "provenance.json").read_text())
    assert [one["experiment"]["seed"] for one in (plain, *plain["more"])] == [1, 2, 3]
    assert [one["hours"] for one in (plain, *plain["more"])] == [0.02, 0.03, 0.05]


def test_joined_model_can_be_republished_and_extended(models, card, tmp_path):
    public = tmp_path / "public"
    publish(models[0], card, [], public, more=models[1:2])
    once = {path.name: path.read_bytes() for path in public.iterdir()}
    publish(public, card, [], public)
    assert {path.name: path.read_bytes() for path in public.iterdir()} == once
    spec = publish(public, card, [], public, more=models[2:])
    assert [sha256_of(public / name) for name in spec.limited.files] == [read_spec(m).limited.sha256 for m in models]
    assert [experiment.seed for _, experiment in read_provenance(public)] == [1, 2, 3]
    publish(models[0], card, [], public)
    assert sorted(path.name for path in public.iterdir()) == sorted({*once} - {"limited-2.safetensors"})


def test_both_pathways_have_all_members(card, tmp_path):
    models = [trained(tmp_path / name, seed, with_full=True) for seed, name in ((1, "a"), (2, "b"))]
    spec = publish(models[0], card, [], tmp_path / "public", more=models[1:])
    assert spec.full.files == ("full.safetensors", "full-2.safetensors") and len(spec.limited.members) == 2


def test_calibration_of_one_run_is_not_used_for_the_mean(models, card, tmp_path):
    for model in models:
        pathway = read_spec(model).limited
        measured = {"WT": Calibration(9, 0.9, 0.9, 0.9)}
        change_spec(model, limited=replace(pathway, scaling={"WT": Scaling(2.0)}, calibration=measured))
    assert publish(models[0], card, [], tmp_path / "one").limited.scaling == {"WT": Scaling(2.0)}
    joined = publish(models[0], card, [], tmp_path / "public", more=models[1:]).limited
    assert joined.scaling == {} and joined.calibration == {}


def other_spacing(folder):
    change_spec(folder, preprocessing=replace(read_spec(folder).preprocessing, spacing_mm=(1.0, 1.0, 1.0)))


def other_architecture(folder):
    change_spec(folder, limited=replace(read_spec(folder).limited, architecture="gated"))


def other_modalities(folder):
    change_spec(folder, limited=replace(read_spec(folder).limited, modalities=("t1", "t2")))


def other_regions(folder):
    change_spec(folder, regions=read_spec(folder).regions[:2])


def other_settings(folder):
    trained(folder, 2, **{"run.steps": 7})


def other_cases(folder):
    trained(folder, 2, Split(("A", "D"), ("C",), ("B",)))


def a_further_network(folder):
    trained(folder, 2, with_full=True)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (other_spacing, r"preprocessing.spacing_mm is \[1.0, 1.0, 1.0\] and \[2.0, 2.0, 2.0\]\. Members differ"),
        (other_architecture, "limited.architecture is gated and unet"),
        (other_modalities, r"limited.modalities is \['t1', 't2'\] and \['t1', 't2', 'flair'\]"),
        (other_regions, r"regions is \[\{'id': 'WT'.*"),
        (other_settings, "run.steps is 7 and "),
        (other_cases, "cases.sha256 is "),
        (a_further_network, r"full.modalities is \['t1', 't1ce', 't2', 'flair'\] and not there"),
    ],
)
def test_mismatched_run_is_refused_with_the_differences(models, card, tmp_path, change, reason):
    change(models[1])
    with pytest.raises(InputError, match=f"b' and .*a' cannot be members of one model: {reason}"):
        publish(models[0], card, [], tmp_path / "public", more=models[1:])
    assert not (tmp_path / "public").exists()


def test_settings_unrelated_to_training_may_differ(models, card, tmp_path):
    trained(models[1], 2, **{"data.workers": 1, "run.validate_every": 9, "dante.naive": "true"})
    assert len(publish(models[0], card, [], tmp_path / "public", more=models[1:2]).limited.members) == 2


def test_run_given_twice_is_refused(models, card, tmp_path):
    with pytest.raises(ModelError, match="two members of a pathway are the same network"):
        publish(models[0], card, [], tmp_path / "public", more=models[:1])
    assert not (tmp_path / "public").exists()


def test_provenance_with_fewer_trainings_than_members_is_refused(models, card, tmp_path):
    public = tmp_path / "public"
    publish(models[0], card, [], public, more=models[1:])
    shutil.copy(models[0] / "provenance.json", public)
    with pytest.raises(InputError, match="has 3 members and tells of 1 trainings"):
        publish(public, card, [], tmp_path / "again")


def test_initial_weights_and_feature_distillation_require_a_single_network(card, data, tmp_path):
    several = write_brain_model(tmp_path / "several", with_full=True, more=(1,))
    spec = read_spec(several)
    learning = load_experiment("brats-2mm", [f"distillation.teacher={several}"], method="mmanet")
    with pytest.raises(ConfigError, match="averages 2 networks, whose feature maps have no mean"):
        read_teacher(learning, TASKS["brain"], features=True)
    logits = read_teacher(learning, TASKS["brain"]).logits(torch.zeros(1, 4, 16, 16, 16))
    assert logits.shape == (1, 3, 16, 16, 16)
    change_spec(several, full=replace(spec.full, architecture="dante_full"))
    from DanteTrainerLib.data.dataset import read_dataset

    with pytest.raises(ModelError, match="averages the logits of 2 networks"):
        draw_feature_map(several, read_dataset(data), ["A"], tmp_path / "map", "cpu")


def test_cost_is_that_of_all_members(tmp_path):
    one, three = (cost_of(load_model(write_brain_model(tmp_path / str(n), more=range(1, n)), "cpu")) for n in (1, 3))
    assert (three.parameters, three.multiply_adds) == (3 * one.parameters, 3 * one.multiply_adds)
    assert "| networks whose logits are averaged | 3 |" in three.table() and "averaged" not in one.table()


def test_two_trainings_become_a_calibrated_scored_and_published_model(data, card, tmp_path, capsys):
    runs = [tmp_path / str(seed) for seed in (1, 2)]
    for run, seed in zip(runs, (1, 2)):
        train(data, run, small("lower", f"seed={seed}"))
    public, scores = str(tmp_path / "public"), str(tmp_path / "scores")
    publishing = ["publish", *map(str, runs), "--card", str(card), "--to", public]
    assert main(publishing) == 0 and "2 members, to" in capsys.readouterr().out
    split = ["--data", str(data), "--split-file", str(tmp_path / "split.json"), "--device", "cpu"]
    cases = json.loads((runs[0] / "run.json").read_text())["split"]
    (tmp_path / "split.json").write_text(json.dumps(cases))
    assert main(["calibrate", public, *split, "--split", "train", "--quiet"]) == 0
    assert main(["evaluate", public, *split, "--out", scores, "--quiet"]) == 0
    assert main(["levels", public, *split, "--out", str(tmp_path / "levels"), "--quiet"]) == 0
    left = read_table(tmp_path / "levels" / "levels.csv")
    as_trained = left[left.levels_kept == left.levels_kept.max()]
    scored = read_table(tmp_path / "scores" / "cases.csv")
    assert np.array_equal(as_trained.dice, scored.dice, equal_nan=True) and left.levels_kept.min() == 1
    digest = read_spec(public).limited.digest
    assert json.loads((tmp_path / "scores" / "summary.json").read_text())["weights"] == digest
    assert main(["publish", public, "--card", str(card), "--scores", scores, "--to", public]) == 0
    spec = read_spec(public)
    assert spec.limited.digest == digest and spec.limited.scaling and spec.scores and spec.limited.calibration
    capsys.readouterr()
    alone = ["publish", str(runs[0]), "--card", str(card), "--scores", scores, "--to", str(tmp_path / "alone")]
    assert main(alone) == 2 and "those of other weights" in capsys.readouterr().err
    from DanteTrainerLib.run.start import start_run

    with pytest.raises(ConfigError, match="averages 2 networks, and a training begins with one"):
        start_run(small("lower", f"begin_with={public}"), data, tmp_path / "fine-tuned")


@pytest.mark.slow
def test_masks_are_unchanged_when_weights_are_stored_at_half_size(brain_model_folder, card, tmp_path):
    """The embedded weights, each shifted by up to half the distance of two float16 values: those before rounding."""
    from DanteSegmenterLib.synthetic.brain_mr import brain_mr

    single, half = tmp_path / "single", tmp_path / "half"
    shutil.copytree(brain_model_folder, single)
    spec = read_spec(single)
    random = torch.Generator().manual_seed(0)
    pathways = {}
    for name, pathway in spec.pathways.items():
        weights = {key: value.float() for key, value in load_file(single / pathway.weights).items()}
        moved = {k: w * (1 + (torch.rand(w.shape, generator=random) - 0.5) / 2048) for k, w in weights.items()}
        save_file(moved, single / pathway.weights)
        pathways[name] = replace(pathway, sha256=sha256_of(single / pathway.weights))
    change_spec(single, **pathways)
    publish(single, card, [], half, half=True)
    sizes = [(folder / "limited.safetensors").stat().st_size for folder in (half, single)]
    assert 0.5 < sizes[0] / sizes[1] < 0.51
    patient = brain_mr(0, 2.0)
    volumes = {name: patient.volumes[name] for name in spec.limited.modalities}
    masks = [segment(load_model(folder, "cpu"), volumes).masks for folder in (half, single)]
    for region in spec.regions:
        here, there = masks[0][region.id], masks[1][region.id]
        assert there.any() and (here == there).mean() > 0.999
        assert 2 * np.count_nonzero(here & there) / (np.count_nonzero(here) + np.count_nonzero(there)) > 0.99
