"""Checkpoints are read as data: anything else in the file is refused and never executed."""

import os
import pickle
import zipfile

import numpy as np
import pytest
import torch

from DanteSegmenterLib.errors import ModelError
from DanteSegmenterLib.networks.nnunet import checkpoint as reading
from DanteSegmenterLib.networks.nnunet.checkpoint import read_checkpoint


def usual(**changes):
    """A checkpoint as saved by nnU-Net's trainer."""
    return {
        "network_weights": {"decoder.seg_layers.0.bias": torch.arange(3.0)},
        "optimizer_state": {"state": {0: {"momentum_buffer": torch.ones(3)}}, "param_groups": [{"lr": 0.01}]},
        "grad_scaler_state": None,
        "logging": {"mean_fg_dice": [np.float64(0.5), np.float32(0.25)], "epoch_start_timestamps": [1.5]},
        "_best_ema": np.float64(0.5),
        "current_epoch": 1000,
        "init_args": {"plans": {}, "configuration": "3d_fullres", "fold": 0, "device": torch.device("cuda")},
        "trainer_name": "nnUNetTrainer",
        "inference_allowed_mirroring_axes": (0, 2),
        **changes,
    }


def saved(folder, plain):
    path = folder / "checkpoint_final.pth"
    torch.save(plain, path)
    return path


def test_used_parts_of_a_checkpoint_are_read(tmp_path):
    found = read_checkpoint(saved(tmp_path, usual()))
    assert (found.configuration, found.trainer, found.mirror, found.epochs) == (
        "3d_fullres",
        "nnUNetTrainer",
        (0, 2),
        1000,
    )
    assert found.weights["decoder.seg_layers.0.bias"].tolist() == [0, 1, 2]


def test_trainer_without_mirroring_allows_none(tmp_path):
    assert read_checkpoint(saved(tmp_path, usual(inference_allowed_mirroring_axes=None))).mirror == ()


class Command:
    """When unpickled, runs a command."""

    def __init__(self, file):
        self.file = file

    def __reduce__(self):
        return os.system, (f"touch '{self.file}'",)


class Evaluated(Command):
    def __reduce__(self):
        return eval, (f"open({str(self.file)!r}, 'w').close()",)


@pytest.mark.parametrize("kind", [Command, Evaluated])
@pytest.mark.parametrize("place", ["logging", "network_weights", "init_args", "another"])
def test_checkpoint_with_code_is_refused_and_not_executed(tmp_path, kind, place):
    path = saved(tmp_path, usual(**{place: kind(tmp_path / "ran")}))
    with pytest.raises(ModelError, match="holds more than numbers and texts.*could run code"):
        read_checkpoint(path)
    assert not (tmp_path / "ran").exists()
    torch.load(path, weights_only=False)  # as happens without the check
    assert (tmp_path / "ran").exists()


def test_bare_pickle_with_code_is_refused(tmp_path):
    path = tmp_path / "checkpoint_final.pth"
    path.write_bytes(pickle.dumps(Command(tmp_path / "ran")))
    with pytest.raises(ModelError, match="no checkpoint that PyTorch wrote"):
        read_checkpoint(path)
    assert not (tmp_path / "ran").exists()


def rewritten(path, change, packed_by=zipfile.ZIP_STORED):
    """The zip file with its members (name -> bytes) changed, stored as by PyTorch."""
    with zipfile.ZipFile(path) as packed:
        members = {name: packed.read(name) for name in packed.namelist()}
    change(members)
    with zipfile.ZipFile(path, "w", packed_by) as packed:
        for name, content in members.items():
            packed.writestr(name, content)
    return path


def test_path_outside_the_folder_is_not_written(tmp_path):
    inside = tmp_path / "inside"
    inside.mkdir()
    path = rewritten(saved(inside, usual()), lambda members: members.update({"../evil.txt": b"evil"}))
    try:
        read_checkpoint(path)
    except ModelError as error:
        assert "Copy it again" in str(error)
    assert sorted(file.name for file in tmp_path.rglob("*")) == ["checkpoint_final.pth", "inside"]


def test_file_with_compressed_parts_is_refused(tmp_path):
    path = rewritten(saved(tmp_path, usual()), lambda members: None, zipfile.ZIP_DEFLATED)
    with pytest.raises(ModelError, match="no checkpoint that PyTorch wrote"):
        read_checkpoint(path)
    assert read_checkpoint(rewritten(saved(tmp_path, usual()), lambda members: None)).weights


def huge(members):
    """Change the three elements of the bias to 2^40."""
    name = next(name for name in members if name.endswith("data.pkl"))
    three, many = b"K\x03\x85", b"\x8a\x06" + (1 << 40).to_bytes(6, "little") + b"\x85"
    assert three in members[name]
    members[name] = members[name].replace(three, many)


def test_tensor_larger_than_the_file_allocates_nothing(tmp_path):
    path = rewritten(saved(tmp_path, usual()), huge)
    with pytest.raises(ModelError, match="cannot be read as a checkpoint|asks for more memory"):
        read_checkpoint(path)


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.9, 0.999])
def test_truncated_file_is_reported(tmp_path, share):
    path = saved(tmp_path, usual())
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(ModelError, match="Copy it again"):
        read_checkpoint(path)


@pytest.mark.parametrize(
    ("plain", "reason"),
    [
        ([1, 2], "no checkpoint of nnU-Net version 2"),
        ({"state_dict": {}}, "no checkpoint of nnU-Net version 2"),
        (usual(network_weights={}), "no checkpoint of nnU-Net version 2"),
        (usual(network_weights={"a": [1.0]}), "'a' is no array of numbers"),
        (usual(network_weights={"a": torch.ones(2, dtype=torch.int64)}), "'a' is no array of numbers"),
        (usual(network_weights={"a": torch.ones(2, 2).to_sparse()}), "'a' is no array of numbers"),
        (usual(network_weights={3: torch.ones(2)}), "3 is no array of numbers"),
        (usual(inference_allowed_mirroring_axes=(0, 3)), "axes 0, 1 and 2 are known"),
        (usual(inference_allowed_mirroring_axes="x"), "axes 0, 1 and 2 are known"),
    ],
)
def test_foreign_checkpoint_is_refused(tmp_path, plain, reason):
    with pytest.raises(ModelError, match=reason):
        read_checkpoint(saved(tmp_path, plain))


def test_missing_file_and_outdated_torch_are_reported(tmp_path, monkeypatch):
    with pytest.raises(ModelError, match="cannot be read: No such file"):
        read_checkpoint(tmp_path / "no.pth")
    monkeypatch.setattr(reading.torch, "__version__", "2.5.1+cpu")
    with pytest.raises(ModelError, match="Install torch 2.6 or newer"):
        read_checkpoint(saved(tmp_path, usual()))
