"""Fixtures and user actions for the window over an empty scene, with a tiny model and a fake run."""

from __future__ import annotations

import os
import sys
import time
import types

import numpy as np
import pytest
from at_once import ImmediateInference, at_once
from conftest import REPOSITORY
from models import write_brain_model
from slicer_half import SlicerHalf

from DanteSegmenterLib.options import SegmentOptions
from DanteSegmenterLib.result import Finding, Report, Result
from DanteSegmenterLib.result.regions import mask_of

MODULE = REPOSITORY / "DanteSegmenter" / "DanteSegmenter.py"
NAMES = {"t1": "3: AX T1", "t1ce": "5: AX T1 POST GAD", "t2": "4: AX T2", "flair": "6: AX FLAIR"}

pytest.importorskip("PySide6", reason="PySide6 is not installed")
pytest.importorskip("slicer_core", reason="slicer-core is not installed")


@pytest.fixture(scope="session")
def slicer():
    os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
    sys.path.insert(0, str(REPOSITORY / "Testing" / "app"))
    import slicer

    slicer.app.load_module(MODULE)
    slicer.app.startup_completed()
    return slicer


@pytest.fixture
def module(slicer):
    """The current Slicer half, which Reload replaces."""
    return SlicerHalf()


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory):
    return write_brain_model(tmp_path_factory.mktemp("Models") / "tiny", with_full=True)


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


@pytest.fixture
def window(slicer, module, model_folder):
    """The open window over an empty scene, with the tiny model and a fake run."""
    widget = slicer.util.getModuleWidget("DanteSegmenter")
    widget.logic = module.DanteSegmenterLogic(ImmediateInference(FakeRun()), embeddedModels=model_folder.parent)
    slicer.mrmlScene.Clear(0)  # also resets the choice of a model unknown to this logic
    widget.parent.enter()
    with at_once(widget):
        yield widget
    slicer.util.getModuleWidget("DanteSegmenter").parent.exit()
    slicer.mrmlScene.Clear(0)
    slicer.app.processEvents()


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


def until(slicer, condition, seconds=60):
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        slicer.app.processEvents()
        time.sleep(0.005)
    assert condition(), "it did not happen in time"
