import hashlib
import io
import os
import pickle
import random
import re

import pytest
import torch

from DanteSegmenterLib.errors import ResourceError
from DanteTrainerLib.loop.checkpoint import MAGIC, NAME, PREVIOUS, load_checkpoint, save_checkpoint
from DanteTrainerLib.loop.stage import Stage
from DanteTrainerLib.loop.trainer import Progress


def state(step):
    return {"step": step, "networks": {"w": torch.arange(5.0) * step}, "rows": [{"stage": "s", "loss": 0.5}]}


def test_checkpoint_round_trips_and_the_previous_one_is_kept(tmp_path):
    for step in (1, 2, 3):
        save_checkpoint(tmp_path, state(step))
    loaded, note = load_checkpoint(tmp_path)
    assert loaded["step"] == 3 and torch.equal(loaded["networks"]["w"], torch.arange(5.0) * 3) and note is None
    assert sorted(os.listdir(tmp_path)) == [PREVIOUS, NAME]


def test_missing_checkpoint_gives_none(tmp_path):
    assert load_checkpoint(tmp_path) == (None, None)


def damage_at(path, position):
    content = bytearray(path.read_bytes())
    content[position] ^= 0x40
    path.write_bytes(content)


def test_damaged_checkpoint_falls_back_to_the_previous_with_a_warning(tmp_path):
    save_checkpoint(tmp_path, state(1))
    save_checkpoint(tmp_path, state(2))
    size = (tmp_path / NAME).stat().st_size
    for position in [0, 20, 60, size // 2, size - 1, *random.Random(0).sample(range(size), 10)]:
        damage_at(tmp_path / NAME, position)
        loaded, note = load_checkpoint(tmp_path)
        assert loaded["step"] == 1 and "damaged" in note and "step 1" in note
        damage_at(tmp_path / NAME, position)
    assert load_checkpoint(tmp_path)[0]["step"] == 2


@pytest.mark.parametrize("kept", [0, 10, 100, 0.5, 0.99])
def test_truncated_checkpoint_falls_back_to_the_previous(tmp_path, kept):
    save_checkpoint(tmp_path, state(1))
    save_checkpoint(tmp_path, state(2))
    content = (tmp_path / NAME).read_bytes()
    (tmp_path / NAME).write_bytes(content[: kept if isinstance(kept, int) else int(kept * len(content))])
    assert load_checkpoint(tmp_path)[0]["step"] == 1


def test_only_damaged_checkpoints_are_an_error(tmp_path):
    save_checkpoint(tmp_path, state(1))
    damage_at(tmp_path / NAME, 50)
    with pytest.raises(ResourceError, match="no intact checkpoint"):
        load_checkpoint(tmp_path)


def test_crash_between_the_two_renames_loses_nothing(tmp_path, monkeypatch):
    save_checkpoint(tmp_path, state(1))
    real, calls = os.replace, []

    def crash_on_second(*arguments):
        calls.append(arguments)
        if len(calls) == 2:
            raise KeyboardInterrupt
        real(*arguments)

    monkeypatch.setattr(os, "replace", crash_on_second)
    with pytest.raises(KeyboardInterrupt):
        save_checkpoint(tmp_path, state(2))
    assert load_checkpoint(tmp_path)[0]["step"] == 1


def test_full_disk_keeps_old_checkpoints_and_gives_advice(tmp_path, monkeypatch):
    save_checkpoint(tmp_path, state(1))

    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(ResourceError, match="No space left.*make room and resume"):
        save_checkpoint(tmp_path, state(2))
    assert os.listdir(tmp_path) == [NAME] and load_checkpoint(tmp_path)[0]["step"] == 1


def packed(content):
    """A file with a correct digest and arbitrary content."""
    return MAGIC + hashlib.sha256(content).digest() + content


def saved(value):
    buffer = io.BytesIO()
    torch.save(value, buffer)
    return packed(buffer.getvalue())


class Evil:
    def __reduce__(self):
        return os.system, ("touch pwned",)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (packed(pickle.dumps(Evil(), protocol=2)), "something else than a state"),
        (saved({"x": Evil()}), "something else than a state"),
        (saved({}), "something else than the state"),
        (saved([1, 2]), "something else than the state"),
        (saved({**state(3), "step": -1}), "something else than the state"),
        (saved({**state(3), "step": True}), "something else than the state"),
        (saved({**state(3), "networks": {"w": torch.tensor([1.0, float("nan")])}}), r"not finite \('w'\)"),
        (saved({**state(3), "networks": {"w": torch.tensor([float("inf")])}}), "not finite"),
        (b"DANTE checkpoint 2\n" + bytes(50), "another version of SlicerDANTE"),
    ],
)
def test_invalid_state_is_skipped_or_refused_and_never_executed(tmp_path, monkeypatch, content, reason):
    monkeypatch.chdir(tmp_path)
    save_checkpoint(tmp_path, state(1))
    save_checkpoint(tmp_path, state(2))
    (tmp_path / NAME).write_bytes(content)
    loaded, note = load_checkpoint(tmp_path)
    assert loaded["step"] == 1 and re.search(reason, note) and "going on from the one before, step 1" in note
    (tmp_path / PREVIOUS).write_bytes(content)
    with pytest.raises(ResourceError, match=reason):
        load_checkpoint(tmp_path)
    assert not (tmp_path / "pwned").exists()


def test_checkpoint_of_another_run_is_refused(tmp_path):
    save_checkpoint(tmp_path, {"run": "mine", **state(1)})
    save_checkpoint(tmp_path, {"run": "yours", **state(2)})
    assert load_checkpoint(tmp_path, "mine")[0]["step"] == 1
    with pytest.raises(ResourceError, match="belongs to another run"):
        load_checkpoint(tmp_path, "theirs")


def test_checkpoint_stage_and_step_must_exist(tmp_path):
    stages = [Stage("one", torch.nn.ModuleDict(), 10, lambda *_: None)]
    assert Progress.of({"stage": 0, "step": 30, "steps": 50, "rows": []}, stages).step == 30  # run.steps was lowered
    for wrong in ({"stage": 7}, {"stage": -1}, {"stage": None}, {"step": 51}, {"rows": None}):
        with pytest.raises(ResourceError, match="Start a new run"):
            Progress.of({"stage": 0, "step": 30, "steps": 50, "rows": [], **wrong}, stages)
