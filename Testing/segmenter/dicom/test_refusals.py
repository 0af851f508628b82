"""Series that do not form one volume, and hostile files: refused by name without side effects."""

import os
import shutil

import numpy as np
import pytest
from dicom_files import patient_and_study, save, set_pixels, slice_of, whole, write_enhanced, write_series
from models import LPS_2MM, study
from pydicom import config, dcmread
from pydicom.uid import DeflatedExplicitVRLittleEndian, generate_uid

from DanteSegmenterLib.dicom.choosing import table
from DanteSegmenterLib.dicom.pixels import declared_size, read_stack
from DanteSegmenterLib.dicom.stack import stack_of
from DanteSegmenterLib.dicom.study_scan import choose_study, scan
from DanteSegmenterLib.errors import InputError, ResourceError
from DanteSegmenterLib.volume import Volume

SHAPE = (12, 6, 8)
VOLUME = Volume(np.arange(np.prod(SHAPE), dtype=np.int16).reshape(SHAPE), LPS_2MM)


def read(folder):
    (series,) = choose_study(scan(folder)).series
    return read_stack(stack_of(series))


def set_at(slices, **values):
    """Change some slices."""

    def change(dataset, k):
        if k in slices:
            for name, value in values.items():
                setattr(dataset, name, value)

    return change


def moved(along, by):
    """Shift the positions of slices along an LPS axis by a function of the slice, in mm."""

    def change(dataset, k):
        place = [float(part) for part in dataset.ImagePositionPatient]
        place[along] += by(k)
        dataset.ImagePositionPatient = [f"{part:.6f}" for part in place]

    return change


def without(name):
    def change(dataset, k):
        if k == 3:
            delattr(dataset, name)

    return change


def smaller(dataset, k):
    if k > 5:
        set_pixels(dataset, np.zeros((4, 8), np.int16))


