from dataclasses import replace

import pytest
import torch
from datasets import write_dataset
from steps import batch, context

from DanteSegmenterLib.errors import ConfigError
from DanteSegmenterLib.inference import load_model, segment
from DanteSegmenterLib.networks.gated_unet import GatedNetwork
from DanteSegmenterLib.networks.unet import UNet, initialise
from DanteTrainerLib.methods import mmanet, robustseg
from DanteTrainerLib.methods.modality_dropout import draw_present
from DanteTrainerLib.run.start import start_run
from DanteTrainerLib.run.train import continue_run
from DanteTrainerLib.settings.experiment import load_experiment, smoke
from DanteTrainerLib.settings.tasks import BRAIN


def small(method, **settings):
    return replace(smoke(load_experiment("brats-2mm", method=method)), **settings)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_dataset(tmp_path_factory.mktemp("data"))


def train(data, folder, experiment):
    start_run(experiment, data, folder)
    return continue_run(folder, "cpu", quiet=True)


@pytest.fixture(scope="module")
def teacher(data, tmp_path_factory):
    """The model folder of a trained upper bound."""
    return train(data, tmp_path_factory.mktemp("upper") / "run", small("upper"))


def with_teacher(teacher):
    experiment = small("mmanet")
    return replace(experiment, distillation=replace(experiment.distillation, teacher=str(teacher)))


def test_only_the_privileged_modality_is_dropped_and_half_the_time():
    drawn = torch.cat([draw_present(batch(), BRAIN, replace_seed(n)) for n in range(300)])
    assert (drawn[:, BRAIN.limited_channels] == 1).all()
    assert drawn[:, BRAIN.full.index("t1ce")].mean().item() == pytest.approx(0.5, abs=0.08)


def replace_seed(seed):
    return replace(context(0), generator=torch.Generator().manual_seed(seed))


def test_a_gated_network_without_a_modality_equals_the_whole_with_it_dropped():
    network = GatedNetwork(4, 3, small("robustseg").network)
    initialise(network)
    image, keep = torch.randn(2, 4, 16, 16, 16), [0, 2, 3]
    present = torch.tensor([[1.0, 0.0, 1.0, 1.0]]).expand(2, 4)
    whole = network.decoder(network.encode(image, present))
    assert torch.allclose(network.restricted_to(keep)(image[:, keep]), whole, atol=1e-5)


def test_robustseg_has_segmentation_reconstruction_and_kl_terms_that_reach_all_parts():
    stage = robustseg.stages(small("robustseg"), BRAIN)[0]
    terms = stage.loss(batch(), context(0))
    assert {n: t.weight for n, t in terms.terms.items()} == {"segmentation": 1, "reconstruction": 0.1, "kl": 0.1}
    terms.total.backward()
    silent = [n for n, p in stage.networks.named_parameters() if p.grad is None and "heads" not in n]
    assert not silent


def test_kl_of_a_standard_normal_is_zero_and_of_a_shifted_one_half_the_square():
    zeros = torch.zeros(2, 3)
    assert robustseg.kl_to_standard_normal(zeros, zeros) == 0
    assert robustseg.kl_to_standard_normal(zeros + 3, zeros).item() == pytest.approx(4.5)


def test_adaptive_instance_norm_gives_the_mean_and_deviation_asked_for():
    result = robustseg.adain(
        torch.randn(1, 2, 8, 8, 8) * 5 + 3, torch.tensor([[1.0, -2.0]]), torch.tensor([[0.0, 2.0]])
    )
    assert result.mean(dim=(2, 3, 4))[0].tolist() == pytest.approx([1, -2], abs=1e-4)
    assert result.std(dim=(2, 3, 4))[0].tolist() == pytest.approx([1, 2.71828], rel=1e-2)


def test_mmanet_without_a_teacher_says_how_to_get_one():
    with pytest.raises(ConfigError, match="train 'upper' first"):
        mmanet.stages(small("mmanet"), BRAIN)


def test_mmanets_teacher_must_read_all_modalities(data, tmp_path):
    lower = train(data, tmp_path / "lower", small("lower"))
    with pytest.raises(ConfigError, match="must read t1, t1ce, t2, flair"):
        mmanet.stages(with_teacher(lower), BRAIN)


def test_mmanets_terms_begin_late_and_never_move_the_teacher(teacher):
    stage = mmanet.stages(with_teacher(teacher), BRAIN)[0]
    assert set(stage.loss(batch(), context(0)).terms) == {"segmentation"}
    for seed in range(8):
        terms = stage.loss(batch(), replace(context(50), generator=torch.Generator().manual_seed(seed))).terms
        if "weak" in terms:
            break
    assert {n: t.weight for n, t in terms.items()} == {"segmentation": 1, "distillation": 4.0, "weak": 0.2}
    stage.freeze(0.5)
    sum(t.value for t in terms.values()).backward()
    assert all(p.grad is None for p in stage.networks["teacher"].parameters())
    assert any(p.grad is not None for p in stage.networks["auxiliary"].parameters())


def test_distillation_is_zero_for_equal_features_and_blind_to_their_scale():
    torch.manual_seed(0)
    features = [torch.randn(1, 4, n, n, n) for n in (8, 4, 2, 1)]
    logits = torch.randn(1, 3, 8, 8, 8)
    other = [torch.randn_like(f) for f in features]
    assert mmanet.margin_aware_distillation(features, features, logits, "regions") == 0
    scaled = mmanet.margin_aware_distillation([3 * f for f in features], features, logits, "regions")
    assert scaled.item() == pytest.approx(0, abs=1e-6)
    assert mmanet.margin_aware_distillation(other, features, logits, "regions") > 0.01


def test_a_network_without_its_zero_channel_is_the_same_function():
    network = UNet(4, 3, small("mmanet").network)
    initialise(network)
    image = torch.randn(1, 4, 16, 16, 16)
    image[:, 1] = 0
    part = mmanet.without_channels(network, [0, 2, 3])
    assert torch.allclose(part(image[:, [0, 2, 3]]), network(image), atol=1e-5)


@pytest.mark.parametrize("method", ["robustseg", "mmanet"])
def test_a_rivals_model_folder_segments_without_the_privileged_scan(data, teacher, tmp_path, method):
    from DanteSegmenterLib.cases.case_folder import read_case_folder

    model = train(data, tmp_path / "run", with_teacher(teacher) if method == "mmanet" else small(method))
    volumes = read_case_folder(data / "A").read_images()
    result = segment(load_model(model, "cpu"), {name: volumes[name] for name in ("t1", "t2", "flair")})
    assert result.label_map.shape == volumes["t1"].shape
