"""Fixtures of the window over an empty scene, with a tiny model and a fake run.

Imports are inside the fixtures: pytest loads this file before the number of threads is set.
"""

from __future__ import annotations

import ctypes
import os
import sys
from dataclasses import replace
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent
SPARE_REFERENCES = 100_000


@pytest.fixture(scope="session")
def slicer():
    """The application stand-in with DANTE Segmenter."""
    pytest.importorskip("PySide6", reason="PySide6 is not installed")
    pytest.importorskip("slicer_core", reason="slicer-core is not installed")
    os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
    sys.path.insert(0, str(REPOSITORY / "Testing" / "app"))
    import slicer

    slicer.app.load_module(REPOSITORY / "DanteSegmenter" / "DanteSegmenter.py")
    slicer.app.startup_completed()
    # A package below releases references to True and False that it does not own: Python 3.11 would abort at exit.
    for value in (True, False):
        for _ in range(SPARE_REFERENCES):
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(value))
    return slicer


@pytest.fixture
def module(slicer):
    """The current Slicer half, which Reload replaces."""
    from slicer_half import SlicerHalf

    return SlicerHalf()


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory):
    from models import write_brain_model

    return write_brain_model(tmp_path_factory.mktemp("Models") / "tiny", with_full=True)


@pytest.fixture
def window(slicer, module, model_folder):
    """The open window over an empty scene, with the tiny model and a fake run."""
    from immediate_runs import ImmediateInference, at_once
    from slicer_window import FakeRun

    widget = slicer.util.getModuleWidget("DanteSegmenter")
    widget.logic = module.DanteSegmenterLogic(ImmediateInference(FakeRun()), embeddedModels=model_folder.parent)
    slicer.mrmlScene.Clear(0)  # also resets the choice of a model unknown to this logic
    widget.parent.enter()
    with at_once(widget):
        yield widget
    slicer.util.getModuleWidget("DanteSegmenter").parent.exit()
    slicer.mrmlScene.Clear(0)
    slicer.app.processEvents()


@pytest.fixture
def two_patients(slicer, module, window):
    """Two patients with a result each; the second result is the latest."""
    from slicer_scene import choose
    from slicer_window import add_study

    results, patients = {}, {}
    for name in ("one", "two"):
        patients[name] = add_study(slicer, prefix=f"{name} ")
        module.makeStudy(name, "MR", list(patients[name].values()))
        choose(window, patients[name])
        window.ui.segmentButton.click()
        results[name] = window.choices.output()
    slicer.app.processEvents()
    assert results["one"] is not results["two"]
    return patients, results


@pytest.fixture
def editor(slicer, window):
    """The Segment Editor, opened by the window's button on a result of 12, 8 and 4 voxels of 6 mm3."""
    from slicer_window import add_study

    add_study(slicer)
    window.ui.segmentButton.click()
    window.ui.editButton.click()
    return slicer.util.getModuleWidget("SegmentEditor").editor


@pytest.fixture
def probable(module, window):
    """The fake run also returns probabilities on request: 0.9 inside and 0.1 outside."""
    import numpy as np

    run = window.logic.inference.run
    window.choices.parameters.showProbabilities = True

    def with_probabilities(*arguments):
        result = run(*arguments)
        if window.logic.getParameterNode().showProbabilities:
            return replace(result, probabilities=np.stack([np.where(m, 0.9, 0.1) for m in result.masks.values()]))
        return result

    window.logic.inference.run = with_probabilities
    return window.choices.parameters
