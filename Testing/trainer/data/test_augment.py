import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from DanteSegmenterLib.preprocess import Background
from DanteTrainerLib.data.augment import NONE, STRENGTHS, Augmentation, apply, draw, source_size
from DanteTrainerLib.settings.ranges import CHOICES

PATCH = (9, 9, 9)


def run(augmentation, image, regions=None, patch=None):
    """Augment MR without skull: images and regions."""
    image = torch.as_tensor(image, dtype=torch.float32)
    regions = torch.zeros(1, *image.shape[1:]) if regions is None else regions
    background = Background((0.0,) * len(image), (True,) * len(image))
    return apply(image, regions, patch or tuple(image.shape[1:]), augmentation, background)[:2]


def run_ct(augmentation, image, air, patch=None):
    """Augment CT: images and the foreground."""
    size = tuple(image.shape[1:])
    background = Background((air,) * len(image), (False,) * len(image))
    images, _, foreground = apply(image, torch.zeros(1, *size), patch or size, augmentation, background)
    return images, foreground


def marked(size, *kji):
    image = torch.zeros(1, *size)
    image[(0, *kji)] = 1
    return image


def test_no_draw_changes_nothing():
    image = torch.randn(2, *PATCH)
    assert torch.equal(run(NONE, image)[0], image)


@pytest.mark.parametrize("axis", range(3))
def test_mirroring_moves_the_first_voxel_to_the_end(axis):
    mirror = tuple(n == axis for n in range(3))
    corner = [0, 0, 0]
    image, regions = run(Augmentation(mirror=mirror), marked(PATCH, *corner), marked(PATCH, *corner))
    corner[axis] = 8
    assert image[(0, *corner)] == 1 and regions[(0, *corner)] == 1


