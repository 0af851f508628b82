"""Nodes that left the scene leave the memory, too: a study has hundreds of megabytes of voxels."""

from __future__ import annotations

import gc
import weakref

from slicer_scene import delete
from slicer_window import add_study


def alive(nodes):
    """The names of nodes that something still refers to."""
    gc.collect()
    return [node().GetName() for node in nodes if node() is not None]


def test_deleted_result_is_released(slicer, window):
    add_study(slicer)
    window.ui.segmentButton.click()
    result = weakref.ref(window.choices.output())
    delete(slicer, window.choices.output())
    assert not alive([result])


def test_closed_scene_is_released_while_another_module_is_shown(slicer, window):
    nodes = [weakref.ref(node) for node in add_study(slicer).values()]
    window.ui.segmentButton.click()
    nodes.append(weakref.ref(window.choices.output()))
    window.parent.exit()
    slicer.mrmlScene.Clear(0)
    slicer.app.processEvents()
    assert not alive(nodes)
    window.parent.enter()
