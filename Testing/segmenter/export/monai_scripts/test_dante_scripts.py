"""The scripts of a bundle compute the same as the package, and do not import it."""

from pathlib import Path

import numpy as np
import pytest
import torch
from models import LPS_2MM, TINY_NETWORK
from monai.data import MetaTensor

from DanteSegmenterLib.export.monai_scripts import dante
from DanteSegmenterLib.inference.sliding_window import Plan, gaussian_window, predict_logits, window_starts
from DanteSegmenterLib.model_folder import Normalisation, Preprocessing
from DanteSegmenterLib.networks.unet import UNet, initialise
from DanteSegmenterLib.preprocess import Background, prepare, resample
from DanteSegmenterLib.volume import Volume

WINDOW = Normalisation("ct_window", -100.0, 300.0, 0.0, 1.0)


def test_scripts_run_without_this_package():
    text = Path(dante.__file__).read_text(encoding="utf-8")
    assert "SegmenterLib" not in text and "from ." not in text


@pytest.mark.parametrize("shape", [(5, 11, 3), (10, 7, 3), (1, 1, 1)])
def test_resampling_equals_ours(shape):
    array = np.random.default_rng(0).normal(size=(2, 9, 7, 5)).astype(np.float32)
    np.testing.assert_allclose(
        dante.resample(torch.from_numpy(array), shape).numpy(), resample(array, shape), atol=1e-6
    )


def test_windows_and_weights_equal_ours():
    for size in range(1, 200):
        assert dante.even_starts(size, 16) == window_starts(size, 16)
    assert torch.equal(dante.gaussian((4, 7, 16)), gaussian_window((4, 7, 16)))


def volumes():
    """Two CTs with different body positions and spacings of an irregular ratio."""
    rng, found = np.random.default_rng(1), {}
    for name, at in (("a", 3), ("b", 6)):
        array = np.full((21, 26, 31), -500, np.float32)
        array[at : at + 11, at : at + 13, at : at + 14] = rng.uniform(-50, 250, (11, 13, 14))
        found[name] = Volume(array, LPS_2MM @ np.diag([0.5, 0.9, 1.3, 1.0]), name)
    return found


def as_monai(volume):
    """[1, I, J, K] with the affine in RAS."""
    array = torch.from_numpy(np.ascontiguousarray(volume.array.T, dtype=np.float32))[None]
    return MetaTensor(array, affine=torch.from_numpy(volume.ijk_to_ras))


def test_grid_conversion_equals_ours_in_both_directions():
    given, spacing = volumes(), (2.0, 2.5, 0.8)
    preprocessing = Preprocessing("LPS", spacing, {"a": WINDOW, "b": WINDOW})
    prepared = prepare(given, ("a", "b"), preprocessing)
    grid = dante.NetworkGridd(("a", "b"), spacing[::-1], (WINDOW.low, WINDOW.low))
    found = grid({name: as_monai(volume) for name, volume in given.items()})
    for name, wanted in zip("ab", prepared.tensor):
        array = found[name].as_tensor()[0].clamp(WINDOW.low, WINDOW.high).numpy().T
        np.testing.assert_allclose(array, wanted, atol=1e-3)
        np.testing.assert_allclose(found[name].affine.numpy(), prepared.geometry.ijk_to_ras, atol=1e-6)
    probability = np.random.default_rng(2).uniform(size=(2, *prepared.tensor.shape[1:])).astype(np.float32)
    moved = MetaTensor(
        torch.from_numpy(np.ascontiguousarray(probability.transpose(0, 3, 2, 1))),
        affine=found["a"].affine,
        applied_operations=found["a"].applied_operations,
    )
    grid.allow_missing_keys = True  # as MONAI's Invertd does
    back = grid.inverse({"a": moved})["a"]
    np.testing.assert_allclose(
        back.as_tensor().numpy().transpose(0, 3, 2, 1), prepared.geometry.restore(probability), atol=1e-6
    )
    np.testing.assert_allclose(back.affine.numpy(), given["a"].ijk_to_ras, atol=1e-6)
    assert not back.applied_operations


def test_empty_image_is_refused():
    empty = MetaTensor(torch.zeros(1, 4, 4, 4), affine=torch.eye(4))
    with pytest.raises(ValueError, match="all voxels are background"):
        dante.NetworkGridd(("a",), (1.0, 1.0, 1.0), (None,))({"a": empty})


@pytest.mark.parametrize("inside_only", [True, False])
@pytest.mark.parametrize("shape", [(10, 12, 9), (40, 16, 21)])
def test_windows_give_our_logits(shape, inside_only):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = UNet(2, 3, TINY_NETWORK).eval()
        initialise(network)
    background = Background((0.0, -1.5), (inside_only, inside_only))
    image = torch.tensor(background.values)[:, None, None, None].repeat(1, *shape)
    image[:, 2:-2, 3:-3, 2:-2] = torch.from_numpy(
        np.random.default_rng(0).normal(size=image[:, 2:-2, 3:-3, 2:-2].shape)
    ).float()
    image[:, :20] = torch.where(
        torch.arange(shape[0])[None, :20, None, None] > 17,
        torch.tensor(background.values)[:, None, None, None],
        image[:, :20],
    )
    plan, quiet = Plan(torch.device("cpu"), torch.float32, 2), (lambda *_: False)
    wanted, _ = predict_logits(network, image, background, (16, 16, 16), 3, plan, quiet, quiet)
    inferer = dante.EvenWindowsInferer((16, 16, 16), background.values, (-9.0, -8.0, -7.0), inside_only, 2)
    with torch.no_grad():
        found = inferer(
            image.permute(0, 3, 2, 1)[None], lambda x: network(x.permute(0, 1, 4, 3, 2)).permute(0, 1, 4, 3, 2)
        )
    there = torch.from_numpy(background.foreground(image.numpy()))
    covered = wanted.covered & there if inside_only else wanted.covered
    expected = torch.where(covered, wanted.logits, torch.tensor([-9.0, -8.0, -7.0])[:, None, None, None])
    torch.testing.assert_close(found[0].permute(0, 3, 2, 1), expected, atol=1e-4, rtol=1e-4)
