import itertools
import os
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from datasets import LPS_4MM, write_dataset
from torch import nn

from DanteSegmenterLib.errors import InputError
from DanteSegmenterLib.files import write_volume
from DanteSegmenterLib.model_folder import Preprocessing
from DanteSegmenterLib.preprocess import background_of
from DanteSegmenterLib.volume import Volume
from DanteTrainerLib.data import cache
from DanteTrainerLib.data.cache import _digest as digest
from DanteTrainerLib.data.cache import cache_cases
from DanteTrainerLib.data.dataset import read_dataset
from DanteTrainerLib.data.patches import PRETRAINING, Batch, PatchLoader, PatchSource
from DanteTrainerLib.loop.stage import Stage
from DanteTrainerLib.run.cases import sources_of
from DanteTrainerLib.settings.experiment import Experiment
from DanteTrainerLib.settings.tables import DataSettings
from DanteTrainerLib.settings.tasks import BRAIN, CHEST

PREPROCESSING = Preprocessing("LPS", (4.0, 4.0, 4.0), BRAIN.normalisation)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return read_dataset(write_dataset(tmp_path_factory.mktemp("data"), cases=4))


@pytest.fixture(scope="module")
def cached(dataset, tmp_path_factory):
    return cache_cases(list(dataset.cases.values()), BRAIN, PREPROCESSING, tmp_path_factory.mktemp("cache"))


@pytest.fixture
def source(cached):
    return PatchSource(cached, regions=3, patch=(8, 8, 8), batch_size=4, seed=7)


def test_cached_case_equals_prepare_and_its_regions_nest(cached):
    images, bits = cached[0].images(), cached[0].labels()
    assert images.shape == (4, 16, 18, 20) and bits.shape == (16, 18, 20)  # the two voxels of background are cropped
    assert images[0].astype(float).mean() == pytest.approx(0, abs=1e-3)
    whole, core, enhancing = ((bits >> r) & 1 for r in range(3))
    assert (whole.sum(), core.sum(), enhancing.sum()) == (512, 64, 56)
    places = cached[0].places(2)
    assert len(places) == 56 and enhancing[tuple(places.T)].all()


def test_case_is_prepared_once_and_again_after_a_change_of_file_or_setting(dataset, tmp_path):
    cases = list(dataset.cases.values())[:1]
    first = cache_cases(cases, BRAIN, PREPROCESSING, tmp_path)[0]
    stamp = (first.folder / "images.npy").stat().st_mtime_ns
    assert (cache_cases(cases, BRAIN, PREPROCESSING, tmp_path)[0].folder / "images.npy").stat().st_mtime_ns == stamp
    coarser = replace(PREPROCESSING, spacing_mm=(8.0, 8.0, 8.0))
    assert cache_cases(cases, BRAIN, coarser, tmp_path)[0].folder != first.folder


def test_cache_key_depends_on_files_and_label_meaning_but_not_on_location(tmp_path):
    folder = write_dataset(tmp_path / "data", cases=3)
    case = read_dataset(folder).cases["A"]

    def name_of(case):
        return cache_cases([case], BRAIN, PREPROCESSING, tmp_path / "cache")[0].folder.name

    first = name_of(case)
    shutil.copytree(folder, tmp_path / "moved", copy_function=shutil.copy2)
    assert name_of(read_dataset(tmp_path / "moved").cases["A"]) == first
    others = {name_of(replace(case, regions={**case.regions, "TC": (1,)}))}
    os.utime(case.images["t2"].path, ns=(0, 0))
    others.add(name_of(case))
    write_volume(
        case.images["t2"].path, Volume(np.ones((20, 22, 24), np.uint8) + np.eye(24, dtype=np.uint8)[:22], LPS_4MM)
    )
    os.utime(case.images["t2"].path, ns=(0, 0))
    others.add(name_of(case))
    assert len(others | {first}) == 4
    # The channel within a file of four channels.
    channels = [replace(case.images["t2"], component=n) for n in range(4)]
    assert (
        len({digest(replace(case, images={**case.images, "t2": one}), BRAIN, PREPROCESSING) for one in channels}) == 4
    )


def test_large_region_keeps_a_sample_of_positions_from_all_over_it(dataset, tmp_path, monkeypatch):
    monkeypatch.setattr(cache, "PLACES", 10)
    monkeypatch.setattr(cache, "PLACES_SHARE", 0.25)
    (few,) = cache_cases(list(dataset.cases.values())[:1], BRAIN, PREPROCESSING, tmp_path)
    whole, core = few.places(0), few.places(1)
    assert (len(whole), len(core)) == (128, 16)  # of 512 and 64
    assert (np.ptp(whole, axis=0) == 7).all()  # a cube of 8 voxels


