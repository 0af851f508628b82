"""Calibration on numbers with known results, and on a tiny model through the command line."""

import errno
import json
import os
from dataclasses import replace

import numpy as np
import pytest
from models import LIMITED, write_brain_model
from small_trainings import small, train

from DanteSegmenterLib.errors import Cancelled, InputError, ResourceError
from DanteSegmenterLib.model_folder import Scaling, read_spec, write_spec
from DanteTrainerLib import whole_files
from DanteTrainerLib.__main__ import main
from DanteTrainerLib.data.dataset import read_dataset
from DanteTrainerLib.evaluation import calibrate as calibrating
from DanteTrainerLib.evaluation.calibrate import MARGINS, Fit, RegionOfCase, calibrate, fit
from DanteTrainerLib.evaluation.calibrate import _region_of_case as region_of_case


def case(p, truth, range_ml=None, truth_ml=1.0):
    p = np.asarray(p, np.float32)
    ranges = np.zeros((len(MARGINS), 2)) if range_ml is None else range_ml
    return RegionOfCase(p, np.asarray(truth, bool), p > 0.5, ranges, truth_ml)


def raw_and_true(raw, right):
    """Voxels with a raw probability, of which a share is right."""
    return np.full(1000, raw), np.arange(1000) < 1000 * right


def test_known_scaling_is_recovered():
    # true odds are the raw ones squared and halved: temperature 1/2, offset -ln 2
    parts = [(raw, (raw / (1 - raw)) ** 2 / 2) for raw in (0.2, 0.4, 0.6, 0.8)]
    voxels = [raw_and_true(raw, odds / (1 + odds)) for raw, odds in parts]
    found = fit("ET", [case(*(np.concatenate(side) for side in zip(*voxels)))])
    assert found.scaling.temperature == pytest.approx(0.5, abs=0.02)
    assert found.scaling.offset == pytest.approx(-np.log(2), abs=0.02)


def test_overconfident_probabilities_are_scaled_to_the_true_rate():
    found = fit("ET", [case(*raw_and_true(0.9, 1 / 3)), case(*raw_and_true(0.9, 1 / 3))])
    assert found.sure_before == pytest.approx(0.9) and found.right == pytest.approx(1 / 3, abs=0.001)
    assert found.sure == pytest.approx(found.right, abs=0.01)


def test_every_case_has_equal_weight():
    small_case = case(np.full(10, 0.9), np.zeros(10))
    found = fit("ET", [case(*raw_and_true(0.9, 1.0)), small_case])
    assert found.right == 0.5 and found.sure == pytest.approx(0.5, abs=0.01)


def test_margin_is_the_smallest_that_covers_three_quarters():
    def with_margin(needed):
        """A case whose range contains the true 1 mL from this margin on."""
        wide = needed - 1e-9 <= MARGINS
        return case([0.9], [1], np.stack([np.where(wide, 0.5, 1.1), np.where(wide, 2.0, 1.2)], axis=1))

    found = fit("ET", [with_margin(m) for m in (0.5, 1.0, 2.0, 6.0)])
    assert found.scaling.range_margin == pytest.approx(2.0) and found.range_holds == 0.75


def test_probabilities_are_unscaled_without_voxels_to_fit():
    found = fit("ET", [case([], []), case([], [])])
    assert (found.scaling.temperature, found.scaling.offset) == (1.0, 0.0) and np.isnan(found.sure)


def test_fit_uses_voxels_of_relevant_probability_or_predicted_positive():
    p = np.array([[[0.05, 0.2, 0.9, 0.04]]], np.float32)
    truth, mask = np.array([[[1, 1, 0, 0]]], bool), np.array([[[0, 0, 1, 1]]], bool)
    seen = region_of_case(p, truth, mask, voxel_ml=0.5)
    assert seen.probability.tolist() == p.ravel()[1:].tolist()
    assert (seen.truth.tolist(), seen.mask.tolist()) == ([True, False, False], [False, True, True])
    assert seen.truth_ml == 1.0  # over all voxels
    assert seen.range_ml[0].tolist() == [0.5, 0.5] and seen.range_ml[-1].tolist() == [0.0, 2.0]  # margins 0 and 7


def test_model_folder_is_calibrated_in_place_and_its_masks_stay(data, tmp_path, capsys):
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


def test_unwritable_model_folder_is_detected_before_segmenting(data, tmp_path, monkeypatch):
    model = train(data, tmp_path / "run", small("lower"))
    monkeypatch.setattr(calibrating, "segment_and_truth", lambda *_: pytest.fail("segmented"))
    monkeypatch.setattr(whole_files.tempfile, "TemporaryFile", refused)
    with pytest.raises(ResourceError, match="nothing can be written to .*model': Permission denied"):
        calibrate(model, read_dataset(data), ["A", "B", "C"], "cpu", quiet=True)


def refused(*_, **__):
    raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))


def test_recalibration_uses_the_unscaled_probabilities(data, tmp_path, monkeypatch):
    model, seen = write_brain_model(tmp_path, with_full=True), []
    spec = read_spec(model)
    scaled = {name: replace(p, scaling={"WT": Scaling(temperature=3.0)}) for name, p in spec.pathways.items()}
    write_spec(model, replace(spec, **scaled))

    def look(model, case, pathway, options):
        seen.append((case.name, pathway.modalities, pathway.scaling, options.probabilities))
        raise Cancelled

    monkeypatch.setattr(calibrating, "segment_and_truth", look)
    with pytest.raises(Cancelled):
        calibrate(model, read_dataset(data), ["A", "B", "C"], "cpu", quiet=True)
    assert seen == [("A", LIMITED, {}, True)]


def test_each_network_gets_its_own_scaling(data, tmp_path, monkeypatch):
    def fitted(model, pathway, *_):
        return [Fit("TC", Scaling(temperature=len(pathway.modalities), cases=3), 0.5, 0.5, 0.5, 0.5)]

    monkeypatch.setattr(calibrating, "_fit_pathway", fitted)
    model = write_brain_model(tmp_path, with_full=True)
    calibrate(model, read_dataset(data), ["A", "B", "C"], "cpu", quiet=True)
    scalings = [pathway.scaling_of("TC").temperature for pathway in read_spec(model).pathways.values()]
    assert scalings == [3, 4]


def test_too_few_cases_are_refused_and_the_model_unchanged(data, tmp_path):
    model = train(data, tmp_path / "run", small("lower"))
    before = (model / "model.json").read_bytes()
    with pytest.raises(InputError, match="too few cases to calibrate on: 1; 3 at least"):
        calibrate(model, read_dataset(data), ["A"], "cpu", quiet=True)
    assert (model / "model.json").read_bytes() == before
