"""Enhanced multi-frame MR: one file with a stack of frames in any order."""

import numpy as np
import pytest
from dicom_files import oblique, whole, write_enhanced
from models import study

from DanteSegmenterLib.dicom.pixels import read_stack
from DanteSegmenterLib.dicom.sequence_guess import guess_series
from DanteSegmenterLib.dicom.stack import stack_of
from DanteSegmenterLib.dicom.study_scan import choose_study, scan
from DanteSegmenterLib.errors import InputError


@pytest.mark.parametrize("shared", [True, False], ids=["geometry shared", "geometry per frame"])
def test_frames_are_sorted_and_scaled_individually(tmp_path, shared):
    volume = whole(study(matrix=oblique((1.3, 1.7, 3.1)))["t1"])
    write_enhanced(tmp_path, volume, np.random.default_rng(1).permutation(20), shared)
    (series,) = choose_study(scan(tmp_path)).series
    read = read_stack(stack_of(series))
    wanted = 2.0 * volume.array + np.arange(20)[:, None, None]
    # K of this grid is opposite to the normal.
    assert np.array_equal(read.array, wanted[::-1])
    assert np.allclose(read.ijk_to_ras @ [0, 0, 19, 1], volume.ijk_to_ras @ [0, 0, 0, 1], atol=1e-6)
    assert guess_series(series).kind == "t2"
    assert (series.acquisition.echo_ms, series.acquisition.repetition_ms) == (100, 5000)


def test_two_echoes_in_one_file_are_refused(tmp_path):
    write_enhanced(tmp_path, whole(study()["t1"]), echoes=(20, 100))
    (series,) = choose_study(scan(tmp_path)).series
    with pytest.raises(InputError) as error:
        stack_of(series)
    assert "series 3 'AX T2 TSE': 20 of its 40 slices lie where another one lies" in str(error.value)
    assert "told apart by EchoTime (20, 100)" in str(error.value)
