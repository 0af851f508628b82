import gzip

import numpy as np
import pytest
import SimpleITK as sitk
from nifti_files import write_nifti

from DanteSegmenterLib.errors import InputError, ResourceError
from DanteSegmenterLib.files import images, raw_data, read_volume
from DanteSegmenterLib.volume import check_image

ARRAY = np.arange(4 * 5 * 6, dtype=np.float32).reshape(4, 5, 6)  # K, J, I
MATRIX = np.array([[-2.0, 0, 0, 40], [0, -2, 0, -50], [0, 0, 2, -30], [0, 0, 0, 1]])
# A rotation of 120 degrees about (1, 1, 1): i goes to y, j to z, k to x.
TURN = {"quaternion": [0.5, 0.5, 0.5], "pixdim": [1, 2, 3, 4, 0, 0, 0, 0], "qform_code": 1, "sform_code": 0}


def read(tmp_path, array=ARRAY, matrix=MATRIX, ending=".nii", component=None, **fields):
    return read_volume(write_nifti(tmp_path / f"x{ending}", array, matrix, **fields), component=component)


@pytest.mark.parametrize("ending", [".nii", ".nii.gz"])
@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("version", [1, 2])
def test_nifti_1_and_2_of_both_byte_orders_are_read(tmp_path, version, order, ending):
    volume = read(tmp_path, version=version, order=order, ending=ending)
    assert np.array_equal(volume.array, ARRAY) and volume.array.dtype == np.dtype("=f4")
    assert np.array_equal(volume.ijk_to_ras, MATRIX) and volume.notes == ()


@pytest.mark.parametrize("kind", ["u1", "i1", "i2", "u2", "i4", "u4", "i8", "u8", "f4", "f8"])
def test_every_real_type_is_read(tmp_path, kind):
    volume = read(tmp_path, ARRAY.astype(kind))
    assert volume.array.dtype == kind and np.array_equal(volume.array, ARRAY)


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"type": 32}, "complex"),
        ({"type": 128}, "colours"),
        ({"type": 2304}, "colours"),
        ({"type": 1536}, "type 1536"),
        ({"type": 1}, "type 1"),
        ({"type": 0}, "type 0"),
        ({"magic": b"ni1\0"}, "a pair of files"),
        ({"magic": bytes(4)}, "Analyze"),
        ({"dim": [2, 6, 20, 1, 1, 1, 1, 1]}, "2 dimensions"),
        ({"dim": [5, 6, 5, 2, 1, 2, 1, 1]}, "2 values per voxel"),
        ({"dim": [3, 6, 5, -4, 1, 1, 1, 1]}, "3 axes of"),
        ({"offset": -352.0}, "begin at byte"),
        ({"intercept": float("inf"), "slope": 1.0}, "intercept of inf"),
        ({"rows": [0.0] * 12}, "voxels of 0 x 0 x 0"),
        ({"rows": [float("nan")] * 12}, "not finite"),
    ],
)
def test_unreadable_content_is_refused_with_the_true_reason(tmp_path, fields, reason):
    with pytest.raises(InputError, match=reason) as caught:
        read(tmp_path, **fields)
    assert "cut short" not in str(caught.value)


def test_qform_alone_gives_the_quaternion_rotation(tmp_path):
    volume = read(tmp_path, shift=[7, 8, 9], **TURN)
    assert volume.ijk_to_ras == pytest.approx(np.array([[0, 0, 4, 7], [2, 0, 0, 8], [0, 3, 0, 9], [0, 0, 0, 1.0]]))


def test_negative_qfac_reverses_the_slices(tmp_path):
    volume = read(tmp_path, **TURN | {"pixdim": [-1, 2, 3, 4, 0, 0, 0, 0]})
    assert volume.ijk_to_ras[:3, 2] == pytest.approx([-4, 0, 0])


