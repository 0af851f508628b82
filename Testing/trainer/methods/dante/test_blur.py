"""The blur baseline for Stage 1, against scipy and by hand."""

import pytest
import torch
from scipy import ndimage

from DanteTrainerLib.methods.dante.blur import blur_warning, blurred


def test_blur_equals_scipy_normalised_blur_of_visible_voxels():
    generator = torch.Generator().manual_seed(0)
    image = torch.randn(1, 1, 16, 12, 8, generator=generator)
    mask = (torch.rand(1, 1, 8, 6, 4, generator=generator) > 0.5).float()
    visible = mask[0, 0].numpy().repeat(2, 0).repeat(2, 1).repeat(2, 2)
    by_scipy = [
        ndimage.gaussian_filter(x, 1.2, truncate=4 / 1.2, mode="constant")
        for x in (image[0, 0].numpy() * visible, visible)
    ]
    found = blurred(image, mask, (2, 2, 2))[0, 0].numpy()
    assert found == pytest.approx(by_scipy[0] / by_scipy[1], abs=1e-4)


def test_blur_fills_a_constant_image_and_is_zero_far_from_visible_voxels():
    mask = torch.ones(1, 1, 4, 1, 1)
    mask[0, 0, 1:] = 0
    guess = blurred(torch.full((1, 2, 64, 2, 2), 3.0), mask, (4, 1, 1))
    assert torch.allclose(guess[:, :, :20], torch.tensor(3.0), atol=1e-4) and (guess[:, :, 40:] == 0).all()


def test_reconstruction_no_better_than_the_blur_is_named_with_both_errors():
    def row(step, a, b):
        return {"step": step, "loss_A": a, "log_blur_A": 0.5, "loss_B": b, "log_blur_B": 0.5}

    rows = [row(n, 0.9, 0.9) for n in range(6)] + [row(n, 0.6, 0.4) for n in range(6, 8)]
    assert "A 0.600 (blur 0.500)." in blur_warning(rows) and "B 0." not in blur_warning(rows)
    assert blur_warning([row(0, 0.4, 0.4)] * 2) is None and blur_warning([{"loss_A": 1.0}] * 2) is None


def test_comparison_before_anything_is_learned_gives_no_warning():
    first = {"loss_A": 0.9, "log_blur_A": 0.5}
    assert blur_warning([first]) is None and blur_warning([first, {"loss_A": 0.8}]) is None
    assert blur_warning([first, first]) is not None
