"""Truncated, altered or oddly written files of every format: never a wrong image without an error."""

import numpy as np
import pytest
import SimpleITK as sitk
from nifti_files import write_nifti

from DanteSegmenterLib.errors import DanteError, InputError
from DanteSegmenterLib.files import read_volume
from DanteSegmenterLib.files.images import IMAGE_ENDINGS

NOISE = np.random.default_rng(0).normal(100, 20, (12, 14, 16)).astype(np.float32)
ENDINGS = [ending for ending in IMAGE_ENDINGS if not ending.endswith("hd")]


def written(tmp_path, ending, packed, array=NOISE):
    """A file, and the position of its voxels."""
    path = tmp_path / f"x{ending}"
    image = sitk.GetImageFromArray(array)
    image.SetSpacing((1, 2, 3))
    sitk.WriteImage(image, str(path), packed)
    return path, next((p for p in tmp_path.iterdir() if p != path), path)


FORMATS = [(ending, packed) for ending in (".nrrd", ".mha", ".nhdr", ".mhd") for packed in (True, False)]
FORMATS += [(".nii.gz", True), (".nii", False)]


@pytest.mark.parametrize(("ending", "packed"), FORMATS)
@pytest.mark.parametrize("share", [0.0, 0.2, 0.5, 0.9, 0.99, 0.9999])
def test_file_truncated_anywhere_is_refused(tmp_path, ending, packed, share):
    path, voxels = written(tmp_path, ending, packed)
    assert np.array_equal(read_volume(path).array, NOISE)
    whole = voxels.read_bytes()
    voxels.write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(InputError):
        read_volume(path)


