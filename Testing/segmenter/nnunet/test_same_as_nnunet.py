"""nnU-Net, if installed, and the model imported from it give the same result for an unseen patient."""

import importlib.util

import numpy as np
import pytest
import torch
from nnunet_models import Recipe, patient, predicted, write_results

from DanteSegmenterLib.inference import load_model, segment, segmenting, sliding_window
from DanteSegmenterLib.nnunet import Choices, import_model

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(importlib.util.find_spec("nnunetv2") is None, reason="nnunetv2 is not installed (extra: bench)"),
]
RECIPES = {
    "plain, labels": (Recipe(), 1, False),
    "plain, labels, two folds, mirrored": (Recipe(), 2, True),
    "plain, regions, plans of 2.0": (Recipe(regions=True, old_plans=True), 1, False),
    "plain, labels, thick sagittal slices": (Recipe(thick=True), 1, True),
    "residual, labels": (Recipe(residual=True), 1, False),
    "residual, regions, thick sagittal slices, two folds": (Recipe(True, True, True), 2, True),
}
# nnU-Net sums the logits of windows in half precision, whose rounding flips voxels where two logits are nearly equal:
# in a smaller region, a single voxel would exceed any tolerance.
ENOUGH_VOXELS = 200
AS_IT_IS = {"voxels": 0.999, "dice": 0.998}
IN_SINGLE_PRECISION = {"voxels": 0.9999, "dice": 0.999}


def dice(a, b):
    return 2 * np.count_nonzero(a & b) / (np.count_nonzero(a) + np.count_nonzero(b))


class InSinglePrecision:
    """torch with half precision replaced by single."""

    half = torch.float32

    def __getattr__(self, name):
        return getattr(torch, name)


@pytest.fixture(autouse=True)
def float32(monkeypatch):
    monkeypatch.setattr(segmenting, "fastest_dtype", lambda device: torch.float32)


def compare(name, ours, theirs, bar):
    """Compare label maps; results are printed for docs/nnunet.md."""
    agree = np.mean(ours == theirs)
    found = {value: np.count_nonzero(theirs == value) for value in (1, 2, 3)}
    scores = {v: round(dice(ours == v, theirs == v), 5) for v, n in found.items() if n >= ENOUGH_VOXELS}
    print(f"{name}: {agree:.6f} of {ours.size} voxels, Dice {scores}; there are {found}")
    assert agree >= bar["voxels"] and scores and min(scores.values()) >= bar["dice"]


@pytest.mark.parametrize("name", RECIPES)
def test_labels_equal_nnunet_up_to_rounding_and_probabilities_agree(tmp_path, monkeypatch, name):
    recipe, folds, mirror = RECIPES[name]
    root = write_results(tmp_path, recipe, folds)
    volumes, _ = patient(recipe)
    spec = import_model(root, tmp_path / "model", Choices())
    by_id = {modality.id: volume for modality, volume in zip(spec.modalities, volumes.values())}
    model = load_model(tmp_path / "model", "cpu")
    ours = segment(model, by_id, mirror=mirror)
    compare(f"{name}, as it is", ours.label_map, predicted(root, volumes, folds, mirror)[0], AS_IT_IS)

    from nnunetv2.inference import predict_from_raw_data as predictor

    gaussian = predictor.compute_gaussian
    monkeypatch.setattr(predictor, "torch", InSinglePrecision())
    monkeypatch.setattr(predictor, "compute_gaussian", lambda *a, **k: gaussian(*a, **{**k, "dtype": torch.float32}))
    monkeypatch.setattr(sliding_window, "NNUNET_LEAST_WEIGHT", 0.0)  # otherwise the smallest in half precision
    ours = segment(model, by_id, mirror=mirror, probabilities=True)
    theirs, probabilities = predicted(root, volumes, folds, mirror)
    compare(f"{name}, in single precision", ours.label_map, theirs, IN_SINGLE_PRECISION)
    off = np.abs(probabilities[spec.output == "labels" :] - ours.probabilities)
    print(f"{name}: probabilities differ by {off.max():.1e}, half of them by less than {np.median(off[off > 0]):.1e}")
    assert off.max() < 1e-4
