"""User actions in the window over an empty scene, and a fake run."""

from __future__ import annotations

import time
import types

import numpy as np
from conftest import REPOSITORY

from DanteSegmenterLib.options import SegmentOptions
from DanteSegmenterLib.result import Finding, Report, Result
from DanteSegmenterLib.result.regions import mask_of

MODULE = REPOSITORY / "DanteSegmenter" / "DanteSegmenter.py"
NAMES = {"t1": "3: AX T1", "t1ce": "5: AX T1 POST GAD", "t2": "4: AX T2", "flair": "6: AX FLAIR"}


def result_of(spec, reference, labels, **more):
    """A result with this label map; `more` are further fields."""
    findings = []
    for region in spec.regions:
        volume = float(mask_of(labels, region, spec.regions).sum()) * reference.voxel_volume_ml
        findings.append(Finding(region.id, volume, volume / 2, 2 * volume, 0.875))
    seconds, notes = {"network": 1.25}, ("A note.",)
    report = Report(spec.name, spec.version, "", SegmentOptions(), tuple(findings), seconds, "cpu", notes)
    return Result(spec, reference, "t1", labels, report, **more)


class FakeRun:
    """Replaces the computation: answers with a block, and records its arguments."""

    def __init__(self, error=None):
        self.error = error
        self.calls = []

    def __call__(self, folder, volumes, device, progress=None, cancelled=None):
        from DanteSegmenterLib.model_folder import read_spec

        self.calls.append((folder, volumes, device))
        progress(types.SimpleNamespace(phase="network", fraction=0.5, message="Segmenting"))
        if self.error:
            raise self.error
        spec = read_spec(folder)
        reference = volumes["t1"]
        labels = np.zeros(reference.shape, np.uint8)
        for n, region in enumerate(spec.regions):
            labels[1:3, 1:3, 1 : 4 - n] = region.label_value
        return result_of(spec, reference, labels)


def add_volume(slicer, name, shape=(4, 5, 6)):
    array = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    node = slicer.util.addVolumeFromArray(array, np.diag([1.0, 2.0, 3.0, 1.0]), name)
    slicer.app.processEvents()
    return node


def add_study(slicer, modalities=("t1", "t2", "flair"), prefix=""):
    return {modality: add_volume(slicer, prefix + NAMES[modality]) for modality in modalities}


def shown(widget, window):
    """Whether a widget would be visible if the window were on a screen."""
    return widget.isVisibleTo(window.parent)


def until(slicer, condition, seconds=180):
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        slicer.app.processEvents()
        time.sleep(0.005)
    assert condition(), "it did not happen in time"