@pytest.mark.parametrize(("ending", "packed"), [f for f in FORMATS if f[1]])
def test_single_bit_error_in_a_compressed_file_is_detected(tmp_path, ending, packed):
    path, voxels = written(tmp_path, ending, packed)
    whole, rng = voxels.read_bytes(), np.random.default_rng(0)
    for place in rng.integers(len(whole) // 5, len(whole), 40):
        changed = bytearray(whole)
        changed[place] ^= 1 << int(rng.integers(8))
        voxels.write_bytes(changed)
        try:
            volume = read_volume(path)
        except InputError:
            continue
        assert np.array_equal(volume.array, NOISE)  # only the padding of the last block is cut


@pytest.mark.parametrize(("ending", "packed"), FORMATS)
def test_corrupt_header_byte_gives_an_error_message_or_an_image(tmp_path, ending, packed):
    path, _ = written(tmp_path, ending, packed)
    whole, rng = path.read_bytes(), np.random.default_rng(1)
    for _ in range(150):
        changed = bytearray(whole)
        changed[int(rng.integers(0, min(len(whole), 348)))] = int(rng.integers(256))
        path.write_bytes(changed)
        try:
            read_volume(path)
        except DanteError:
            continue


@pytest.mark.parametrize("ending", ["hdr", "img", "gipl", "vtk", "dcm", "png", "mgz", ""])
def test_formats_without_damage_detection_are_not_read(tmp_path, ending):
    path = tmp_path / f"x.{ending}"
    path.write_bytes(b"anything")
    with pytest.raises(InputError, match=r"read from \.nii, \.nii\.gz, .* alone"):
        read_volume(path)


@pytest.mark.parametrize("ending", IMAGE_ENDINGS)
@pytest.mark.parametrize("content", [b"", b"\0" * 1000, b"not an image\n" * 99, b"NRRD0004\n\n", b"NDims = 3\n"])
def test_other_content_under_an_image_name_is_refused(tmp_path, ending, content):
    path = tmp_path / f"x{ending}"
    path.write_bytes(content)
    with pytest.raises(InputError, match=f"x{ending}"):
        read_volume(path)


NRRD = """NRRD0004
type: float
dimension: 3
space: left-posterior-superior
sizes: 16 14 12
space directions: (1,0,0) (0,2,0) (0,0,3)
endian: little
encoding: raw
space origin: (1,2,3)
"""
META = """ObjectType = Image
NDims = 3
BinaryData = True
BinaryDataByteOrderMSB = False
CompressedData = False
TransformMatrix = 1 0 0 0 1 0 0 0 1
Offset = 1 2 3
ElementSpacing = 1 2 3
DimSize = 16 14 12
ElementType = MET_FLOAT
ElementDataFile = LOCAL
"""


def changed(tmp_path, text, ending, old, new, tail=b""):
    assert old in text
    path = tmp_path / f"x{ending}"
    path.write_bytes((text.replace(old, new) + ("\n" if ending == ".nrrd" else "")).encode() + NOISE.tobytes() + tail)
    return path


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ("(0,0,3)", "none", "2 axes with a direction"),
        ("(0,0,3)", "(0,0,nan)", "not finite"),
        ("(0,0,3)", "(0,0,0)", "voxels of 1 x 2 x 0"),
        ("(0,0,3)", "(0,1,0)", "one plane"),
        ("(0,0,3)", "(0,1,3)", "sheared"),
        ("(0,0,3)", "(0,3)", "cannot be understood"),
        ("space directions: (1,0,0) (0,2,0) (0,0,3)", "spacings: 1 2 nan", "not finite"),
        ("space directions: (1,0,0) (0,2,0) (0,0,3)", "spacings: 1 2 0", "voxels of 1 x 2 x 0"),
        ("space directions: (1,0,0) (0,2,0) (0,0,3)\n", "", "no voxel size"),
        ("(1,2,3)", "(1,2,inf)", "not finite"),
        ("(1,2,3)", "(1,2)", "2 numbers"),
        ("raw", "ascii", "damage cannot be told"),
        ("raw", "bzip2", "damage cannot be told"),
        ("raw", "hex", "damage cannot be told"),
        ("type: float", "type: block", "type 'block'"),
        ("endian: little\n", "", "byte order"),
        ("sizes: 16 14 12", "sizes: 16 14", "3 axes of"),
        ("sizes: 16 14 12", "sizes: 16 14 -12", "3 axes of"),
        ("sizes: 16 14 12", "sizes: 16 14 99999999", "more than any scanner"),
        ("left-posterior-superior", "scanner-xyz", "where left is"),
        ("encoding: raw", "encoding: raw\ndata file: x%03d.raw 1 12 1", "several files"),
        ("encoding: raw", "encoding: raw\ndata file: LIST", "several files"),
        ("encoding: raw", "encoding: raw\ndata file: gone.raw", "gone.raw' cannot be opened"),
        ("endian: little", 'endian: little\nspace units: "furlong" "furlong" "furlong"', "furlong"),
    ],
)
def test_odd_nrrd_header_is_refused_with_its_reason(tmp_path, old, new, reason):
    with pytest.raises(InputError, match=reason):
        read_volume(changed(tmp_path, NRRD, ".nrrd", old, new))


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ("ElementSpacing = 1 2 3", "ElementSpacing = 1 2 nan", "not finite"),
        ("ElementSpacing = 1 2 3", "ElementSpacing = 1 2 0", "voxels of 1 x 2 x 0"),
        ("ElementSpacing = 1 2 3", "ElementSpacing = 1 2 -3", "voxels of 1 x 2 x -3"),
        ("ElementSpacing = 1 2 3", "ElementSpacing = 1 2", "3 of spacing"),
        ("ElementSpacing = 1 2 3\n", "", "no voxel size"),
        ("1 0 0 0 1 0 0 0 1", "1 0 0 0 1 0 0 1 0", "one plane"),
        ("1 0 0 0 1 0 0 0 1", "1 0 0 0 1 0 0 1 1", "sheared"),
        ("1 0 0 0 1 0 0 0 1", "1 0 0 x", "no numbers"),
        ("DimSize = 16 14 12", "DimSize = 16 14 0", "3 axes of"),
        ("DimSize = 16 14 12", "DimSize = 16 14 nan", "odd|axes"),
        ("DimSize = 16 14 12", "DimSize = 16 14 99999999", "more than any scanner"),
        ("NDims = 3", "NDims = 4", "4 axes of"),
        ("BinaryData = True", "BinaryData = False", "written as text"),
        ("MET_FLOAT", "MET_FLOAT_ARRAY", "type 'MET_FLOAT_ARRAY'"),
        ("MET_FLOAT", "MET_FLOAT\nElementNumberOfChannels = 3", "3 values per voxel"),
        ("MET_FLOAT", "MET_FLOAT\nElementToIntensityFunctionSlope = 2", "slope"),
        ("LOCAL", "LIST", "several files"),
        ("LOCAL", "x%03d.raw 1 12 1", "several files"),
        ("LOCAL", "gone.raw", "gone.raw' cannot be opened"),
    ],
)
def test_odd_meta_image_header_is_refused_with_its_reason(tmp_path, old, new, reason):
    with pytest.raises(InputError, match=reason):
        read_volume(changed(tmp_path, META, ".mha", old, new))