def test_rounded_half_turn_quaternion_keeps_the_voxel_size(tmp_path):
    volume = read(tmp_path, **TURN | {"quaternion": [0.70711, 0.70711, 0]})  # 1.0000032 squared
    assert volume.spacing_mm == pytest.approx((4, 3, 2), rel=1e-6)


def test_qform_alone_agrees_with_itk(tmp_path):
    path = write_nifti(tmp_path / "x.nii", ARRAY, **TURN | {"quaternion": [0.1, -0.4, 0.3], "shift": [1, 2, 3]})
    image = sitk.ReadImage(str(path))
    columns = np.array(image.GetDirection()).reshape(3, 3) * image.GetSpacing()
    assert read_volume(path).ijk_to_ras[:3, :3] == pytest.approx(np.diag([-1, -1, 1]) @ columns, abs=1e-5)


def test_disagreeing_matrices_use_the_sform_with_a_note(tmp_path):
    scanner = {"qform_code": 1, "quaternion": [0, 0, 1], "pixdim": [1, 2, 2, 2, 0, 0, 0, 0], "shift": [40, -25, -30]}
    volume = read(tmp_path, sform_code=2, **scanner)
    assert np.array_equal(volume.ijk_to_ras, MATRIX)
    assert volume.notes == (
        "WARNING: 'x.nii': the header's two matrices (sform and qform) lie up to 25.0 mm apart; the sform was taken, "
        "as FSL, SPM and nibabel do. Look whether the volumes lie on each other.",
    )
    assert read(tmp_path, **scanner | {"shift": [40, -50, -30]}).notes == ()


def test_disagreeing_voxel_size_uses_the_matrix_with_a_note(tmp_path):
    volume = read(tmp_path, pixdim=[1, 1, 1, 1, 0, 0, 0, 0])
    assert volume.spacing_mm == (2, 2, 2)
    assert "voxels of 1 x 1 x 1 mm, its matrix (sform) of 2 x 2 x 2 mm; the matrix was taken" in volume.notes[0]


@pytest.mark.parametrize("size", [0.0, -2.0, float("nan"), float("inf")])
def test_impossible_voxel_size_beside_a_valid_matrix_is_read(tmp_path, size):
    volume = read(tmp_path, pixdim=[1, size, 2, 2, 0, 0, 0, 0])
    assert np.array_equal(volume.ijk_to_ras, MATRIX) and "the matrix was taken" in volume.notes[0]


@pytest.mark.parametrize("size", [0.0, float("nan"), float("inf")])
def test_impossible_voxel_size_alone_is_refused(tmp_path, size):
    with pytest.raises(InputError, match="voxels of"):
        read(tmp_path, **TURN | {"pixdim": [1, 2, size, 2, 0, 0, 0, 0]})
    with pytest.raises(InputError, match="voxels of"):
        read(tmp_path, sform_code=0, pixdim=[1, 2, size, 2, 0, 0, 0, 0])


def test_negative_qform_voxel_size_uses_its_absolute_value(tmp_path):
    volume = read(tmp_path, **TURN | {"pixdim": [1, 2, -3, 4, 0, 0, 0, 0]})
    assert volume.spacing_mm == (4, 3, 2) and "negative voxel sizes" in volume.notes[0]


def test_invalid_quaternion_is_refused(tmp_path):
    with pytest.raises(InputError, match="qform"):
        read(tmp_path, **TURN | {"quaternion": [1, 1, 1]})


def test_empty_sform_falls_back_to_the_qform(tmp_path):
    volume = read(tmp_path, **TURN | {"sform_code": 1, "rows": [0.0] * 12})
    assert volume.ijk_to_ras[:3, 0] == pytest.approx([0, 2, 0])


def test_header_without_matrix_is_read_with_a_warning_about_sides(tmp_path):
    volume = read(tmp_path, sform_code=0)
    assert np.array_equal(volume.ijk_to_ras, np.diag([2, 2, 2, 1])) and "left and right" in volume.notes[0]


