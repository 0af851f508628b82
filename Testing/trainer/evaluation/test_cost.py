"""Sizes and multiply-adds against formulas written here, and memory against an array of known size."""

import math
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from datasets import write_dataset
from models import MODALITIES, TINY_NETWORK, brain_spec, write_brain_model

from DanteSegmenterLib.errors import InputError
from DanteSegmenterLib.inference import load_model
from DanteSegmenterLib.model_folder import Pathway
from DanteSegmenterLib.networks.unet import brats_1mm, chest_ct
from DanteTrainerLib.__main__ import main
from DanteTrainerLib.data.dataset import read_dataset
from DanteTrainerLib.evaluation.cost import Cost, cost_of, peak_bytes, size_of, training_cost


def grids(spec, patch):
    """The number of voxels of the feature maps at each level."""
    sizes, voxels = list(patch), []
    for stride in spec.strides:
        sizes = [n // s for n, s in zip(sizes, stride)]
        voxels.append(math.prod(sizes))
    return voxels


def encoder(spec, channels, patch):
    """(parameters, multiply-adds): two convolutions per level; weights, a bias and two norm parameters per channel."""
    parameters = work = 0
    for before, now, kernel, voxels in zip((channels, *spec.features), spec.features, spec.kernels, grids(spec, patch)):
        for inputs in (before, now):
            parameters += now * inputs * math.prod(kernel) + 3 * now
            work += now * inputs * math.prod(kernel) * voxels
    return np.array((parameters, work))


def decoder(spec, channels, patch, heads_computed=1):
    """Upsampling by transposed convolutions; a head at each level, of which the finest is computed."""
    parameters, work, voxels = 0, 0, grids(spec, patch)
    for n in range(len(spec.features) - 1):
        fine, coarse, taps = spec.features[n], spec.features[n + 1], math.prod(spec.kernels[n])
        steps = math.prod(spec.strides[n + 1])
        parameters += coarse * fine * steps + fine  # upsampling
        parameters += 3 * fine * fine * taps + 2 * 3 * fine  # 2 C -> C, C -> C
        parameters += fine * channels + channels
        work += coarse * fine * voxels[n]  # every fine voxel comes from one coarse voxel
        work += 3 * fine * fine * taps * voxels[n] + (n < heads_computed) * fine * channels * voxels[n]
    return np.array((parameters, work))


def spec_of(network, patch, **changes):
    return replace(brain_spec(), network=network, patch=patch, **changes)


@pytest.mark.parametrize(
    ("network", "scans", "regions", "patch", "millions", "giga"),
    [
        (brats_1mm(), MODALITIES[:3], 3, (128, 128, 128), 31.198, 480.9),
        (brats_1mm(), MODALITIES, 3, (128, 128, 128), 31.199, 482.7),
        (chest_ct(), MODALITIES[:1], 2, (64, 160, 192), 31.113, 525.4),
        # So small that a CPU would choose an algorithm that hides the work.
        (TINY_NETWORK, MODALITIES[:1], 1, (16, 16, 16), 0.001, 0.0),
    ],
)
def test_unet_cost_matches_the_formulas(network, scans, regions, patch, millions, giga):
    spec = spec_of(network, patch, regions=brain_spec().regions[:regions])
    parameters, work = size_of(spec, replace(spec.limited, modalities=scans))
    assert (parameters, work) == tuple(encoder(network, len(scans), patch) + decoder(network, regions, patch))
    assert (round(parameters / 1e6, 3), round(work / 1e9, 1)) == (millions, giga)


def test_full_network_costs_two_encoders_a_fusion_and_a_decoder():
    network, patch = brats_1mm(), (128, 128, 128)
    spec = spec_of(network, patch, full=Pathway("full.safetensors", "0" * 64, MODALITIES, "dante_full"))
    features = np.array(network.features)
    fusion = np.array((np.sum(2 * features**2 + features), np.sum(2 * features**2 * grids(network, patch))))
    assert fusion[0] == 584_800
    wanted = 2 * encoder(network, 4, patch) + fusion + decoder(network, 3, patch)
    assert size_of(spec, spec.full) == tuple(wanted)


@pytest.mark.skipif(sys.platform != "linux", reason="Linux tells the largest resident set")
def test_memory_is_the_peak_above_the_initial_amount():
    def work():
        for _ in range(3):  # sequentially, not together
            np.ones(8 << 20)

    held = np.ones(4 << 20)
    assert 60 << 20 < peak_bytes(torch.device("cpu"), work) < 80 << 20  # Linux counts to within some hundred pages
    assert peak_bytes(torch.device("cpu"), lambda: None) < 8 << 20
    assert held.sum() == 4 << 20


def test_seconds_and_memory_come_from_cases_if_any(tmp_path):
    model = load_model(write_brain_model(tmp_path / "model", with_full=True), "cpu")
    cases = list(read_dataset(write_dataset(tmp_path / "data", cases=3)).cases.values())
    for full in (False, True):
        size = cost_of(model, full)
        assert size == Cost(*size_of(model.spec, model.spec.full if full else model.spec.limited), (16, 16, 16))
        cost = cost_of(model, full, cases)
        assert cost.parameters == size.parameters and cost.cases == 3 and 0 < cost.seconds < 60
        assert cost.device.startswith("cpu (") and (cost.memory_bytes is None) == (sys.platform != "linux")


def test_table_shows_only_measured_values():
    assert Cost(1_500_000, 2 * 10**9, (64, 64, 32)).table().splitlines()[2:] == [
        "| parameters | 1.500 million |",
        "| multiply-adds of a window of 64 x 64 x 32 voxels | 2.0 G |",
    ]
    assert Cost(1, 1, (1, 1, 1), 1.25, None, 3, "mps (float32)").table().splitlines()[-2:] == [
        "| peak memory, weights included, mps (float32) | not told by this system |",
        "| seconds a case, median of 3, mps (float32) | 1.25 |",
    ]


LOG = "stage,step,loss,seconds_per_step\nstage 1,10,1,0.5\nstage 1,15,1,1.0\nstage 2,50,1,0.2\n"


def test_training_cost_is_read_from_the_log_per_stage(tmp_path):
    assert training_cost(tmp_path) == []
    (tmp_path / "log.csv").write_text(LOG)
    one, two = training_cost(tmp_path)
    assert (one.stage, one.steps, one.seconds) == ("stage 1", 15, pytest.approx(10 * 0.5 + 5 * 1.0))
    assert (two.stage, two.steps, two.seconds_per_step) == ("stage 2", 50, pytest.approx(0.2))


@pytest.mark.parametrize("content", [b"", b"a,b\n1,2\n", b"\xff\xfe\x00"])
def test_invalid_log_is_one_sentence(tmp_path, content):
    (tmp_path / "log.csv").write_bytes(content)
    with pytest.raises(InputError, match="no log of a training"):
        training_cost(tmp_path)


def test_command_prints_the_costs(tmp_path, capsys):
    data, model = write_dataset(tmp_path / "data"), write_brain_model(tmp_path / "model")
    assert main(["cost", str(model), "--full"]) == 2
    assert "no full-modality network" in capsys.readouterr().err
    (model / "log.csv").write_text(LOG)
    assert main(["cost", str(model), "--data", str(data), "--device", "cpu"]) == 0
    printed = capsys.readouterr().out
    assert "| parameters | 0.00" in printed and "seconds a case, median of 1, cpu" in printed
    assert "| stage 1 | 15 | 0.67 | 0.2 |" in printed