@pytest.mark.parametrize("axis", range(3))
def test_quarter_turn_moves_a_voxel_as_expected(axis):
    angles = tuple(math.pi / 2 if n == axis else 0.0 for n in range(3))
    a, b = [n for n in range(3) if n != axis]
    here, there = [4, 4, 4], [4, 4, 4]
    here[a] += 3
    there[b] -= 3  # patch offset (0, -3) of the rotated plane reads source offset (3, 0)
    augmentation = Augmentation(angles=angles)
    size = source_size(PATCH, augmentation)
    centred = [h + (s - 9) // 2 for h, s in zip(here, size)]
    source = marked(size, *centred)
    image, regions = run(augmentation, source, source, PATCH)
    assert np.unravel_index(int(image[0].argmax()), PATCH) == tuple(there)
    assert image.max() > 0.9 and regions[(0, *there)] == 1


def test_scale_below_one_zooms_in():
    source = torch.zeros(1, *PATCH)
    source[0, 3:6, 3:6, 3:6] = 1  # 27 voxels
    _, regions = run(Augmentation(scale=0.5), source, source)
    assert regions.sum() == 5**3  # offsets -2 to 2 read -1 to 1; at 3 the source is exactly half, and not tumour


def test_rotated_patch_is_cut_from_a_region_containing_its_corners():
    assert source_size((10, 20, 30), NONE) == (10, 20, 30)
    turned = source_size((10, 10, 10), Augmentation(angles=(math.pi / 4, 0, 0)))
    assert turned[0] == 12 and turned[1] == turned[2] == math.ceil(10 * math.sqrt(2)) + 2


def test_background_stays_zero_under_every_intensity_transform():
    image = torch.randn(2, *PATCH)
    image[:, :4] = 0
    everything = Augmentation(
        noise=0.1,
        blur=((1.0, 0.5, 0.7), None),
        brightness=(1.2, 0.8),
        contrast=(1.2, 0.8),
        resolution=(0.5, 0.7),
        gamma_inverted=(1.2, 0.8),
        gamma=(0.7, 1.4),
    )
    assert not run(everything, image)[0][:, :4].any()


def test_ct_is_transformed_as_a_whole_including_air_and_zeros():
    image = torch.tensor([-2.0, 0.0, 2.0, 4.0]).reshape(1, 4, 1, 1)  # mean 1
    result, foreground = run_ct(Augmentation(contrast=(0.5,)), image, air=-2.0)
    assert result.ravel().tolist() == [-0.5, 0.5, 1.5, 2.5]
    assert foreground.ravel().tolist() == [False, True, True, True]
    mr, _ = run(Augmentation(contrast=(0.5,)), image)
    assert mr.ravel().tolist() == [-0.5, 0, 1.5, 2.5]


def test_ct_transform_is_equivariant_to_an_added_constant():
    everything_that_only_sees_differences = Augmentation(
        angles=(0.4, -0.3, 0.2),
        scale=1.2,
        noise=0.1,
        blur=((1.0, 0.5, 0.7),),
        contrast=(1.2,),
        resolution=(0.7,),
        gamma_inverted=(1.2,),
        gamma=(0.7,),
        mirror=(True, False, True),
    )
    image = torch.randint(-2, 3, (1, 12, 12, 12), generator=torch.Generator().manual_seed(0)).float()  # a fifth is 0
    plain, where = run_ct(everything_that_only_sees_differences, image, -2.0, PATCH)
    raised, again = run_ct(everything_that_only_sees_differences, image + 2, 0.0, PATCH)
    assert torch.allclose(plain + 2, raised, atol=1e-4) and torch.equal(where, again)


def test_rotated_patch_beyond_its_source_is_background():
    image = torch.zeros(1, *PATCH)  # blood, without context around it
    result, foreground = run_ct(Augmentation(angles=(math.pi / 4, 0, 0)), image, air=-2.0)
    corners, middle = result[0, :, [0, 0, -1, -1], [0, -1, 0, -1]], result[0, :, 2:7, 2:7]
    assert (corners == -2).all() and middle.abs().max() < 1e-6
    assert not foreground[0, :, [0, 0, -1, -1], [0, -1, 0, -1]].any() and foreground[0, :, 2:7, 2:7].all()


def test_noise_in_ct_air_does_not_make_it_foreground():
    image = torch.zeros(2, *PATCH)
    image[:, :3], image[0, 5:] = -2.0, -2.0  # air in both channels, and in one
    result, foreground = run_ct(Augmentation(noise=0.1, mirror=(True, False, False)), image, air=-2.0)
    assert (result[:, 6:] != -2).all()
    assert foreground.shape == (1, *PATCH) and foreground[0, :6].all() and not foreground[0, 6:].any()


def test_brightness_scales_only_the_drawn_channels():
    image = torch.full((2, 2, 2, 2), 2.0)
    result, _ = run(Augmentation(brightness=(1.25, None)), image)
    assert result[0, 0, 0, 0] == 2.5 and result[1, 0, 0, 0] == 2


def test_contrast_scales_about_the_mean_within_the_original_range():
    image = torch.tensor([1.0, 2.0, 4.0, 5.0]).reshape(1, 4, 1, 1)  # mean 3
    result, _ = run(Augmentation(contrast=(1.25,)), image)
    assert result.ravel().tolist() == [1, 1.75, 4.25, 5]


def test_gamma_keeps_mean_and_deviation():
    image = torch.tensor([1.0, 2.0, 3.0, 5.0]).reshape(1, 4, 1, 1)
    result, _ = run(Augmentation(gamma=(2.0,)), image)
    assert result.mean().item() == pytest.approx(2.75) and torch.allclose(result.std(), image.std())
    # Scaled to 0, 1/4, 1/2, 1 the squares are 0, 1/16, 1/4, 1: the ratio of steps is kept by mean and deviation.
    a, b, c, d = result.ravel().tolist()
    assert (b - a) / (d - a) == pytest.approx(1 / 16, rel=1e-3) and (c - a) / (d - a) == pytest.approx(1 / 4, rel=1e-3)


def test_inverted_gamma_is_gamma_of_the_negative():
    image = torch.rand(1, *PATCH) + 1
    inverted, _ = run(Augmentation(gamma_inverted=(1.4,)), image)
    negative, _ = run(Augmentation(gamma=(1.4,)), -image)
    assert torch.allclose(inverted, -negative, atol=1e-5)


def test_blur_spreads_a_voxel_along_each_axis_by_its_sigma():
    result, _ = run(Augmentation(blur=((0.5, 0.75, 1.0),)), marked((15, 15, 15), 7, 7, 7) + 1)  # 0 is background
    offsets = torch.arange(15) - 7.0
    for axis, sigma in enumerate((0.5, 0.75, 1.0)):
        others = [n for n in range(3) if n != axis]
        profile = (result[0] - 1).sum(dim=others)
        assert (profile * offsets**2).sum().sqrt().item() == pytest.approx(
            sigma, rel=0.08
        )  # sampled, slightly narrower


def test_low_resolution_halves_the_resolution():
    image = torch.tensor([1.0, -1.0] * 4).reshape(1, 8, 1, 1).expand(1, 8, 8, 8).contiguous()
    result, _ = run(Augmentation(resolution=(0.5,)), image)
    assert (result[0, 1:] - result[0, :-1]).abs().max() < 0.01  # the alternation is gone


def test_noise_has_the_drawn_deviation_and_depends_on_the_seed():
    image = torch.ones(1, 32, 32, 32)
    one, again = (run(Augmentation(noise=0.1, noise_seed=5), image)[0] for _ in range(2))
    assert (one - 1).std().item() == pytest.approx(0.1, rel=0.02) and torch.equal(one, again)


def test_draws_have_nnunet_probabilities_and_ranges():
    generator = np.random.default_rng(0)
    drawn = [draw(generator, 2) for _ in range(4000)]

    def share(field):
        return np.mean([bool(getattr(a, field)) if getattr(a, field) is not None else False for a in drawn])

    expected = {
        "angles": 0.2,
        "scale": 0.2,
        "noise": 0.1,
        "blur": 0.2,
        "brightness": 0.15,
        "contrast": 0.15,
        "resolution": 0.25,
        "gamma_inverted": 0.1,
        "gamma": 0.3,
    }
    for field, probability in expected.items():
        assert share(field) == pytest.approx(probability, abs=0.025), field
    assert np.mean([a.mirror for a in drawn], axis=0) == pytest.approx([0.5] * 3, abs=0.03)
    scales = [a.scale for a in drawn if a.scale]
    assert 0.7 <= min(scales) < 0.75 and 1.35 < max(scales) <= 1.4
    assert max(abs(x) for a in drawn if a.angles for x in a.angles) <= math.radians(30)
    blurred = [v for a in drawn for v in a.blur]
    assert np.mean([v is not None for v in blurred]) == pytest.approx(0.5, abs=0.06)
    sigmas = np.array([v for v in blurred if v is not None])  # independent values per axis
    assert sigmas.shape[1] == 3 and sigmas.min() >= 0.5 and sigmas.max() <= 1
    assert abs(np.corrcoef(sigmas.T)[np.triu_indices(3, 1)]).max() < 0.15
    gammas = [v for a in drawn for v in a.gamma]
    assert (
        min(gammas) >= 0.7 and max(gammas) <= 1.5 and np.mean([g < 1 for g in gammas]) == pytest.approx(0.5, abs=0.05)
    )


def test_strong_augmentation_draws_more_often_and_wider_per_channel():
    generator = np.random.default_rng(0)
    drawn = [draw(generator, 2, strength="strong") for _ in range(4000)]
    expected = {"angles": 0.5, "scale": 0.5, "noise": 0.2, "brightness": 0.2, "contrast": 0.2, "shift": 0.25}
    for field, probability in expected.items():
        assert np.mean([bool(getattr(a, field)) for a in drawn]) == pytest.approx(probability, abs=0.025), field
    shifts = [v for a in drawn for v in a.shift]
    assert np.mean([v is not None for v in shifts]) == pytest.approx(0.7, abs=0.05)
    added = [v for v in shifts if v is not None]
    assert -0.5 <= min(added) < -0.45 and 0.45 < max(added) <= 0.5 and np.mean(added) == pytest.approx(0, abs=0.03)
    gammas = [v for a in drawn for v in a.gamma if v is not None]
    assert 0.5 <= min(gammas) < 0.55 and 1.9 < max(gammas) <= 2 and np.median(gammas) == pytest.approx(1, abs=0.1)


def test_every_strength_is_a_valid_setting():
    assert CHOICES["data.augment_strength"] == tuple(STRENGTHS)


def test_shift_adds_to_the_drawn_channels():
    image = torch.rand(2, *PATCH) + 1
    shifted, _ = run(Augmentation(shift=(None, -0.25)), image)
    assert torch.equal(shifted[0], image[0]) and torch.equal(shifted[1], image[1] - 0.25)


def test_spatial_only_leaves_intensities_unchanged():
    generator = np.random.default_rng(0)
    for _ in range(200):
        a = draw(generator, 2, "spatial")
        assert (a.noise, a.blur, a.brightness, a.contrast, a.resolution, a.gamma) == (None, (), (), (), (), ())


def test_calibrated_image_keeps_its_values_and_the_other_draws_are_the_same():
    changed = 0
    for seed in range(50):
        full, calibrated = (draw(np.random.default_rng(seed), 2, kind, "strong") for kind in ("full", "calibrated"))
        assert calibrated == replace(full, brightness=(), contrast=(), gamma=(), gamma_inverted=(), shift=())
        flat = torch.full((2, *PATCH), 0.5)
        still = {"noise": None, "angles": None, "scale": None}
        assert torch.allclose(run(replace(calibrated, **still), flat)[0], flat)  # blurred and coarsened: 0.5 stays 0.5
        changed += not torch.allclose(run(replace(full, **still), flat)[0], flat)
    assert changed >= 5  # brightness alone changes 0.15 * 50