REFUSED = {
    "no position": (without("ImagePositionPatient"), "1 of its 12 slices have no Image Position (Patient)"),
    "no orientation": (without("ImageOrientationPatient"), "have no Image Orientation (Patient)"),
    "no spacing": (without("PixelSpacing"), "have no Pixel Spacing"),
    "a position of two numbers": (set_at({3}, ImagePositionPatient=["1", "2"]), "have no Image Position (Patient)"),
    "a gap": (moved(2, lambda k: 2.0 * (k > 6)), "4 mm between slices 7 and 8, 2 mm elsewhere; 1 seem to be missing"),
    "uneven": (moved(2, lambda k: 0.2 * (k == 4)), "are not equally spaced: 2.2 mm between slices 4 and 5"),
    "twice": (
        lambda dataset, k: (moved(2, lambda k: -2.0 * (k % 2))(dataset, k), set_at({1}, EchoTime=80)(dataset, k)),
        "6 of its 12 slices lie where another one lies, told apart by EchoTime (12.0, 80.0)",
    ),
    "mixed orientations": (
        set_at({0, 1}, ImageOrientationPatient=["1", "0", "0", "0", "0", "1"]),
        "mixed orientations (10 of 12 are turned)",
    ),
    "skewed axes": (set_at(range(12), ImageOrientationPatient=["1", "0", "0", "0.5", "0.9", "0"]), "no two perpend"),
    "sizes": (smaller, "its slices have different sizes (6 of 8 x 6, 6 of 8 x 4 voxels)"),
    "voxel sizes": (set_at({5}, PixelSpacing=["2", "3"]), "different or impossible voxel sizes"),
    "no voxel size": (set_at(range(12), PixelSpacing=["0", "2"]), "different or impossible voxel sizes"),
    "gantry tilt": (moved(1, lambda k: 2 * k * np.tan(np.radians(15))), "gantry tilt of 15.0 degrees"),
    "a bent stack": (moved(1, lambda k: 0.3 * (k == 5)), "do not lie on one straight line"),
    "a slice in colour": (set_at({5}, PhotometricInterpretation="RGB"), "in colour or inverted"),
    "colour": (set_at(range(12), PhotometricInterpretation="RGB"), "in colour or inverted"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_invalid_volume_is_refused_by_name(tmp_path, case):
    change, reason = REFUSED[case]
    write_series(tmp_path, VOLUME, number=4, change=change)
    with pytest.raises(InputError) as error:
        read(tmp_path)
    assert str(error.value).startswith("series 4 'AX T1 SE': ") and reason in str(error.value)
    assert "Müller" not in str(error.value) and "\n" not in str(error.value)


def test_rounded_positions_form_one_volume(tmp_path):
    write_series(tmp_path, VOLUME, change=moved(2, lambda k: 0.01 * (k % 2)))
    assert np.array_equal(read(tmp_path).array, VOLUME.array)


def test_truncated_file_is_named(tmp_path):
    paths = write_series(tmp_path, VOLUME)
    paths[4].write_bytes(paths[4].read_bytes()[:-20])
    with pytest.raises(InputError, match=r"series 1 'AX T1 SE': '0004.dcm' is damaged or cut short"):
        read(tmp_path)


@pytest.mark.parametrize("length", [200, 600])
def test_truncated_header_is_reported(tmp_path, length):
    paths = write_series(tmp_path, VOLUME)
    paths[11].write_bytes(paths[11].read_bytes()[:length])
    found = scan(tmp_path)
    assert "1 DICOM files cannot be read" in found.notes[0] and "'0011.dcm'" in found.notes[0]
    assert len(found.studies[0].series[0].files) == 11


def test_header_claiming_a_gigabyte_allocates_nothing(tmp_path):
    write_series(tmp_path / "a", VOLUME, change=set_at(range(12), Rows=20000, Columns=4000))
    with pytest.raises((InputError, ResourceError), match="damaged or cut short|memory"):
        read(tmp_path / "a")
    write_series(tmp_path / "b", VOLUME, change=set_at(range(12), Rows=65535, Columns=65535))
    with pytest.raises(InputError, match="voxels, more than any scanner's image"):
        read(tmp_path / "b")


def with_length(content, tag, length):
    """The content of a file with a false length of the element with this tag and value representation."""
    at = content.rindex(tag) + len(tag)
    return content[:at] + length.to_bytes(4, "little") + content[at + 4 :]


def test_false_pixel_length_is_read_if_complete_and_refused_if_truncated(tmp_path):
    paths = write_series(tmp_path, VOLUME, DeviceSerialNumber="1")
    pixels = b"\xe0\x7f\x10\x00OW\0\0"
    paths[2].write_bytes(with_length(paths[2].read_bytes(), pixels, 1 << 30))
    assert np.array_equal(read(tmp_path).array, VOLUME.array)  # every voxel is there despite the false length
    paths[2].write_bytes(with_length(paths[2].read_bytes()[:-2], pixels, 1 << 30))
    with pytest.raises(InputError, match=r"'0002.dcm' is damaged or cut short"):
        read(tmp_path)


def test_private_header_element_of_a_gigabyte_is_not_read(tmp_path):
    def change(dataset, k):
        dataset.add_new((0x0009, 0x1001), "UN", b"12345678")

    paths = write_series(tmp_path, VOLUME, change=change)
    assert np.array_equal(read(tmp_path).array, VOLUME.array)
    paths[2].write_bytes(with_length(paths[2].read_bytes(), b"\x09\x00\x01\x10UN\0\0", 1 << 30))
    assert "'0002.dcm' (its header is cut short" in scan(tmp_path).notes[0]


def test_endless_frames_are_not_counted(tmp_path):
    write_enhanced(tmp_path, whole(study()["t1"]))
    dataset = dcmread(tmp_path / "enhanced")
    dataset.NumberOfFrames = 2_000_000_000
    dataset.save_as(tmp_path / "enhanced")
    assert "its header speaks of 2e+09 frames" in scan(tmp_path).notes[0]


def test_deflated_file_is_not_unpacked(tmp_path):
    dataset = slice_of(VOLUME, 0)
    dataset.SeriesInstanceUID = generate_uid(None)
    save(tmp_path / "x.dcm", dataset, DeflatedExplicitVRLittleEndian)
    assert "it is deflated" in scan(tmp_path).notes[0]


def test_duplicate_file_is_ignored_and_contradiction_refused(tmp_path):
    paths = write_series(tmp_path, VOLUME)
    shutil.copy(paths[3], tmp_path / "copy of 3.dcm")
    (series,) = choose_study(scan(tmp_path)).series
    assert series.notes == ("1 files are copies of others and were passed over.",)
    assert np.array_equal(read(tmp_path).array, VOLUME.array)
    dataset = dcmread(paths[3])
    dataset.PixelData = bytes(len(dataset.PixelData))
    dataset.save_as(tmp_path / "copy of 3.dcm")
    with pytest.raises(InputError, match=r"two different files, '0003.dcm' and 'copy of 3.dcm', have one SOP Instance"):
        read(tmp_path)


def test_dicomdir_is_not_followed(tmp_path):
    """The files it names are not read, neither outside the folder nor inside."""
    write_series(tmp_path / "elsewhere", VOLUME)
    (tmp_path / "study").mkdir()
    dataset = patient_and_study()
    dataset.SOPClassUID, dataset.SOPInstanceUID = "1.2.840.10008.1.3.10", generate_uid(None)
    dataset.SeriesInstanceUID = generate_uid(None)
    record = patient_and_study()
    record.DirectoryRecordType = "IMAGE"
    dataset.DirectoryRecordSequence = [record]
    with config.disable_value_validation():
        record.ReferencedFileID = ["..", "elsewhere", "0000.dcm"]
    save(tmp_path / "study" / "DICOMDIR", dataset)
    found = scan(tmp_path / "study")
    assert not found.studies and not found.notes
    with pytest.raises(InputError, match="holds no DICOM study"):
        choose_study(found)


def test_pipes_and_folder_links_are_not_followed(tmp_path):
    write_series(tmp_path / "study", VOLUME)
    write_series(tmp_path / "other", VOLUME)
    os.symlink(tmp_path / "other", tmp_path / "study" / "link")
    os.symlink(tmp_path / "study", tmp_path / "study" / "circle")
    os.symlink(tmp_path / "nowhere", tmp_path / "study" / "lost")
    os.mkfifo(tmp_path / "study" / "pipe")
    assert np.array_equal(read(tmp_path / "study").array, VOLUME.array)


def test_header_texts_cannot_control_the_terminal(tmp_path):
    write_series(tmp_path, VOLUME, SeriesDescription="T1\x1b[2J\n\u202eevil", PatientName="\x1b[31mName^X")
    (row,) = table(choose_study(scan(tmp_path)))
    shown = [row.line, row.label, row.series.label, *row.guess.reasons, str(row.plain())]
    assert all(text.isprintable() and "Name" not in text for text in shown)
    assert row.plain()["description"] == "T1[2J evil"


def test_codestream_size_is_not_trusted():
    siz = b"\xff\x4f\xff\x51" + bytes(4) + b"".join(n.to_bytes(4, "big") for n in (40, 30, 8, 6))
    assert declared_size(siz) == (24, 32) and declared_size(b"\0" * 80 + siz) == (24, 32)
    frame = b"\xff\xd8" + b"\xff\xe0\0\4ab" + b"\xff\xc3\0\x0b\x10" + b"\x01\x00\x02\x00" + b"\1\1\x11\0"
    assert declared_size(frame) == (256, 512)
    assert declared_size(b"no image at all") is None and declared_size(b"\xff\xd8\xff") is None
