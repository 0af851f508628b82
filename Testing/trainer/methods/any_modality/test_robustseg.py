import pytest
import torch
from small_trainings import small
from steps import batch, context

from DanteTrainerLib.data.patches import Batch
from DanteTrainerLib.methods.any_modality import robustseg
from DanteTrainerLib.settings.loading import load_experiment
from DanteTrainerLib.settings.smoke import smoke
from DanteTrainerLib.settings.tasks import BRAIN, CHEST


def gradients(term, parameters):
    found = torch.autograd.grad(term, list(parameters), retain_graph=True, allow_unused=True)
    return [gradient for gradient in found if gradient is not None]


def test_segmentation_reconstruction_and_kl_terms_reach_all_parts():
    stage = robustseg.stages(small("robustseg"), BRAIN)[0]
    terms = stage.loss(batch(), context(0))
    assert {n: t.weight for n, t in terms.terms.items()} == {"segmentation": 1, "reconstruction": 0.1, "kl": 0.1}
    terms.total.backward()
    unused = [n for n, p in stage.networks.named_parameters() if p.grad is None and "heads" not in n]
    assert not unused


def test_kl_reaches_only_the_styles_and_reconstruction_reaches_content_and_styles():
    stage = robustseg.stages(small("robustseg"), BRAIN)[0]
    terms = stage.loss(batch(), context(0)).terms
    content, styles = stage.networks["segmentation"].encoders, stage.networks["styles"]
    assert not gradients(terms["kl"].value, content.parameters())
    assert len(gradients(terms["kl"].value, styles.parameters())) == len(list(styles.parameters()))
    assert gradients(terms["reconstruction"].value, content.parameters())
    assert gradients(terms["reconstruction"].value, styles.parameters())
    assert not gradients(terms["segmentation"].value, styles.parameters())


def test_dropped_modality_is_reconstructed_from_the_content_of_the_others():
    stage = robustseg.stages(small("robustseg", "dropping.probability=1"), BRAIN)[0]
    terms = stage.loss(batch(), context(0)).terms
    of_t1ce = stage.networks["segmentation"].encoders[BRAIN.full.index("t1ce")]
    for name in ("reconstruction", "segmentation"):
        assert all((gradient == 0).all() for gradient in gradients(terms[name].value, of_t1ce.parameters()))
    other = batch()
    other.images[:, BRAIN.full.index("t1ce")] += 5
    changed = stage.loss(other, context(0)).terms
    assert torch.equal(changed["segmentation"].value, terms["segmentation"].value)
    assert changed["reconstruction"].value > terms["reconstruction"].value + 1  # the target is its own image
    rebuilds = stage.networks["images"][BRAIN.full.index("t1ce")]
    assert any((gradient != 0).any() for gradient in gradients(terms["reconstruction"].value, rebuilds.parameters()))


def test_kl_is_zero_for_a_standard_normal_and_half_the_squared_shift():
    zeros = torch.zeros(2, 3)
    assert robustseg.kl_to_standard_normal(zeros, zeros) == 0
    assert robustseg.kl_to_standard_normal(zeros + 3, zeros).item() == pytest.approx(3 * 4.5)
    # N(0, e^2): (e^2 - 1 - 2) / 2 per parameter
    assert robustseg.kl_to_standard_normal(zeros, zeros + 2).item() == pytest.approx(3 * 2.194528, rel=1e-5)


def test_adaptive_instance_norm_gives_the_requested_mean_and_deviation():
    result = robustseg.adain(
        torch.randn(1, 2, 8, 8, 8) * 5 + 3, torch.tensor([[1.0, -2.0]]), torch.tensor([[0.0, 2.0]])
    )
    assert result.mean(dim=(2, 3, 4))[0].tolist() == pytest.approx([1, -2], abs=1e-4)
    assert result.std(dim=(2, 3, 4))[0].tolist() == pytest.approx([1, 2.71828], rel=1e-2)


def test_residual_added_to_the_content_has_the_mean_and_deviation_of_the_style():
    torch.manual_seed(0)
    content = torch.randn(1, 2, 8, 8, 8)
    mean, log_variance = torch.tensor([[1.0, -2.0]]), torch.tensor([[0.0, 2.0]])
    added = robustseg.AdainBlock(2)(content, mean, log_variance) - content
    assert added.mean(dim=(2, 3, 4))[0].tolist() == pytest.approx([1, -2], abs=1e-4)
    assert added.std(dim=(2, 3, 4))[0].tolist() == pytest.approx([1, 2.71828], rel=2e-2)


def test_weight_decay_of_robustseg_is_used_by_its_stage():
    stage = robustseg.stages(small("robustseg", "robustseg.weight_decay=0.5", "optimiser.learning_rate=0.03"), BRAIN)[0]
    assert (stage.optimiser.weight_decay, stage.optimiser.learning_rate) == (0.5, 0.03)


def test_network_for_chest_ct_is_deployed_without_the_ctpa():
    stage = robustseg.stages(smoke(load_experiment("chest-small", method="robustseg")), CHEST)[0]
    images, regions = torch.randn(2, 2, 16, 16, 16), (torch.rand(2, 1, 16, 16, 16) > 0.7).float()
    assert stage.loss(Batch(images, regions, torch.ones_like(regions).bool()), context(0)).total.isfinite()
    logits = stage.predict(images)
    assert logits.shape == (2, 2, 16, 16, 16)  # background and embolism
    assert torch.allclose(stage.deployed["limited"].network()(images[:, :1]), logits, atol=1e-5)
