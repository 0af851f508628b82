"""A DICOM study read and segmented equals the same study as NIfTI, voxel for voxel."""

import random

import numpy as np
import pytest
from dicom_files import along_normal, oblique, whole, write_series, write_study
from models import LPS_2MM, study, write_brain_model

from DanteSegmenterLib.__main__ import main
from DanteSegmenterLib.dicom.pixels import read_stack
from DanteSegmenterLib.dicom.stack import stack_of
from DanteSegmenterLib.dicom.study_scan import choose_study, scan
from DanteSegmenterLib.files import read_volume, write_volume
from DanteSegmenterLib.volume import Volume

RAS_2MM = np.diag([2.0, 2.0, 2.0, 1.0])
GRIDS = {
    "LPS": LPS_2MM,
    "RAS": RAS_2MM,
    "reversed slices": LPS_2MM @ np.diag([1.0, 1.0, -1.0, 1.0]),
    "oblique, anisotropic": oblique((1.3, 1.7, 3.1)),
    "sagittal": LPS_2MM[:, [1, 2, 0, 3]],
}


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return write_brain_model(tmp_path_factory.mktemp("model") / "model")


def read_one(folder):
    (series,) = choose_study(scan(folder)).series
    return read_stack(stack_of(series))


@pytest.mark.parametrize("grid", GRIDS)
def test_study_is_segmented_like_nifti(model, tmp_path, grid):
    volumes = {name: whole(volume) for name, volume in study(matrix=GRIDS[grid]).items()}
    shuffled = list(range(100))
    random.Random(1).shuffle(shuffled)
    write_study(tmp_path / "study", volumes, names=lambda k: f"{shuffled[k]}x")
    (tmp_path / "study" / "README.txt").write_text("not DICOM")
    inputs = []
    for name, volume in volumes.items():
        write_volume(tmp_path / f"{name}.nii", volume)
        inputs += ["--input", f"{name}={tmp_path / name}.nii"]
    common = ["segment", "--model", str(model), "--device", "cpu"]
    assert main([*common, *inputs, "--output", str(tmp_path / "a.nii")]) == 0
    assert main([*common, "--dicom", str(tmp_path / "study"), "--output", str(tmp_path / "b.nii")]) == 0
    nifti, dicom = (read_volume(tmp_path / f"{name}.nii") for name in "ab")
    wanted = along_normal(nifti)
    assert nifti.array.any() and np.array_equal(dicom.array, wanted.array)
    assert np.allclose(dicom.ijk_to_ras, wanted.ijk_to_ras, atol=1e-4)


def test_stored_values_are_scaled_slice_by_slice(tmp_path):
    volume = whole(study()["t1"])

    def change(dataset, k):
        dataset.RescaleSlope, dataset.RescaleIntercept = 0.5 + k, -7

    write_series(tmp_path, volume, change=change)
    scaled = volume.array * (0.5 + np.arange(volume.shape[0]))[:, None, None] - 7
    assert np.array_equal(read_one(tmp_path).array, scaled.astype(np.float32))


def test_hounsfield_units_stay_integers(tmp_path):
    volume = whole(study()["t1"])
    write_series(tmp_path, volume, "ct", RescaleSlope=1, RescaleIntercept=-1024)
    read = read_one(tmp_path)
    assert read.array.dtype == np.int32 and np.array_equal(read.array, volume.array.astype(int) - 1024)


def test_nearly_unit_directions_do_not_stretch_voxels(tmp_path):
    def change(dataset, k):
        dataset.ImageOrientationPatient = ["0.9995", "0", "0", "0", "1.0004", "0"]

    write_series(tmp_path, whole(study()["t1"]), change=change)
    assert read_one(tmp_path).spacing_mm == pytest.approx((2, 2, 2), abs=1e-6)


@pytest.mark.parametrize("signed", [0, 1], ids=["unsigned", "signed"])
def test_overlay_bits_are_not_part_of_the_value(tmp_path, signed):
    values = np.arange(9 * 4 * 4).reshape(9, 4, 4) * 8 - (600 if signed else 0)

    def change(dataset, k):
        dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 12, 11, signed
        dataset.PixelData = ((values[k] & 0x0FFF) | 0x5000).astype("<u2").tobytes()

    write_series(tmp_path, Volume(np.zeros((9, 4, 4), np.int16), LPS_2MM), change=change)
    assert np.array_equal(read_one(tmp_path).array, values)
