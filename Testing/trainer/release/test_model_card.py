"""The model card of a small model, line by line."""

from dataclasses import replace

import pytest
from models import MODALITIES, brain_spec

from DanteSegmenterLib.model_folder import Calibration, Pathway
from DanteTrainerLib.release.model_card import model_card
from DanteTrainerLib.settings.experiment import Experiment
from DanteTrainerLib.settings.methods.dante import DanteSettings
from DanteTrainerLib.settings.tables import DroppingSettings, RunSettings

RUN = Experiment(seed=7, run=RunSettings(steps=40, pretrain_steps=20))
SPEC = replace(brain_spec(), intended_use="For research.", training_data="Three scans.")


def test_card_states_use_inputs_and_training():
    assert model_card(SPEC, RUN) == (
        "# test model 1\n"
        "\n"
        "For research.\n"
        "\n"
        "Segments whole tumour (WT), tumour core (TC), enhancing tumour (ET) from T1, T2, FLAIR.\n"
        "\n"
        "| | |\n"
        "|---|---|\n"
        "| method | lower |\n"
        "| grid | 2 x 2 x 2 mm, LPS |\n"
        "| windows | 16 x 16 x 16 voxels |\n"
        "| network | plain U-Net, features 2, 4 |\n"
        f"| training | 40 steps of {RUN.data.batch_size} patches, seed 7 |\n"
        "| data | Three scans. |\n"
    )


def test_card_states_full_pathway_scores_licence_and_citations():
    calibration = {"WT": Calibration(17, 0.9, 0.75, 0.5)}
    full = Pathway("full.safetensors", "1" * 64, MODALITIES, calibration=calibration)
    spec = replace(SPEC, full=full, licence="CC0", scores={"Test": {"WT Dice": 0.5}}, citations=("A paper.",))
    text = model_card(spec, replace(RUN, method="dante"))
    assert "from T1, T2, FLAIR. Where T1CE is given as well, it is used, by a second network.\n" in text
    assert "| training | 20 steps of pre-training, 40 steps of" in text and "| licence | CC0 |\n" in text
    assert "\n## Test\n\n| WT Dice |\n|---|\n| 0.500 |\n" in text
    assert "\n## How sure, how right, with the privileged scan\n" in text
    assert "| WT | 17 | 90% | 75% | 50% of cases |\n" in text
    assert text.endswith("\n## Cite\n\n- A paper.\n")


@pytest.mark.parametrize(
    ("method", "settings", "row"),
    [
        ("vit", {}, "20 steps of pre-training, 40 steps of"),
        ("vit", {"run": RunSettings(steps=40, pretrain_steps=0)}, "40 steps of"),
        ("cpmn", {}, "40 steps of"),
        (
            "dante",
            {"dante": DanteSettings(mature_teacher=0.25)},
            "20 steps of pre-training, 10 of the full-modality network alone, 40 steps of",
        ),
    ],
)
def test_card_states_the_steps_of_every_stage(method, settings, row):
    assert f"| training | {row}" in model_card(SPEC, replace(RUN, method=method, **settings))


def test_card_states_the_actual_steps_of_a_dropping_method():
    dropping = DroppingSettings(probability=0.25, equal_views=True)
    assert "| training | 160 steps of" in model_card(SPEC, replace(RUN, method="robustseg", dropping=dropping))
