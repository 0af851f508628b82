"""Values of a DICOM header, of which scanners write what the standard does not allow."""

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
    """A data set with one value as the file has it, which pydicom parses when it is asked for."""
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
def test_numbers_are_all_of_a_value_or_none(value, numbers):
    dataset = with_raw(PIXEL_SPACING, "DS", value)
    assert numbers_of(dataset, "PixelSpacing") == numbers
    assert number_of(dataset, "PixelSpacing") == (numbers[0] if numbers else None)


def test_what_is_not_there_is_nothing_of_each_kind():
    dataset = Dataset()
    assert (text(dataset, "SeriesDescription"), texts(dataset, "ImageType")) == ("", ())
    assert (number_of(dataset, "EchoTime"), items(dataset, "SharedFunctionalGroupsSequence")) == (None, [])


def test_a_text_prints_on_one_line_whatever_it_holds():
    dataset = with_raw(DESCRIPTION, "LO", b"T1\x1b[31m red\r\npost ")
    with quiet():
        shown = text(dataset, "SeriesDescription")
    assert "T1" in shown and "post" in shown and shown.isprintable()


def test_no_sequence_has_no_items():
    assert items(with_raw(ECHO_TIME, "DS", b"20"), "EchoTime") == []


def echo(milliseconds):
    holder, group = Dataset(), Dataset()
    holder.EffectiveEchoTime = milliseconds
    group.MREchoSequence = Sequence([holder])
    return group


def test_a_frames_own_group_goes_before_the_shared_one_and_that_before_the_file():
    dataset = Dataset()
    dataset.EffectiveEchoTime = 30.0
    assert Groups(dataset, []).number("MREchoSequence", "EffectiveEchoTime") == 30.0
    assert Groups(dataset, [echo(20.0)]).number("MREchoSequence", "EffectiveEchoTime") == 20.0
    assert Groups(dataset, [echo(10.0), echo(20.0)]).number("MREchoSequence", "EffectiveEchoTime") == 10.0


def test_as_many_numbers_as_are_wanted_or_none():
    dataset = with_raw(PIXEL_SPACING, "DS", b"0.9\\1.2 ")
    assert Groups(dataset, []).numbers("PixelMeasuresSequence", "PixelSpacing", 2) == (0.9, 1.2)
    assert Groups(dataset, []).numbers("PixelMeasuresSequence", "PixelSpacing", 3) is None


def test_of_the_shared_groups_there_is_one():
    dataset = Dataset()
    dataset.PerFrameFunctionalGroupsSequence = Sequence([echo(10.0), echo(11.0), echo(12.0)])
    dataset.SharedFunctionalGroupsSequence = Sequence([echo(20.0), echo(21.0)])
    own, shared = groups_of(dataset)
    assert [len(own), len(shared)] == [3, 1]
