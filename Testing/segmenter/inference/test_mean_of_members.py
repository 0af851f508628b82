"""The mean of the members' logits, compared with the logits of each member."""

import numpy as np
import pytest
import torch
from models import brain_spec, study, write_brain_model
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from DanteSegmenterLib.errors import Cancelled
from DanteSegmenterLib.inference import load_model, segment
from DanteSegmenterLib.inference.members import MeanOfMembers, together
from DanteSegmenterLib.inference.sliding_window import Plan, predict_logits
from DanteSegmenterLib.model_folder import Scaling, read_spec
from DanteSegmenterLib.networks.unet import UNet
from DanteSegmenterLib.preprocess import Background

SEEDS = (3, 4, 5)
WHOLE = Plan(torch.device("cpu"), torch.float32, batch=2)


class Times(nn.Module):
    """Multiplies its input by a number, with a convolution that can be hooked."""

    def __init__(self, factor, most=99):
        super().__init__()
        self.convolution = nn.Conv3d(1, 1, 1, bias=False)
        nn.init.constant_(self.convolution.weight, factor)
        self.most, self.calls = most, 0

    def forward(self, x):
        self.calls += 1
        if len(x) > self.most:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return self.convolution(x)


def predict(network, image, plan=WHOLE, progress=lambda share: None, cancelled=bool):
    return predict_logits(network, image, Background((0.0,), (True,)), (8, 8, 8), 1, plan, progress, cancelled)


@pytest.fixture(autouse=True)
def single_precision(monkeypatch):
    monkeypatch.setattr("DanteSegmenterLib.inference.segmenting.fastest_dtype", lambda device: torch.float32)


def logits_of(folder, mirror=False, names=("t1", "t2", "flair")):
    p = segment(load_model(folder, "cpu"), study(names=names), probabilities=True, mirror=mirror).probabilities
    p = p.astype(np.float64)
    sure = (p > 1e-4) & (p < 1 - 1e-4)  # where single precision resolves the logit
    return np.log(np.where(sure, p, 0.5) / (1 - np.where(sure, p, 0.5))), sure


@pytest.mark.parametrize(("mirror", "names"), [(False, ("t1", "t2", "flair")), (True, ("t1", "t1ce", "t2", "flair"))])
def test_logits_are_the_mean_over_members(tmp_path, mirror, names):
    alone = [write_brain_model(tmp_path / str(seed), with_full=True, seed=seed) for seed in SEEDS]
    averaged = write_brain_model(tmp_path / "all", with_full=True, seed=SEEDS[0], more=SEEDS[1:])
    logits, sure = zip(*(logits_of(folder, mirror, names) for folder in (averaged, *alone)))
    inside = np.logical_and.reduce(sure)
    assert inside.mean() > 0.2
    expected = np.mean(logits[1:], axis=0)
    assert np.abs(logits[0] - expected)[inside].max() < 2e-3
    # Neither the mean of probabilities nor a single member would give this.
    probabilities = np.mean([1 / (1 + np.exp(-values)) for values in logits[1:]], axis=0)
    others = [np.log(probabilities / (1 - probabilities)), *logits[1:]]
    assert min(np.abs(logits[0] - other)[inside].max() for other in others) > 0.02


def test_one_member_equals_the_network(tmp_path):
    model = load_model(write_brain_model(tmp_path), "cpu")
    network = model.network(model.spec.limited)
    assert type(network) is UNet and together([network]) is network
    assert list(model.networks) == [("limited.safetensors",)]


def test_scaling_applies_to_the_mean(tmp_path):
    """Masks come from the averaged logits; displayed values are sigmoid(logit / temperature + offset) of them."""
    from dataclasses import replace

    from DanteSegmenterLib.model_folder import write_spec

    folder = write_brain_model(tmp_path, more=(1,))
    raw, sure = logits_of(folder)
    spec = read_spec(folder)
    scaling = {region.id: Scaling(2.0, 0.5, 0.0, 5) for region in spec.regions}
    write_spec(folder, replace(spec, limited=replace(spec.limited, scaling=scaling)))
    shown, inside = logits_of(folder)
    both = sure & inside
    assert both.mean() > 0.2 and np.abs(shown - (raw / 2 + 0.5))[both].max() < 2e-3


def test_mean_is_computed_in_single_precision():
    """In float16 the sum of 60000 and 60000 would overflow."""
    network = MeanOfMembers([Times(60000.0), Times(60000.0), Times(59968.0)]).half()
    out = network(torch.ones(1, 1, 2, 2, 2, dtype=torch.float16))
    assert out.dtype == torch.float32 and out.unique().item() == pytest.approx(179968 / 3)


def test_progress_counts_the_windows_of_every_member():
    seen = []
    predict(MeanOfMembers([Times(n) for n in (1, 2, 3)]), torch.ones(1, 24, 8, 8), progress=seen.append)
    # Five windows of 8 with a step of 4 voxels, in three batches of two, computed by three members each.
    assert seen == [n / 9 for n in range(9)]


def test_run_can_be_cancelled_between_members():
    first, second = Times(1), Times(2)
    with pytest.raises(Cancelled):
        predict(MeanOfMembers([first, second]), torch.ones(1, 24, 8, 8), cancelled=lambda: second.calls > 0)
    assert (first.calls, second.calls) == (1, 1)


def test_out_of_memory_in_one_member_steps_down_for_all():
    image = torch.rand(1, 24, 8, 8) + 1
    prediction, (note,) = predict(MeanOfMembers([Times(1), Times(4, most=1)]), image)
    assert prediction.plan.batch == 1 and "Memory ran out" in note
    assert torch.allclose(prediction.logits, 2.5 * image, atol=1e-5)


class LargeResults(TorchDispatchMode):
    """Counts the operations whose result is as large as the whole image."""

    def __init__(self, voxels):
        super().__init__()
        self.voxels, self.operations = voxels, []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        if isinstance(result, torch.Tensor) and result.numel() >= self.voxels:
            self.operations.append(str(function))
        return result


def test_more_members_hold_no_more_full_size_maps():
    image = torch.ones(1, 16, 16, 16)
    operations = []
    for members in (1, 5):
        with LargeResults(image.numel()) as large:
            predict(together([Times(n + 1.0) for n in range(members)]), image)
        operations.append(large.operations)
    assert operations[0] == operations[1] and "aten.zeros.default" in operations[0]


def test_labels_are_averaged_before_the_softmax():
    from dataclasses import replace

    from DanteSegmenterLib.inference import probabilities_of

    prediction, _ = predict(MeanOfMembers([Times(1.0), Times(3.0)]), torch.full((1, 8, 8, 8), 1.5))
    two = replace(prediction, logits=torch.cat([torch.zeros_like(prediction.logits), prediction.logits]))
    spec = replace(brain_spec(), output="labels", regions=brain_spec().regions[:1])
    # Background 0, region (1.5 + 4.5) / 2 = 3.
    assert torch.allclose(probabilities_of(two, spec), torch.tensor(3.0).sigmoid())