@pytest.mark.parametrize(("text", "ending"), [(NRRD, ".nrrd"), (META, ".mha")])
def test_raw_file_with_extra_slices_is_read_with_a_warning(tmp_path, text, ending):
    volume = read_volume(changed(tmp_path, text, ending, "16 14 12", "16 14 10"))
    assert np.array_equal(volume.array, NOISE[:10]) and "WARNING" in volume.notes[0]
    assert volume.ijk_to_ras == pytest.approx(np.array([[-1, 0, 0, -1], [0, -2, 0, -2], [0, 0, 3, 3], [0, 0, 0, 1.0]]))


def test_nrrd_spaces_and_units_are_converted_to_ras_millimetres(tmp_path):
    for space, first in (("RAS", 1), ("left-anterior-superior", -1)):
        volume = read_volume(changed(tmp_path, NRRD, ".nrrd", "left-posterior-superior", space))
        assert volume.ijk_to_ras[0, 0] == first and volume.ijk_to_ras[1, 1] == 2
    metres = read_volume(changed(tmp_path, NRRD, ".nrrd", "endian: little", 'endian: little\nspace units: "m" "m" "m"'))
    assert metres.spacing_mm == (3000, 2000, 1000) and "lengths in m;" in metres.notes[0]


def test_nrrd_file_without_orientation_gives_a_warning(tmp_path):
    text = NRRD.replace("space: left-posterior-superior\n", "").replace("space origin: (1,2,3)\n", "")
    volume = read_volume(
        changed(tmp_path, text, ".nrrd", "space directions: (1,0,0) (0,2,0) (0,0,3)", "spacings: 1 2 3")
    )
    assert volume.spacing_mm == (3, 2, 1) and "which side is left" in volume.notes[0]


def test_voxels_at_the_end_of_a_file_or_after_skipped_bytes_are_found(tmp_path):
    for skip, head in ((-1, b"whatever"), (8, b"8 bytes.")):
        path = changed(tmp_path, NRRD, ".nrrd", "encoding: raw", f"encoding: raw\nbyte skip: {skip}")
        content = path.read_bytes()
        path.write_bytes(content[: -NOISE.nbytes] + head + content[-NOISE.nbytes :])
        assert np.array_equal(read_volume(path).array, NOISE)


def test_single_segment_file_is_a_mask_and_several_segments_are_refused(tmp_path):
    text = NRRD.replace("dimension: 3", "dimension: 4").replace("directions: ", "directions: none ")
    one = changed(tmp_path, text, ".nrrd", "sizes: ", "sizes: 1 ")
    assert np.array_equal(read_volume(one).array, NOISE)
    with pytest.raises(InputError, match="2 values per voxel"):
        read_volume(changed(tmp_path, text, ".nrrd", "sizes: ", "sizes: 2 "))
    path = changed(tmp_path, text.replace("type: float", "type: uint16"), ".nrrd", "sizes: ", "sizes: 2 ")
    assert np.array_equal(read_volume(path, component=1).array, NOISE.view(np.uint16)[..., 1::2])


def test_damaged_file_is_refused_by_path_rather_than_shape(tmp_path):
    path = write_nifti(tmp_path / "patient.nii.gz", NOISE)
    path.write_bytes(path.read_bytes()[:-4])
    with pytest.raises(InputError, match=r"patient\.nii\.gz' is damaged or cut short"):
        read_volume(path)
