"""A written DICOM SEG as seen by other readers."""

import shutil
import subprocess
from types import SimpleNamespace

import highdicom
import numpy as np
import pydicom
import pytest
from dicom_files import oblique, whole, write_enhanced, write_series, write_study
from models import brain_regions, study, write_brain_model

from DanteSegmenterLib.__main__ import main
from DanteSegmenterLib.dicom.stack import stack_of
from DanteSegmenterLib.dicom.study_scan import choose_study, scan
from DanteSegmenterLib.dicom.write_seg import COPIED, write_seg
from DanteSegmenterLib.dicom.write_seg import _lo as lo
from DanteSegmenterLib.dicom.write_seg import _series_number as series_number
from DanteSegmenterLib.errors import InputError
from DanteSegmenterLib.files import read_volume
from DanteSegmenterLib.options import SegmentOptions
from DanteSegmenterLib.result.report import Report

REPORT = Report("Modell \N{GREEK SMALL LETTER ALPHA}", "1.2", "abcdef012345", SegmentOptions(), (), {}, "cpu")
SHAPE = (20, 24, 28)


def nested_masks():
    """WT in slices 3 to 16, TC in 5 to 8 and 12 to 14 (a gap between), ET in slice 6."""
    masks = {name: np.zeros(SHAPE, bool) for name in ("WT", "TC", "ET")}
    masks["WT"][3:17, 4:20, 5:21] = True
    masks["TC"][5:9, 6:12, 7:14] = masks["TC"][12:15, 6:12, 7:14] = True
    masks["ET"][6, 7:9, 8:11] = True
    return masks


def one_stack(folder):
    (series,) = choose_study(scan(folder)).series
    return stack_of(series)


@pytest.fixture(scope="module", params=["single frames", "enhanced"])
def written(request, tmp_path_factory):
    """A stack and its segmentation, from files in another order than the slices."""
    folder = tmp_path_factory.mktemp("written")
    volume = whole(study(matrix=oblique((1.3, 1.7, 3.1)))["t1"])
    if request.param == "enhanced":
        write_enhanced(folder / "study", volume, order=np.random.default_rng(0).permutation(20))
    else:
        write_series(folder / "study", volume, number=5)
    stack = one_stack(folder / "study")
    write_seg(folder / "o.dcm", nested_masks(), brain_regions(), REPORT, stack)
    return stack, folder / "o.dcm"


def test_segments_round_trip_on_the_grid_of_their_source(written):
    stack, path = written
    segmentation = highdicom.seg.segread(path)
    for number, (name, mask) in enumerate(nested_masks().items(), 1):
        volume = segmentation.get_volume(segment_numbers=[number], combine_segments=True)
        lps_to_ras = np.diag([-1.0, -1.0, 1.0, 1.0])
        voxels = np.argwhere(volume.array)
        found = (lps_to_ras @ volume.affine @ np.vstack([voxels.T, np.ones(len(voxels))]))[:3].T
        k, j, i = np.nonzero(mask)
        wanted = (stack.ijk_to_ras @ np.stack([i, j, k, np.ones_like(i)]))[:3].T
        assert len(found) == len(wanted) == np.count_nonzero(mask), name
        assert np.allclose(sorted(found.round(3).tolist()), sorted(wanted.round(3).tolist()), atol=2e-3)


def test_slices_refer_to_their_source_images(written):
    stack, path = written
    segmentation = highdicom.seg.segread(path)
    masks = np.stack(list(nested_masks().values()), axis=-1)
    if len(stack.series.files) == 1:
        uid = stack.series.instances[0].uid
        frames = [frame.index + 1 for frame in stack.frames]
        pixels = segmentation.get_pixels_by_source_frame(uid, frames, ignore_spatial_locations=False)
    else:
        uid_of = {instance.path: instance.uid for instance in stack.series.instances}
        pixels = segmentation.get_pixels_by_source_instance([uid_of[frame.path] for frame in stack.frames])
    assert np.array_equal(pixels.astype(bool), masks)


def test_segments_have_the_codes_and_names_of_the_model(written):
    segmentation = pydicom.dcmread(written[1])
    for segment, region in zip(segmentation.SegmentSequence, brain_regions(), strict=True):
        assert segment.SegmentLabel == region.name and segment.TrackingID == region.id
        assert segment.SegmentAlgorithmType == "AUTOMATIC" and segment.SegmentAlgorithmName == REPORT.model
        algorithm = segment.SegmentationAlgorithmIdentificationSequence[0]
        assert (algorithm.AlgorithmName, algorithm.AlgorithmVersion) == (REPORT.model, "1.2")
        for name, code in (
            ("SegmentedPropertyCategoryCodeSequence", region.terminology.category),
            ("SegmentedPropertyTypeCodeSequence", region.terminology.type),
            ("AnatomicRegionSequence", region.terminology.anatomy),
        ):
            item = segment[name].value[0]
            assert (item.CodingSchemeDesignator, item.CodeValue, item.CodeMeaning) == (
                code.scheme,
                code.value,
                code.meaning,
            )
    assert segmentation.SegmentationType == "BINARY" and segmentation.SegmentsOverlap == "YES"
    assert segmentation.Manufacturer == "SlicerDANTE" and segmentation.DeviceSerialNumber == REPORT.weights


