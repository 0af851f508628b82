"""Two processes train like one."""

import csv
import os
import subprocess
import sys

import pytest
import torch
from conftest import REPOSITORY
from safetensors.torch import load_file

from DanteSegmenterLib.errors import ConfigError, ResourceError
from DanteTrainerLib.__main__ import main
from DanteTrainerLib.loop.distributed import Group, check_batch, join, share_of_chosen
from DanteTrainerLib.loop.trainer import seeded_context


def arguments(data, out):
    command = ["train", "dante", "--data", str(data), "--out", str(out), "--smoke", "--quiet", "--device", "cpu"]
    # In single precision, rounding is smaller than the tolerance.
    return [*command, "--set", "auxiliary_from=0.0", "--set", "run.precision=fp32"]


def torchrun(processes, *command):
    """The output of the processes."""
    paths = os.pathsep.join(str(REPOSITORY / name) for name in ("DanteSegmenter", "DanteTrainer"))
    environment = {**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1"}
    run = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", str(processes), *command]
    result = subprocess.run(run, env=environment, capture_output=True, text=True, timeout=180)
    assert result.returncode == 0, result.stderr[-3000:]
    return result.stdout


def found(out):
    """The losses of a run, and its weights."""
    with open(out / "log.csv", newline="") as file:
        losses = [float(row["loss"]) for row in csv.DictReader(file)]
    return losses, load_file(out / "model" / "limited.safetensors")


@pytest.mark.skipif(sys.platform == "win32", reason="torchrun with gloo on Linux and macOS")
def test_two_processes_give_the_losses_and_weights_of_one_up_to_rounding(data, tmp_path):
    assert main(arguments(data, tmp_path / "one")) == 0
    torchrun(2, "-m", "DanteTrainerLib", *arguments(data, tmp_path / "two"))
    (alone, weights), (together, same) = found(tmp_path / "one"), found(tmp_path / "two")
    assert len(alone) == 4 and together == pytest.approx(alone, rel=1e-3)
    for name, tensor in weights.items():
        assert torch.allclose(tensor, same[name], atol=1e-3), name


@pytest.mark.skipif(sys.platform == "win32", reason="torchrun with gloo on Linux and macOS")
def test_gathered_values_equal_those_of_one_process(tmp_path):
    """Losses 1, 2 and 3 of chosen samples: two in one process, one in the other, none in the third."""
    script = tmp_path / "means.py"
    script.write_text(
        "import torch\n"
        "from DanteTrainerLib.loop.distributed import join, share_of_chosen\n"
        "group, _ = join('cpu')\n"
        "losses = [torch.tensor([1.0, 2.0]), torch.tensor([3.0]), torch.tensor([])][group.rank]\n"
        "share = share_of_chosen(torch.arange(2) < len(losses), group.size)\n"
        "mean = group.mean(share * losses.mean() if len(losses) else torch.tensor(0.0))\n"
        "none = share_of_chosen(torch.zeros(2, dtype=torch.bool), group.size)\n"
        "votes = [group.any(group.rank == n, torch.device('cpu')) for n in (0, 2, 3)]\n"
        "reached, nowhere = (torch.nn.Parameter(torch.zeros(2)) for _ in range(2))\n"
        "reached.grad = torch.tensor([3.0, 6.0]) if group.rank == 1 else None\n"
        "group.average_gradients([reached, nowhere])\n"
        "print(f'mean {mean.item()} none {none.item()} {votes} {reached.grad.tolist()} {nowhere.grad}\\n', end='')\n"
        "torch.distributed.destroy_process_group()\n"
    )
    output = torchrun(3, str(script))
    # True for one is true for all; a gradient in one of three processes is a third of it in all.
    assert output.count("mean 2.0 none 0.0 [True, True, False] [1.0, 2.0] None\n") == 3


PMKL_IN_TWO_PROCESSES = """
import sys
from dataclasses import replace
sys.path.insert(0, TESTING)
from steps import batch, context
from small_trainings import small
from teachers import unet_teacher
import torch
from DanteTrainerLib.data.patches import Batch
from DanteTrainerLib.loop.distributed import join
from DanteTrainerLib.methods.distillation import pmkl
from DanteTrainerLib.settings.tasks import BRAIN

group, _ = join("cpu")
pmkl.read_teacher = lambda *_, **__: unet_teacher(BRAIN)
(stage,) = pmkl.stages(small("pmkl", "pmkl.contrast_weight=0"), BRAIN)
both = batch()
both.images[1, :, 2:] = 0  # little to learn in the second sample
own = slice(group.rank, group.rank + 1)
mine = Batch(both.images[own], both.regions[own], both.foreground[own])
shared = replace(context(0), rank=group.rank, world_size=group.size)
value, alone, whole = (
    stage.loss(part, where).terms["distillation"].value
    for part, where in ((mine, shared), (mine, context(0)), (both, context(0)))
)
print(f"{group.mean(value).item():.5f} {whole.item():.5f} {group.mean(alone).item():.5f}\\n", end="", flush=True)
torch.distributed.destroy_process_group()
"""


@pytest.mark.skipif(sys.platform == "win32", reason="torchrun with gloo on Linux and macOS")
def test_teacher_weights_in_two_processes_equal_those_of_one(tmp_path):
    """PMKL's weighted mean over both samples of a step is not the mean of each sample's weighted mean."""
    script = tmp_path / "better.py"
    script.write_text(f"TESTING = {str(REPOSITORY / 'Testing')!r}\n{PMKL_IN_TWO_PROCESSES}")
    lines = [line.split() for line in torchrun(2, str(script)).splitlines()]
    assert len(lines) == 2 and lines[0] == lines[1]
    together, whole, of_each = map(float, lines[0])
    assert together == pytest.approx(whole, abs=2e-5) and abs(of_each - whole) > 5e-4


@pytest.fixture
def third_of_four(monkeypatch):
    """torchrun's environment of process 2 of 4 on a computer with three GPUs; what was asked of torch, in order."""
    asked = []
    for name, value in {"WORLD_SIZE": "4", "RANK": "2", "LOCAL_RANK": "2"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 3)
    monkeypatch.setattr(torch.cuda, "set_device", lambda device: asked.append(str(device)))
    monkeypatch.setattr(
        torch.distributed, "init_process_group", lambda kind, timeout: asked.append((kind, timeout.total_seconds()))
    )
    return asked


def test_each_process_has_a_gpu_of_its_own(third_of_four):
    assert join("auto") == (Group(2, 4), "cuda:2")
    assert third_of_four[0] == "cuda:2" and third_of_four[1][0] == "nccl"


def test_processes_wait_for_hours_until_the_first_has_prepared_the_cases(third_of_four):
    join("cpu")
    [(kind, seconds)] = third_of_four
    assert kind == "gloo" and seconds >= 24 * 3600


def test_more_processes_than_gpus_are_refused(third_of_four, monkeypatch):
    monkeypatch.setenv("LOCAL_RANK", "3")
    with pytest.raises(ResourceError, match="'cuda:3' is not available"):
        join("cuda")
    assert not third_of_four


def test_dropout_differs_between_the_processes_of_a_step_and_shared_draws_do_not():
    dropped, shared = [], []
    for rank, size in ((0, 1), (0, 2), (1, 2)):
        context = seeded_context(12345, 0, 7, 100, Group(rank, size))
        dropped.append(torch.nn.functional.dropout(torch.ones(100)))
        shared.append(torch.rand(4, generator=context.generator))
    assert torch.equal(dropped[0], dropped[1]) and not torch.equal(dropped[1], dropped[2])
    assert torch.equal(shared[0], shared[1]) and torch.equal(shared[1], shared[2])


def test_indivisible_batch_is_refused():
    check_batch(4, Group(0, 2))
    with pytest.raises(ConfigError, match="must be a multiple of the number of processes, 2"):
        check_batch(3, Group(0, 2))


def test_group_of_one_changes_nothing():
    group, parameter = Group(), torch.nn.Parameter(torch.ones(2))
    assert share_of_chosen(torch.tensor([True, False]), 1) == 1
    parameter.grad = torch.tensor([1.0, 2.0])
    group.average_gradients([parameter])
    group.wait()
    assert parameter.grad.tolist() == [1, 2] and group.any(True, torch.device("cpu")) and group.leads
