"""A whole head from a scanner: prepared and segmented from DICOM as from NIfTI."""

import highdicom
import numpy as np
import pytest
from dicom_files import along_normal, write_series

from DanteSegmenterLib.__main__ import main
from DanteSegmenterLib.dicom.pixels import read_stack
from DanteSegmenterLib.dicom.stack import stack_of
from DanteSegmenterLib.dicom.study_scan import scan
from DanteSegmenterLib.files import read_volume, write_volume

NAMES = {"t1": "t1", "t2": "t2", "flair": "fla"}


def ball(volume):
    """A mask in place of the brain: an ellipsoid in the middle of the field of view, 70 x 65 x 55 mm."""
    k, j, i = np.indices(volume.shape)
    ijk = np.stack([i, j, k, np.ones_like(i)], axis=-1)
    middle = np.array([*((n - 1) / 2 for n in volume.shape[::-1]), 1.0])
    away = ((ijk - middle) @ volume.ijk_to_ras.T)[..., :3]
    return volume.with_array((((away / [65.0, 70.0, 55.0]) ** 2).sum(axis=-1) < 1).astype(np.uint8))


@pytest.fixture(scope="module")
def heads(shared_data, tmp_path_factory):
    """A folder with the study in DICOM, and as files beside it."""
    folder = tmp_path_factory.mktemp("head")
    for number, (name, ending) in enumerate(NAMES.items(), 1):
        volume = read_volume(shared_data / "raw-mr" / "TCGA-FG-6692" / f"TCGA-FG-6692_{ending}.nii.gz")
        write_series(folder / "study" / str(number), volume, name, number)
        write_volume(folder / f"{name}.nii.gz", along_normal(volume))
        if name == "t1":
            write_volume(folder / "mask.nii.gz", ball(volume))
    return folder


def test_every_sequence_is_read_on_its_own_oblique_grid(heads):
    (study,) = scan(heads / "study").studies
    for series, name in zip(study.series, NAMES, strict=True):
        found, wanted = read_stack(stack_of(series)), read_volume(heads / f"{name}.nii.gz")
        assert np.array_equal(found.array, wanted.array) and found.same_grid(wanted, tolerance_mm=1e-3)


@pytest.mark.slow
def test_whole_head_from_dicom_is_segmented_like_nifti(heads, brain_model_folder, tmp_path):
    """Equal up to voxels at the threshold: ITK's threads sum in any order, so that aligning one input twice agrees only
    within 1e-7 mm, and NIfTI stores the matrix in float32.
    """
    common = ["segment", "--model", str(brain_model_folder), "--device", "cpu", "--prepare"]
    common += ["--brain-mask", str(heads / "mask.nii.gz")]
    inputs = [part for name in NAMES for part in ("--input", f"{name}={heads / name}.nii.gz")]
    assert main([*common, *inputs, "--output", str(tmp_path / "o.nii.gz")]) == 0
    assert main([*common, "--dicom", str(heads / "study"), "--output", str(tmp_path / "o.dcm")]) == 0
    labels = read_volume(tmp_path / "o.nii.gz")
    segmentation = highdicom.seg.segread(tmp_path / "o.dcm")
    for number, inside in ((1, (1, 2, 4)), (2, (1, 4)), (3, (4,))):
        volume = segmentation.get_volume(segment_numbers=[number], combine_segments=True)
        voxels = np.argwhere(volume.array)
        places = np.diag([-1.0, -1.0, 1.0, 1.0]) @ volume.affine @ np.vstack([voxels.T, np.ones(len(voxels))])
        ijk = np.rint(np.linalg.solve(labels.ijk_to_ras, places)[:3]).astype(int)
        found, wanted = np.zeros(labels.shape, bool), np.isin(labels.array, inside)
        found[ijk[2], ijk[1], ijk[0]] = True
        dice = 2 * (found & wanted).sum() / (found.sum() + wanted.sum())
        print(f"segment {number}: {found.sum()} and {wanted.sum()} voxels, Dice {dice:.4f}")
        assert dice > 0.995
