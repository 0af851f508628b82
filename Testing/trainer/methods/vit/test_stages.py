from dataclasses import replace

import pytest
import torch
from small_trainings import small
from steps import batch, context

from DanteSegmenterLib.errors import ConfigError
from DanteSegmenterLib.model_folder.architectures import UnetrOptions
from DanteTrainerLib.loop.stage import Origin
from DanteTrainerLib.methods.segmentation_loss import segmentation_loss
from DanteTrainerLib.methods.vit.stages import stages
from DanteTrainerLib.settings.loading import load_experiment
from DanteTrainerLib.settings.tables import OptimiserSettings
from DanteTrainerLib.settings.tasks import BRAIN, CHEST


def without_pretraining(*overrides):
    experiment = small("vit", *overrides)
    return replace(experiment, run=replace(experiment.run, pretrain_steps=0))


def test_pre_training_reads_every_image_without_intensity_augmentation_and_passes_on_its_encoder():
    mae, supervised = stages(small("vit"), BRAIN)
    assert (mae.name, mae.augmentation, mae.labelled_only) == ("mae", "spatial", False)
    assert supervised.carried == {"encoder": Origin("encoder")}
    supervised.networks["encoder"].load_state_dict(mae.networks["encoder"].state_dict())


def test_zero_pre_training_steps_skip_it_and_keep_the_initial_weights():
    (alone,) = stages(without_pretraining(), BRAIN)
    assert not alone.carried
    other = stages(small("vit"), BRAIN)[-1]
    for (name, one), two in zip(alone.networks.named_parameters(), other.networks.parameters(), strict=True):
        assert torch.equal(one, two), name


def test_optimiser_is_adamw_with_the_rates_of_the_method():
    mae, tuned = stages(small("vit"), BRAIN)
    (scratch,) = stages(without_pretraining("vit.clip_norm=2"), BRAIN)
    assert [s.optimiser.kind for s in (mae, tuned, scratch)] == ["adamw"] * 3
    assert [s.optimiser.learning_rate for s in (mae, tuned, scratch)] == [1.5e-4, 1e-4, 3e-4]
    assert [s.optimiser.betas for s in (mae, tuned, scratch)] == [(0.9, 0.95), (0.9, 0.98), (0.9, 0.98)]
    assert [s.optimiser.clip_norm for s in (mae, tuned, scratch)] == [1, 1, 2]
    own = OptimiserSettings(learning_rate=0.5)
    assert stages(replace(small("vit"), pretrain_optimiser=own), BRAIN)[0].optimiser == own


def test_both_stages_read_only_x_l():
    for stage in stages(small("vit"), BRAIN):
        losses = []
        for shift in (0, 5):
            changed = batch()
            changed.images[:, BRAIN.full.index("t1ce")] += shift
            losses.append(stage.loss(changed, context(0)).total.item())
        assert losses[0] == losses[1], stage.name


def test_supervised_loss_is_the_full_resolution_loss_and_updates_everything():
    (stage,) = stages(without_pretraining(), BRAIN)
    terms = stage.loss(batch(), context(0))
    expected = segmentation_loss([stage.predict(batch().images)], batch().regions, BRAIN.output)
    assert terms.total.item() == pytest.approx(expected.item(), rel=1e-6)
    terms.total.backward()
    assert not [name for name, p in stage.networks.named_parameters() if p.grad is None]


def test_chest_labels_are_learned_from_the_one_limited_modality():
    experiment, images = small("vit"), batch().images[:, :2]
    for stage in stages(replace(experiment, task="chest"), CHEST):
        terms = stage.loss(replace(batch(), images=images, regions=batch().regions[:, :1]), context(0))
        assert torch.isfinite(terms.total)
    assert stage.predict(images).shape == (2, 2, 16, 16, 16)
    assert stage.deployed["limited"].modalities == ("nct",)


def test_model_folder_stores_the_unetr_options():
    experiment = without_pretraining()
    experiment = replace(experiment, vit=replace(experiment.vit, layers=5))
    deployed = stages(experiment, BRAIN)[-1].deployed["limited"]
    assert (deployed.architecture, deployed.options) == ("unetr", UnetrOptions(8, 24, 5, 2, 48, 4))


@pytest.mark.parametrize(
    "override, words",
    [
        ("vit.token=12", "vit.token is 12, wanted a power of 2"),
        ("vit.hidden=100", "vit.hidden is 100, wanted a multiple of 12"),
        ("vit.mae_heads=7", "vit.mae_hidden is 384, wanted a multiple of 7"),
        ("vit.mask_ratio=1", "vit.mask_ratio must lie between 0 and 1"),
    ],
)
def test_invalid_transformer_settings_are_refused(override, words):
    with pytest.raises(ConfigError, match=words):
        load_experiment("brats-1mm", [override])


def test_patch_of_partial_tokens_is_refused():
    experiment = small("vit")
    with pytest.raises(ConfigError, match="vit.token and data.patch do not fit: a patch of 16x16x16 voxels"):
        stages(replace(experiment, vit=replace(experiment.vit, token=32)), BRAIN)
