"""Answers of a cluster worker, without a cluster: decoded bytes, never a pickle."""

import os
import pickle
from types import SimpleNamespace

import numpy as np
import pytest
from datasets import write_case
from models import brain_spec, write_brain_model

from DanteSegmenterLib.batch import Options
from DanteSegmenterLib.batch.cluster import _answer, decode, segment_as_bytes
from DanteSegmenterLib.cases.case_folder import Case, read_case_folder
from DanteSegmenterLib.errors import DanteError
from DanteSegmenterLib.worker.protocol import CancelRequest, CaseMessage, encode


class Evil:
    def __reduce__(self):
        return os.system, ("touch pwned",)


def frame(message, *arrays):
    return b"".join(bytes(piece) for piece in encode(message, arrays))


def case(name="A"):
    return Case(name, {}, None, {}, "")


def test_answer_is_a_slice_with_its_masks_and_numbers(tmp_path):
    model = write_brain_model(tmp_path / "model")
    patient = read_case_folder(write_case(tmp_path / "A", seed=0))
    data = segment_as_bytes(str(model), patient, tmp_path / "A.seg.nrrd", Options("cpu"))
    answer = decode(data, patient, brain_spec())
    assert type(data) is bytes and (tmp_path / "A.seg.nrrd").is_file()
    assert answer.outcome.state == "done" and answer.outcome.report.volumes_ml["WT"] > 0
    assert answer.tile.reference.array.shape[0] == 1 and answer.tile.masks["WT"].any()
    assert not (answer.tile.masks["ET"] & ~answer.tile.masks["WT"]).any()


@pytest.mark.parametrize(
    "data",
    [
        Evil(),
        None,
        b"",
        b"DNTE",
        pickle.dumps(Evil()),
        frame(CancelRequest(1)),
        frame(CaseMessage("B", "done", "")),
        frame(CaseMessage("A", "done", "")) * 2,
        frame(CaseMessage("A", "done", ""), np.zeros((1, 2, 2), np.float32)),
        frame(CaseMessage("A", "done", ""), np.zeros((2, 2, 2), np.float32), np.zeros((2, 2, 2), np.uint8)),
    ],
)
def test_other_answers_are_refused(data, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DanteError):
        decode(data, case(), brain_spec())
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("status", ["error", "cancelled", "lost"])
def test_reason_of_a_lost_case_is_not_taken_from_the_worker(status):
    answer = _answer(SimpleNamespace(status=status), case(), brain_spec())
    assert answer.outcome.state == "failed" and answer.outcome.message and answer.tile is None
