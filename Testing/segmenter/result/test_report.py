"""The report of a run."""

import numpy as np
import pytest
from models import LPS_2MM, brain_spec

from DanteSegmenterLib.options import SegmentOptions
from DanteSegmenterLib.result import Finding, Report, Result
from DanteSegmenterLib.volume import Volume

FINDINGS = (Finding("WT", 3.0, 2.0, 4.0, 0.9), Finding("TC", 1.0, 0.5, 1.5, 0.8), Finding("ET", 0.0, 0.0, 0.5))
REPORT = Report("m", "1", "abc", SegmentOptions(), FINDINGS, {"load": 0.5, "network": 2.0}, "cpu", ("A note.",))


def test_report_is_indexed_by_region():
    assert REPORT.finding("TC") is FINDINGS[1]
    assert REPORT.volumes_ml == {"WT": 3.0, "TC": 1.0, "ET": 0.0}
    with pytest.raises(KeyError, match="PE"):
        REPORT.finding("PE")


def test_run_time_is_the_sum_of_its_phases():
    assert REPORT.total_seconds == 2.5


def test_result_gives_nested_masks_by_region():
    labels = np.array([0, 2, 1, 4], np.uint8).reshape(1, 2, 2)
    result = Result(brain_spec(), Volume(np.zeros((1, 2, 2), np.float32), LPS_2MM), "t1", labels, REPORT)
    assert {name: mask.ravel().astype(int).tolist() for name, mask in result.masks.items()} == {
        "WT": [0, 1, 1, 1],
        "TC": [0, 0, 1, 1],
        "ET": [0, 0, 0, 1],
    }
    np.testing.assert_array_equal(result.mask("TC"), result.masks["TC"])
    assert (result.volumes_ml, result.notes, result.device) == (REPORT.volumes_ml, ("A note.",), "cpu")
