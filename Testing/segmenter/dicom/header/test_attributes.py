"""Values of DICOM headers, which may violate the standard."""

import pytest
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.tag import Tag

from DanteSegmenterLib.dicom.header.attributes import items, number_of, numbers_of, text, texts
from DanteSegmenterLib.dicom.header.functional_groups import Groups, groups_of
from DanteSegmenterLib.dicom.header.packages import quiet

ECHO_TIME, PIXEL_SPACING, DESCRIPTION = Tag(0x0018, 0x0081), Tag(0x0028, 0x0030), Tag(0x0008, 0x103E)


def with_raw(tag, kind, value):
    """A data set with one raw value, which pydicom parses on access."""
    dataset = Dataset()
    dataset[tag] = RawDataElement(tag, kind, len(value), value, 0, False, True)
    return dataset


@pytest.mark.parametrize(
    ("value", "numbers"),
    [
        (b"0.9\\1.2 ", (0.9, 1.2)),
        (b"4 ", (4.0,)),
        (b"", ()),
        (b"0.9\\1,2", ()),
        (b"inf\\1.2 ", ()),
        (b"nan ", ()),
    ],
)
def test_numbers_are_read_completely_or_not_at_all(value, numbers):
    dataset = with_raw(PIXEL_SPACING, "DS", value)
    assert numbers_of(dataset, "PixelSpacing") == numbers
    assert number_of(dataset, "PixelSpacing") == (numbers[0] if numbers else None)


def test_missing_elements_read_as_empty():
    dataset = Dataset()
    assert (text(dataset, "SeriesDescription"), texts(dataset, "ImageType")) == ("", ())
    assert (number_of(dataset, "EchoTime"), items(dataset, "SharedFunctionalGroupsSequence")) == (None, [])


def test_text_is_one_printable_line():
    dataset = with_raw(DESCRIPTION, "LO", b"T1\x1b[31m red\r\npost ")
    with quiet():
        shown = text(dataset, "SeriesDescription")
    assert "T1" in shown and "post" in shown and shown.isprintable()


def test_missing_sequence_has_no_items():
    assert items(with_raw(ECHO_TIME, "DS", b"20"), "EchoTime") == []


def echo(milliseconds):
    holder, group = Dataset(), Dataset()
    holder.EffectiveEchoTime = milliseconds
    group.MREchoSequence = Sequence([holder])
    return group


def test_frame_group_precedes_shared_group_precedes_file():
    dataset = Dataset()
    dataset.EffectiveEchoTime = 30.0
    assert Groups(dataset, []).number("MREchoSequence", "EffectiveEchoTime") == 30.0
    assert Groups(dataset, [echo(20.0)]).number("MREchoSequence", "EffectiveEchoTime") == 20.0
    assert Groups(dataset, [echo(10.0), echo(20.0)]).number("MREchoSequence", "EffectiveEchoTime") == 10.0


def test_wrong_count_of_numbers_reads_as_none():
    dataset = with_raw(PIXEL_SPACING, "DS", b"0.9\\1.2 ")
    assert Groups(dataset, []).numbers("PixelMeasuresSequence", "PixelSpacing", 2) == (0.9, 1.2)
    assert Groups(dataset, []).numbers("PixelMeasuresSequence", "PixelSpacing", 3) is None


def test_at_most_one_shared_group_is_read():
    dataset = Dataset()
    dataset.PerFrameFunctionalGroupsSequence = Sequence([echo(10.0), echo(11.0), echo(12.0)])
    dataset.SharedFunctionalGroupsSequence = Sequence([echo(20.0), echo(21.0)])
    own, shared = groups_of(dataset)
    assert [len(own), len(shared)] == [3, 1]
