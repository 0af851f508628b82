"""Two processes train as one."""

import csv
import os
import subprocess
import sys

import pytest
import torch
from conftest import REPOSITORY
from safetensors.torch import load_file

from DanteSegmenterLib.errors import ConfigError
from DanteTrainerLib.__main__ import main
from DanteTrainerLib.loop.distributed import Group, check_batch


def arguments(data, out):
    command = ["train", "dante", "--data", str(data), "--out", str(out), "--smoke", "--quiet", "--device", "cpu"]
    # In single precision rounding is finer than what is compared.
    return [*command, "--set", "auxiliary_from=0.0", "--set", "run.precision=fp32"]


def found(out):
    """The losses of a run, and its weights."""
    with open(out / "log.csv", newline="") as file:
        losses = [float(row["loss"]) for row in csv.DictReader(file)]
    return losses, load_file(out / "model" / "limited.safetensors")


@pytest.mark.skipif(sys.platform == "win32", reason="torchrun with gloo on Linux and macOS")
def test_two_processes_give_the_losses_and_weights_of_one_within_rounding(data, tmp_path):
    assert main(arguments(data, tmp_path / "one")) == 0
    paths = os.pathsep.join(str(REPOSITORY / name) for name in ("DanteSegmenter", "DanteTrainer"))
    environment = {**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1"}
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "-m", "DanteTrainerLib"]
    command = [*torchrun, *arguments(data, tmp_path / "two")]
    result = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=180)
    assert result.returncode == 0, result.stderr[-3000:]
    (alone, weights), (together, same) = found(tmp_path / "one"), found(tmp_path / "two")
    assert len(alone) == 4 and together == pytest.approx(alone, rel=1e-3)
    for name, tensor in weights.items():
        assert torch.allclose(tensor, same[name], atol=1e-3), name


def test_a_batch_that_cannot_be_shared_equally_is_refused():
    check_batch(4, Group(0, 2))
    with pytest.raises(ConfigError, match="must be a multiple of the number of processes, 2"):
        check_batch(3, Group(0, 2))


def test_alone_a_group_changes_nothing():
    group, parameter = Group(), torch.nn.Parameter(torch.ones(2))
    parameter.grad = torch.tensor([1.0, 2.0])
    group.average_gradients([parameter])
    group.wait()
    assert parameter.grad.tolist() == [1, 2] and group.any(True, torch.device("cpu")) and group.leads