@pytest.mark.parametrize(("units", "millimetres"), [(0, 2), (1, 2000), (2, 2), (3, 0.002), (2 | 8, 2)])
def test_metres_and_micrometres_are_converted_to_millimetres(tmp_path, units, millimetres):
    volume = read(tmp_path, units=units)
    assert volume.spacing_mm == pytest.approx((millimetres,) * 3)
    assert volume.ijk_to_ras[0, 3] == pytest.approx(20 * millimetres)
    assert bool(volume.notes) == (millimetres != 2)


@pytest.mark.parametrize("shear", [1e-4, 1e-3])
def test_tiny_shear_is_removed_with_a_note(tmp_path, shear):
    matrix = MATRIX.copy()
    matrix[0, 1] += 2 * shear
    volume = read(tmp_path, matrix=matrix)
    axes = volume.ijk_to_ras[:3, :3] / volume.spacing_mm[::-1]
    assert axes.T @ axes == pytest.approx(np.eye(3), abs=1e-12)
    middle = [2.5, 2, 1.5, 1]  # unchanged
    assert volume.ijk_to_ras @ middle == pytest.approx(matrix @ middle)
    assert "sheared" in volume.notes[0] and "perpendicular" in volume.notes[0]


def test_larger_shear_is_refused(tmp_path):
    matrix = MATRIX.copy()
    matrix[0, 1] += 0.02
    with pytest.raises(InputError, match=r"sheared by 0\.57 degrees"):
        read(tmp_path, matrix=matrix)


@pytest.mark.parametrize(
    ("slope", "intercept", "first", "note"),
    [
        (0.0, 0.0, 1, ""),
        (1.0, 0.0, 1, ""),
        (2.0, -1024.0, -1022, ""),
        (0.0, 5.0, 1, "intercept of 5 without a slope"),
        (float("nan"), 0.0, 1, "slope of nan"),
        (float("inf"), 0.0, 1, "slope of inf"),
        (-1.0, 0.0, -1, "bright to dark"),
    ],
)
def test_slope_and_intercept_are_applied(tmp_path, slope, intercept, first, note):
    volume = read(tmp_path, np.ones((4, 5, 6), np.int16), slope=slope, intercept=intercept)
    assert volume.array[0, 0, 0] == first
    assert note in "".join(volume.notes) and bool(volume.notes) == bool(note)


def test_non_finite_values_are_counted_by_the_image_check(tmp_path):
    array = ARRAY.copy()
    array[1, 2, 3:6] = np.nan, np.inf, -np.inf
    with pytest.raises(InputError, match="3 voxels that are NaN or infinite"):
        check_image(read(tmp_path, array))


def test_slope_that_overflows_is_found_by_the_image_check(tmp_path):
    with pytest.raises(InputError, match="NaN or infinite"):
        check_image(read(tmp_path, ARRAY * 10, slope=3e38))


def test_series_of_one_volume_is_a_volume(tmp_path):
    assert np.array_equal(read(tmp_path, ARRAY[None]).array, ARRAY)
    assert np.array_equal(read(tmp_path, ARRAY[None, None]).array, ARRAY)


@pytest.mark.parametrize("ending", [".nii", ".nii.gz"])
def test_one_volume_of_a_series_is_read_and_the_whole_is_refused(tmp_path, ending):
    series = np.stack([ARRAY, ARRAY + 1000, ARRAY + 2000])
    assert np.array_equal(read(tmp_path, series, component=1, ending=ending).array, ARRAY + 1000)
    with pytest.raises(InputError, match="4 dimensions"):
        read(tmp_path, series, ending=ending)
    with pytest.raises(InputError, match="3 volumes; number 3 does not exist"):
        read(tmp_path, series, component=3, ending=ending)