def test_preparing_shows_progress_unless_quiet(dataset, tmp_path, capsys):
    cases = list(dataset.cases.values())
    cache_cases(cases, BRAIN, PREPROCESSING, tmp_path / "quiet", quiet=True)
    assert capsys.readouterr().err == ""
    cache_cases(cases, BRAIN, PREPROCESSING, tmp_path / "shown")
    assert "Preparing cases" in capsys.readouterr().err


def test_parallel_preparation_equals_serial(dataset, cached, tmp_path):
    again = cache_cases(list(dataset.cases.values()), BRAIN, PREPROCESSING, tmp_path, workers=2)
    for one, other in zip(cached, again):
        assert np.array_equal(one.images(), other.images()) and np.array_equal(one.labels(), other.labels())


@pytest.mark.parametrize(
    ("labels", "reason"),
    [
        (np.full((20, 22, 24), 7, np.uint8), r"holds the labels \['7'\].*\[0, 1, 2, 4\]"),
        (np.full((20, 22, 24), 0.5, np.float32), r"labels \['0.5'\]"),
        (np.zeros((5, 5, 5), np.uint8), "not on the grid"),
    ],
)
def test_mismatched_mask_is_refused_with_the_case_name(tmp_path, labels, reason):
    folder = write_dataset(tmp_path / "data", cases=3)
    write_volume(folder / "A" / "A_seg.nii.gz", Volume(labels, LPS_4MM))
    with pytest.raises(InputError, match=reason) as caught:
        cache_cases([read_dataset(folder).cases["A"]], BRAIN, PREPROCESSING, tmp_path / "cache")
    assert "case 'A'" in str(caught.value)
    assert not any((tmp_path / "cache").iterdir())


def test_batch_is_a_pure_function_of_seed_and_step(source):
    one, again, other = source.batch(3), source.batch(3), source.batch(4)
    assert torch.equal(one.images, again.images) and torch.equal(one.regions, again.regions)
    assert not torch.equal(one.images, other.images)
    assert not torch.equal(one.images, replace(source, seed=8).batch(3).images)
    assert not torch.equal(one.images, replace(source, stream=PRETRAINING).batch(3).images)
    assert one.images.shape == (4, 4, 8, 8, 8) and one.regions.shape == (4, 3, 8, 8, 8)


def test_global_batch_does_not_depend_on_the_number_of_processes(source):
    whole = source.batch(5).images
    parts = [replace(source, rank=rank, world_size=2).batch(5).images for rank in range(2)]
    assert torch.equal(torch.stack([parts[0][0], parts[1][0], parts[0][1], parts[1][1]]), whole)


@pytest.mark.parametrize("workers", [0, 2])
def test_loader_starts_at_any_step_and_keeps_the_order(source, workers):
    batches = list(PatchLoader(source, 3, 6, workers))
    assert len(batches) == 3
    for step, batch in zip(range(3, 6), batches):
        assert torch.equal(batch.images, source.batch(step).images)


def test_last_third_of_a_batch_contains_foreground(cached):
    source = PatchSource(cached, 3, (4, 4, 4), batch_size=3, seed=0, augmentation="none")
    found = np.array([source.batch(step).regions.flatten(1).any(dim=1).numpy() for step in range(60)])
    assert found[:, 2].all() and 0.05 < found[:, :2].mean() < 0.8


def test_batches_of_one_contain_foreground_in_a_third_of_the_steps(cached):
    chosen = {"regions": 3, "patch": (2, 2, 2), "batch_size": 1, "seed": 0, "augmentation": "none"}
    plain, free = PatchSource(cached, **chosen), PatchSource(cached, **chosen, foreground_share=0.0)
    forced = [not torch.equal(plain.batch(n).images, free.batch(n).images) for n in range(30)]
    assert forced == [n % 3 == 0 and n > 0 for n in range(30)]
    assert all(plain.batch(n).regions.any() for n in range(30) if forced[n])


def test_forced_patches_choose_regions_uniformly(cached):
    source = PatchSource(cached, 3, (2, 2, 2), batch_size=1, seed=0, augmentation="none", foreground_share=1.0)
    centres = [source.batch(step).regions[0, :, 1, 1, 1].tolist() for step in range(300)]
    core = np.mean([c[1] for c in centres])  # the core is an eighth of the tumour, but in two of three draws
    assert 0.55 < core < 0.85


def test_forced_patches_stay_within_the_image(cached):
    source = PatchSource(cached, 3, (12, 14, 16), batch_size=1, seed=0, augmentation="none", foreground_share=1.0)
    assert all(source.batch(step).foreground.all() for step in range(40))  # these images are all brain


def test_no_patch_is_forced_where_labels_are_unused(cached):
    """As in Stage 1, even if masks were cached."""
    unlabelled = [replace(case, labelled=False) for case in cached]
    forced = PatchSource(unlabelled, 3, (4, 4, 4), batch_size=2, seed=0, foreground_share=1.0)
    free = PatchSource(cached, 3, (4, 4, 4), batch_size=2, seed=0, foreground_share=0.0)
    assert all(torch.equal(forced.batch(step).images, free.batch(step).images) for step in range(5))