def test_only_required_patient_data_are_copied(written):
    stack, path = written
    segmentation = pydicom.dcmread(path)
    source = pydicom.dcmread(stack.frames[0].path)
    assert [segmentation[name].value for name in COPIED] == [source[name].value for name in COPIED]
    assert segmentation.FrameOfReferenceUID == source.FrameOfReferenceUID
    assert segmentation.SpecificCharacterSet == "ISO_IR 192"
    content = path.read_bytes()
    for secret in ("PatientAddress", "PatientWeight"):
        assert secret in source and secret not in segmentation
    assert b"Hidden Street" not in content and "Änne".encode() in content
    own = {segmentation.SOPInstanceUID, segmentation.SeriesInstanceUID}
    assert len(own) == 2 and not own & {source.SOPInstanceUID, source.SeriesInstanceUID, source.StudyInstanceUID}


def test_missing_source_data_are_empty_and_names_keep_their_characters(tmp_path):
    def change(dataset, k):
        dataset.SpecificCharacterSet = ["", "ISO 2022 IR 87"]
        dataset.PatientName = "Yamada^Tarou=山田^太郎"
        del dataset.AccessionNumber, dataset.StudyTime, dataset.ReferringPhysicianName, dataset.SliceThickness
        dataset.PatientIdentityRemoved = "YES"

    write_series(tmp_path / "study", whole(study()["t1"]), change=change)
    write_seg(tmp_path / "o.dcm", nested_masks(), brain_regions(), REPORT, one_stack(tmp_path / "study"))
    segmentation = pydicom.dcmread(tmp_path / "o.dcm")
    assert segmentation.PatientName.ideographic == "山田^太郎" and segmentation.PatientIdentityRemoved == "YES"
    assert not segmentation.AccessionNumber and not segmentation.StudyTime and not segmentation.ReferringPhysicianName


def test_empty_segmentation_can_be_written(tmp_path):
    write_series(tmp_path / "study", whole(study()["t1"]))
    masks = {name: np.zeros(SHAPE, bool) for name in ("WT", "TC", "ET")}
    write_seg(tmp_path / "o.dcm", masks, brain_regions(), REPORT, one_stack(tmp_path / "study"))
    segmentation = highdicom.seg.segread(tmp_path / "o.dcm")
    assert segmentation.number_of_segments == 3 and not segmentation.pixel_array.any()


def test_missing_frame_of_reference_is_refused_without_leftovers(tmp_path):
    write_series(tmp_path / "study", whole(study()["t1"]), FrameOfReferenceUID=None)
    with pytest.raises(InputError, match=r"series 1 'AX T1 SE' names no Frame of Reference UID"):
        write_seg(tmp_path / "o.dcm", nested_masks(), brain_regions(), REPORT, one_stack(tmp_path / "study"))
    assert not (tmp_path / "o.dcm").exists()


def test_command_writes_a_file_that_passes_dciodvfy(tmp_path):
    model = write_brain_model(tmp_path / "model")
    write_study(tmp_path / "study", {name: whole(volume) for name, volume in study().items()})
    common = ["segment", "--model", str(model), "--device", "cpu", "--dicom", str(tmp_path / "study")]
    for name in ("o.dcm", "o.nii"):
        assert main([*common, "--output", str(tmp_path / name)]) == 0
    labels = read_volume(tmp_path / "o.nii").array
    segmentation = highdicom.seg.segread(tmp_path / "o.dcm")
    for number, inside in ((1, (1, 2, 4)), (2, (1, 4)), (3, (4,))):
        frames = [
            frame.SegmentIdentificationSequence[0].ReferencedSegmentNumber == number
            for frame in segmentation.PerFrameFunctionalGroupsSequence
        ]
        assert segmentation.pixel_array[frames].sum() == np.isin(labels, inside).sum() > 0
    if shutil.which("dciodvfy") is None:
        pytest.skip("dciodvfy is not installed (Debian: dicom3tools)")
    checked = subprocess.run(["dciodvfy", tmp_path / "o.dcm"], capture_output=True, text=True)
    assert "Error" not in checked.stdout + checked.stderr and "Segmentation" in checked.stdout + checked.stderr


@pytest.mark.parametrize(("number", "written_as"), [(5, 501), (None, 1), (0, 1), (-3, 1), (2**31 - 1, 2**31 - 1)])
def test_series_number_is_100_n_plus_1_within_dicom_limits(number, written_as):
    assert series_number(SimpleNamespace(series=SimpleNamespace(number=number))) == written_as


def test_model_text_is_at_most_64_characters_without_backslash():
    assert (lo("a\\b\nc"), lo("")) == ("a/b c", "-") and len(lo("x" * 100)) == 64