def test_bytes_after_the_header_belong_to_its_extensions(tmp_path):
    path = write_nifti(tmp_path / "x.nii", ARRAY, offset=400)
    content = path.read_bytes()
    path.write_bytes(content[:352] + bytes(48) + content[352:])
    assert np.array_equal(read_volume(path).array, ARRAY)


@pytest.mark.parametrize("ending", [".nii", ".nii.gz"])
def test_header_with_fewer_slices_is_read_with_a_warning(tmp_path, ending):
    volume = read(tmp_path, dim=[3, 6, 5, 2, 1, 1, 1, 1], ending=ending)
    assert np.array_equal(volume.array, ARRAY[:2]) and "240 bytes more" in volume.notes[0]


def test_compression_is_detected_by_content_not_name(tmp_path):
    content = write_nifti(tmp_path / "x.nii", ARRAY, MATRIX).read_bytes()
    (tmp_path / "y.nii").write_bytes(gzip.compress(content))
    (tmp_path / "y.nii.gz").write_bytes(content)
    for name in ("y.nii", "y.nii.gz"):
        assert np.array_equal(read_volume(tmp_path / name).array, ARRAY)


def test_concatenated_gzip_streams_are_one_file(tmp_path):
    content = write_nifti(tmp_path / "x.nii", ARRAY, MATRIX).read_bytes()
    path = tmp_path / "y.nii.gz"
    path.write_bytes(gzip.compress(content[:500]) + gzip.compress(content[500:]) + bytes(100))
    volume = read_volume(path)
    assert np.array_equal(volume.array, ARRAY) and volume.notes == ()
    path.write_bytes(gzip.compress(content) + b"what somebody added")
    volume = read_volume(path)
    assert np.array_equal(volume.array, ARRAY) and "passed over" in volume.notes[0]


def test_header_with_absurdly_many_voxels_allocates_nothing(tmp_path):
    with pytest.raises(InputError, match="more than any scanner"):
        read(tmp_path, dim=[3, 30000, 30000, 30000, 1, 1, 1, 1], ending=".nii.gz")


def test_header_larger_than_free_memory_is_refused_beforehand(tmp_path, monkeypatch):
    monkeypatch.setattr(raw_data, "available_bytes", lambda: 400)
    with pytest.raises(ResourceError, match="MB of memory are free"):
        read(tmp_path, ending=".nii.gz")


def test_small_file_that_unpacks_beyond_its_header_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(raw_data, "MAX_EXTRA_BYTES", 1 << 20)
    path = write_nifti(tmp_path / "x.nii.gz", ARRAY)
    path.write_bytes(gzip.compress(gzip.decompress(path.read_bytes()) + bytes(1 << 22)))
    with pytest.raises(InputError, match="far more than its header"):
        read_volume(path)


def test_file_changed_while_reading_is_refused(tmp_path, monkeypatch):
    path = write_nifti(tmp_path / "x.nii", ARRAY)

    def read_and_cut(source, *arguments):
        array = raw_data.read_voxels(source, *arguments)
        path.write_bytes(path.read_bytes()[:400])
        return array

    monkeypatch.setattr("DanteSegmenterLib.files.nifti.read_voxels", read_and_cut)
    with pytest.raises(InputError, match="was changed while it was read"):
        read_volume(path)


def test_empty_and_unreadable_files_are_refused_with_their_reasons(tmp_path, monkeypatch):
    path = tmp_path / "x.nii"
    path.write_bytes(b"")
    with pytest.raises(InputError, match="no NIfTI file"):
        read_volume(path)

    def forbidden(*_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("builtins.open", forbidden)
    with pytest.raises(InputError, match="cannot be opened: Permission denied"):
        read_volume(path)


def test_out_of_memory_is_one_sentence(tmp_path, monkeypatch):
    def hungry(*_):
        raise MemoryError

    monkeypatch.setitem(images.READERS, ".nii", hungry)
    with pytest.raises(ResourceError, match="not enough memory"):
        read(tmp_path)
