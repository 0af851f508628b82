"""Compressed files contain the same voxels; a missing decoder is reported in a sentence."""

import numpy as np
import pytest
from dicom_files import write_series
from models import LPS_2MM
from pydicom import dcmread
from pydicom.uid import (
    HTJ2KLossless,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
)

from DanteSegmenterLib.dicom.pixels import read_stack
from DanteSegmenterLib.dicom.stack import stack_of
from DanteSegmenterLib.dicom.study_scan import choose_study, scan
from DanteSegmenterLib.errors import InputError
from DanteSegmenterLib.volume import Volume

# Signed, with an edge that lossy compression would smear.
VOLUME = Volume(np.random.default_rng(0).integers(-500, 3000, (4, 16, 24)).astype(np.int16), LPS_2MM)
GDCM = {JPEG2000Lossless: "JPEG2000Lossless", JPEGLosslessSV1: "JPEGLosslessProcess14_1"}


def read(folder):
    (series,) = choose_study(scan(folder)).series
    return read_stack(stack_of(series)).array


def compress(path, syntax):
    """Rewrite a file in another transfer syntax."""
    dataset = dcmread(path)
    if syntax in GDCM:
        gdcm_compress(path, GDCM[syntax])
        return
    if syntax in (RLELossless, JPEGLSLossless):
        dataset.compress(syntax, generate_instance_uid=False)
    dataset.file_meta.TransferSyntaxUID = syntax
    dataset.save_as(path)


def gdcm_compress(path, name):
    gdcm = pytest.importorskip("gdcm")
    reader = gdcm.ImageReader()
    reader.SetFileName(str(path))
    assert reader.Read()
    change = gdcm.ImageChangeTransferSyntax()
    change.SetTransferSyntax(gdcm.TransferSyntax(getattr(gdcm.TransferSyntax, name)))
    change.SetInput(reader.GetImage())
    assert change.Change()
    writer = gdcm.ImageWriter()
    writer.SetFileName(str(path))
    writer.SetFile(reader.GetFile())
    writer.SetImage(change.GetOutput())
    assert writer.Write()


SYNTAXES = [ImplicitVRLittleEndian, RLELossless, JPEGLSLossless, JPEG2000Lossless, JPEGLosslessSV1]


@pytest.mark.parametrize("syntax", SYNTAXES, ids=lambda syntax: syntax.keyword)
def test_voxels_do_not_depend_on_the_transfer_syntax(tmp_path, syntax):
    for path in write_series(tmp_path, VOLUME, RescaleSlope=1, RescaleIntercept=-100):
        compress(path, syntax)
        assert dcmread(path).file_meta.TransferSyntaxUID == syntax
    assert np.array_equal(read(tmp_path), VOLUME.array.astype(int) - 100)


def test_undecodable_data_are_refused(tmp_path):
    for path in write_series(tmp_path, VOLUME):
        compress(path, RLELossless)
        dataset = dcmread(path)
        dataset.file_meta.TransferSyntaxUID = HTJ2KLossless
        dataset.save_as(path)
    with pytest.raises(InputError) as error:
        read(tmp_path)
    assert str(error.value) == (
        "series 1 'AX T1 SE': it is compressed as High-Throughput JPEG 2000 Image Compression (Lossless Only), which "
        'cannot be decoded here. pip install "slicer-dante[dicom]", or export it uncompressed.'
    )


def test_codestream_of_another_size_than_the_header_is_refused_undecoded(tmp_path):
    paths = write_series(tmp_path, VOLUME)
    compress(paths[0], JPEGLSLossless)
    content = paths[0].read_bytes()
    at = content.index(b"\xff\xf7") + 5
    assert content[at : at + 4] == b"\x00\x10\x00\x18"
    paths[0].write_bytes(content[:at] + b"\xff\xff\xff\xff" + content[at + 4 :])
    with pytest.raises(InputError, match="holds 65535 x 65535 values instead of 16 x 24"):
        read(tmp_path)


@pytest.mark.parametrize("syntax", SYNTAXES[1:], ids=lambda syntax: syntax.keyword)
@pytest.mark.parametrize("lost", [12, 200])
def test_truncated_compressed_file_is_refused(tmp_path, capfd, syntax, lost):
    paths = write_series(tmp_path, VOLUME)
    compress(paths[0], syntax)
    paths[0].write_bytes(paths[0].read_bytes()[:-lost])
    with pytest.raises(InputError, match="'0000.dcm' is damaged or cut short"):
        read(tmp_path)
    assert capfd.readouterr().err == ""
