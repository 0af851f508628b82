"""The rows of a score table, for a model whose output is known by construction."""

import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from datasets import LPS_4MM, write_case
from models import LIMITED, brain_spec
from torch import nn

from DanteSegmenterLib.cases.case_folder import read_case_folder
from DanteSegmenterLib.errors import InputError
from DanteSegmenterLib.files import read_volume, write_volume
from DanteSegmenterLib.inference import Model
from DanteSegmenterLib.volume import Volume
from DanteTrainerLib.evaluation.evaluate import calibration_of, evaluate_case


class FirstHalf(nn.Module):
    """All three regions with a logit of 2 in the first half of every window along K, and -2 elsewhere."""

    def __init__(self):
        super().__init__()
        self.convolution = nn.Conv3d(1, 1, 1)

    def forward(self, images):
        logits = torch.full((len(images), 3, *images.shape[2:]), -2.0)
        logits[:, :, : images.shape[2] // 2] = 2.0
        return logits


@pytest.fixture
def case(tmp_path):
    """16 slices, one window, without background: the first 6 are oedema, the last is enhancing tumour."""
    folder = write_case(tmp_path / "A", 0)
    rng = np.random.default_rng(0)
    for scan in LIMITED:
        write_volume(folder / f"A_{scan}.nii.gz", Volume(rng.uniform(1, 2, (16, 8, 8)).astype(np.float32), LPS_4MM))
    mask = np.zeros((16, 8, 8), np.uint8)
    mask[:6], mask[15] = 2, 4
    write_volume(folder / "A_seg.nii.gz", Volume(mask, LPS_4MM))
    return read_case_folder(folder)


@pytest.fixture
def model(tmp_path):
    spec = brain_spec(spacing_mm=(4.0, 4.0, 4.0))
    return Model(tmp_path, spec, torch.device("cpu"), {spec.limited.files: FirstHalf()})


def test_row_has_sensitivity_and_precision(model, case):
    rows = {row["region"]: row for row in evaluate_case(model, case, model.spec.limited)}
    whole, slice_ml = rows["WT"], 8 * 8 * 0.064
    assert whole["truth_ml"] == pytest.approx(7 * slice_ml) and whole["volume_ml"] == pytest.approx(8 * slice_ml)
    assert whole["dice"] == pytest.approx(2 * 6 / (7 + 8)) and whole["precision"] == pytest.approx(6 / 8)
    assert whole["confidence"] == pytest.approx(1 / (1 + math.exp(-2)), abs=1e-3)
    assert rows["ET"]["precision"] == 0 and rows["ET"]["truth_ml"] == pytest.approx(slice_ml)


def test_mirroring_is_passed_on(model, case):
    """The mean of both halves is a logit of 0 everywhere: nothing is found."""
    whole = evaluate_case(model, case, model.spec.limited, mirror=True)[0]
    assert whole["volume_ml"] == 0 and whole["dice"] == 0 and math.isnan(whole["precision"])


def test_mask_on_another_grid_is_refused(model, case, tmp_path):
    label = read_volume(tmp_path / "A" / "A_seg.nii.gz")
    write_volume(tmp_path / "A" / "A_seg.nii.gz", replace(label, ijk_to_ras=np.diag([-4.0, -4.0, 5.0, 1.0])))
    with pytest.raises(InputError, match="case 'A': the mask is missing or not on the grid of 'A_t1"):
        evaluate_case(model, read_case_folder(tmp_path / "A"), model.spec.limited)


def test_mask_with_an_unknown_label_is_refused(model, case, tmp_path):
    label = read_volume(tmp_path / "A" / "A_seg.nii.gz")
    write_volume(tmp_path / "A" / "A_seg.nii.gz", label.with_array(np.where(label.array == 4, 7, label.array)))
    with pytest.raises(InputError, match=r"the mask 'A_seg.nii.gz' holds the labels \['7'\]"):
        evaluate_case(model, read_case_folder(tmp_path / "A"), model.spec.limited)


def test_range_covers_a_truth_between_or_on_its_ends():
    low, high, truth = [1.0] * 5, [2.0] * 5, [0.9, 1.0, 1.5, 2.0, 2.1]
    columns = {"volume_low_ml": low, "volume_high_ml": high, "truth_ml": truth, "confidence": 0.8, "precision": 0.5}
    found = calibration_of(pd.DataFrame(columns))
    assert (found.cases, found.confidence, found.precision, found.range_holds) == (5, 0.8, 0.5, 0.6)
