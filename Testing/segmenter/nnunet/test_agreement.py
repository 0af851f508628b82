"""nnU-Net itself, where it is installed, and the model imported from it say the same of a patient it has not seen."""

import importlib.util

import numpy as np
import pytest
import torch
from nnunet_models import Recipe, patient, predicted, write_results

from DanteSegmenterLib.inference import load_model, segment, segmenting
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
# A region of some voxels may lose one to the rounding of nnU-Net's sums.
ENOUGH_VOXELS = 200


def dice(a, b):
    return 2 * np.count_nonzero(a & b) / (np.count_nonzero(a) + np.count_nonzero(b))


class InSinglePrecision:
    """torch, but that what asks for half precision gets single: nnU-Net sums logits in half precision, on a CPU too."""

    half = torch.float32

    def __getattr__(self, name):
        return getattr(torch, name)


@pytest.fixture(autouse=True)
def float32(monkeypatch):
    monkeypatch.setattr(segmenting, "fastest_dtype", lambda device: torch.float32)


@pytest.mark.parametrize("name", RECIPES)
def test_label_maps_are_the_same_but_for_rounding(tmp_path, monkeypatch, name):
    recipe, folds, mirror = RECIPES[name]
    root = write_results(tmp_path, recipe, folds)
    volumes, _ = patient(recipe)
    spec = import_model(root, tmp_path / "model", Choices())
    by_id = {modality.id: volume for modality, volume in zip(spec.modalities, volumes.values())}
    result = segment(load_model(tmp_path / "model", "cpu"), by_id, mirror=mirror, probabilities=True)

    theirs, _ = predicted(root, volumes, folds, mirror)
    agree = np.mean(result.label_map == theirs)
    found = {value: np.count_nonzero(theirs == value) for value in (1, 2, 3)}
    scores = {v: dice(result.label_map == v, theirs == v) for v, n in found.items() if n >= ENOUGH_VOXELS}
    print(f"{name}: {agree:.6f} of voxels, Dice {scores} of {found} voxels")
    assert agree >= 0.999 and scores and min(scores.values()) >= 0.999

    from nnunetv2.inference import predict_from_raw_data as predictor

    gaussian = predictor.compute_gaussian
    monkeypatch.setattr(predictor, "torch", InSinglePrecision())
    monkeypatch.setattr(predictor, "compute_gaussian", lambda *a, **k: gaussian(*a, **{**k, "dtype": torch.float32}))
    _, probabilities = predicted(root, volumes, folds, mirror)
    off = np.abs(probabilities[spec.output == "labels" :] - result.probabilities)
    print(f"{name}: probabilities differ by {off.max():.1e}, half of them by less than {np.median(off[off > 0]):.1e}")
    assert off.max() < 0.01 and np.mean(off > 1e-4) < 1e-3
