"""Calibration on numbers whose answer is known, and on a tiny model through the command line."""

import errno
import json
import os

import numpy as np
import pytest
from small_trainings import small, train

from DanteSegmenterLib.errors import InputError, ResourceError
from DanteSegmenterLib.model_folder import read_spec
from DanteTrainerLib import whole_files
from DanteTrainerLib.__main__ import main
from DanteTrainerLib.data.dataset import read_dataset
from DanteTrainerLib.evaluation import calibrate as module
from DanteTrainerLib.evaluation.calibrate import MARGINS, RegionOfCase, calibrate, fit


def case(p, truth, range_ml=None, truth_ml=1.0):
    p = np.asarray(p, np.float32)
    ranges = np.zeros((len(MARGINS), 2)) if range_ml is None else range_ml
    return RegionOfCase(p, np.asarray(truth, bool), p > 0.5, ranges, truth_ml)


def told_and_true(raw, right):
    """Voxels that are raw sure, of which a share is right."""
    return np.full(1000, raw), np.arange(1000) < 1000 * right


def test_the_scaling_that_was_put_in_is_found():
    # true odds are the raw ones squared and halved: temperature 1/2, offset -ln 2
    parts = [(raw, (raw / (1 - raw)) ** 2 / 2) for raw in (0.2, 0.4, 0.6, 0.8)]
    voxels = [told_and_true(raw, odds / (1 + odds)) for raw, odds in parts]
    found = fit("ET", [case(*(np.concatenate(side) for side in zip(*voxels)))])
    assert found.scaling.temperature == pytest.approx(0.5, abs=0.02)
    assert found.scaling.offset == pytest.approx(-np.log(2), abs=0.02)


def test_what_was_sure_of_nine_tenths_and_right_in_a_third_says_a_third():
    found = fit("ET", [case(*told_and_true(0.9, 1 / 3)), case(*told_and_true(0.9, 1 / 3))])
    assert found.sure_before == pytest.approx(0.9) and found.right == pytest.approx(1 / 3, abs=0.001)
    assert found.sure == pytest.approx(found.right, abs=0.01)


def test_every_case_counts_the_same_whatever_its_size():
    small_case = case(np.full(10, 0.9), np.zeros(10))
    found = fit("ET", [case(*told_and_true(0.9, 1.0)), small_case])
    assert found.right == 0.5 and found.sure == pytest.approx(0.5, abs=0.01)


def test_the_margin_is_the_smallest_that_holds_three_quarters():
    def with_margin(needed):
        """Its range holds the true 1 mL from this margin on."""
        wide = needed - 1e-9 <= MARGINS
        return case([0.9], [1], np.stack([np.where(wide, 0.5, 1.1), np.where(wide, 2.0, 1.2)], axis=1))

    found = fit("ET", [with_margin(m) for m in (0.5, 1.0, 2.0, 6.0)])
    assert found.scaling.range_margin == pytest.approx(2.0) and found.range_holds == 0.75


def test_without_a_voxel_to_fit_probabilities_are_shown_as_they_are():
    found = fit("ET", [case([], []), case([], [])])
    assert (found.scaling.temperature, found.scaling.offset) == (1.0, 0.0) and np.isnan(found.sure)


def test_a_model_folder_is_calibrated_in_place_and_its_masks_stay(data, tmp_path, capsys):
    model = train(data, tmp_path / "run", small("lower"))
    before = json.loads((model / "model.json").read_text())
    arguments = ["calibrate", str(model), "--data", str(data), "--split", "train", "--quiet", "--device", "cpu"]
    assert main(arguments) == 0
    assert "| limited | WT |" in capsys.readouterr().out
    after = json.loads((model / "model.json").read_text())
    scaling = after["limited"].pop("scaling")
    assert set(scaling) == {"WT", "TC", "ET"} and scaling["WT"]["cases"] == 3
    before["limited"].pop("scaling")
    assert after == before and read_spec(model).limited.scaling_of("WT").cases == 3
    calibrated = (model / "model.json").read_bytes()
    assert main(["resume", str(tmp_path / "run"), "--quiet", "--device", "cpu"]) == 0
    assert (model / "model.json").read_bytes() == calibrated


def test_a_model_folder_that_cannot_be_written_is_known_before_its_cases_are_segmented(data, tmp_path, monkeypatch):
    model = train(data, tmp_path / "run", small("lower"))
    monkeypatch.setattr(module, "segment_and_truth", lambda *_: pytest.fail("segmented"))
    monkeypatch.setattr(whole_files.tempfile, "TemporaryFile", refused)
    with pytest.raises(ResourceError, match="nothing can be written to .*model': Permission denied"):
        calibrate(model, read_dataset(data), ["A", "B", "C"], "cpu", quiet=True)


def refused(*_, **__):
    raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))


def test_too_few_cases_are_refused_and_the_model_is_as_before(data, tmp_path):
    model = train(data, tmp_path / "run", small("lower"))
    before = (model / "model.json").read_bytes()
    with pytest.raises(InputError, match="1 cases are too few to calibrate on; 3 at least"):
        calibrate(model, read_dataset(data), ["A"], "cpu", quiet=True)
    assert (model / "model.json").read_bytes() == before