def test_labels_follow_the_images_through_every_augmentation(cached):
    """T2 is brighter in every part of the tumour: for any patch position, the region must be the brighter part."""
    source = PatchSource(cached, 3, (12, 12, 12), batch_size=1, seed=1, foreground_share=1.0)
    for step in range(40):
        batch = source.batch(step)
        tumour, t2 = batch.regions[0, 0] > 0, batch.images[0, 2]
        healthy = (batch.regions[0, 0] == 0) & (t2 != 0)
        assert t2[tumour].mean() > t2[healthy].mean() + 0.5, step


def test_patch_larger_than_the_image_is_padded_with_background(cached):
    batch = PatchSource(cached, 3, (32, 32, 32), batch_size=1, seed=0, augmentation="none").batch(0)
    assert batch.images.shape == (1, 4, 32, 32, 32)
    inside = (batch.images[0, 0] != 0).nonzero()
    assert (inside.max(dim=0).values - inside.min(dim=0).values + 1).tolist() == [16, 18, 20]
    assert (batch.regions[0].sum(dim=(1, 2, 3)) == torch.tensor([512.0, 64, 56])).all()


def test_padding_of_a_ct_is_air_and_no_foreground_as_in_inference(tmp_path):
    shape = (6, 8, 10)
    folder = tmp_path / "data" / "A"
    folder.mkdir(parents=True)
    for name, rule in CHEST.normalisation.items():
        array = np.full(shape, rule.mean, np.int16)  # 0 after normalisation
        array[2, 3:5, 4:6], array[3, 3:5, 4:6] = -1000, 300
        write_volume(folder / f"{name}.nii.gz", Volume(array, LPS_4MM))
    dataset = read_dataset(tmp_path / "data")
    preprocessing = Preprocessing("LPS", (4.0, 4.0, 4.0), CHEST.normalisation)
    cached = cache_cases(list(dataset.cases.values()), CHEST, preprocessing, tmp_path / "cache")
    batch = PatchSource(cached, 1, (10, 10, 10), 1, seed=0, augmentation="none").batch(0)
    inner = torch.zeros(10, 10, 10, dtype=torch.bool)
    inner[2:8, 1:9] = True
    for image, value in zip(batch.images[0], background_of(preprocessing, CHEST.full).values):
        assert (image[~inner] == np.float16(value)).all()
        assert (image[inner] == 0).sum() == inner.sum() - 8 and (image[inner] == np.float16(value)).sum() == 4
    assert batch.foreground.shape == (1, 1, 10, 10, 10)
    assert not batch.foreground[0, 0][~inner].any() and batch.foreground.sum() == inner.sum() - 4


def test_patches_reach_every_corner_of_the_image(cached):
    source = PatchSource(cached[:1], 3, (15, 17, 19), batch_size=1, seed=0, augmentation="none", foreground_share=0)
    image = np.asarray(cached[0].images()[0], np.float32)  # one voxel larger along each axis: eight positions
    corners = [image[corner] for corner in itertools.product((0, -1), repeat=3)]
    seen = set()
    for step in range(100):
        patch = source.batch(step).images[0, 0].numpy()
        seen |= {n for n, value in enumerate(corners) if (patch == value).any()}
    assert seen == set(range(8))


@pytest.mark.parametrize(
    ("of_stage", "switches", "kind", "strength"),
    [
        ("full", {}, "full", "nnunet"),
        ("full", {"augment_strength": "strong"}, "full", "strong"),
        ("full", {"augment_values": False}, "calibrated", "nnunet"),
        ("full", {"augment": False}, "none", "nnunet"),
        ("spatial", {"augment_values": False}, "spatial", "nnunet"),
        ("spatial", {"augment": False}, "none", "nnunet"),
    ],
)
def test_augmentation_follows_the_settings(cached, of_stage, switches, kind, strength):
    experiment = Experiment(method="lower", data=DataSettings(patch=(32, 32, 32), **switches))
    stage = Stage("any", nn.ModuleDict(), 1, lambda batch, context: {}, augmentation=of_stage)
    learn, check = sources_of(experiment, BRAIN, stage, list(cached), list(cached))
    assert (learn.augmentation, check.augmentation, learn.strength) == (kind, "none", strength)


class Noted:
    """A tensor that notes how it is sent to a device."""

    waits = None

    def to(self, device, non_blocking):
        self.waits = not non_blocking
        return self


@pytest.mark.parametrize(("device", "waits"), [("cuda", False), ("mps", True)])
def test_batch_transfer_is_synchronised_where_the_device_might_read_freed_memory(device, waits):
    """pytorch/pytorch issues 139550 and 189690: on MPS the values would silently be others."""
    parts = [Noted(), Noted(), Noted()]
    Batch(*parts).to(torch.device(device))
    assert [part.waits for part in parts] == [waits] * 3
