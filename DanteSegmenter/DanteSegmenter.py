"""The DANTE segmenter in 3D Slicer: segments volumes of the scene into a segmentation of coded, nested segments.

Defines the module for Slicer and the names that Slicer and users look up here; all other code is in DanteSlicerLib.
Slicer imports this file at start-up, before torch is installed: nothing here imports torch, and the network runs in a
separate process.
"""

import sys

import slicer
from slicer.i18n import tr as _
from slicer.i18n import translate
from slicer.ScriptedLoadableModule import ScriptedLoadableModule

from DanteSlicerLib.logic import DanteSegmenterLogic
from DanteSlicerLib.sample_data import loadSamplePatient, registerSampleData
from DanteSlicerLib.self_test import DanteSegmenterTest
from DanteSlicerLib.window.window import Window

LIBRARIES = ("DanteSlicerLib", "DanteSegmenterLib")  # packages that Reload re-imports besides this file

__all__ = [
    "DanteSegmenter",
    "DanteSegmenterLogic",
    "DanteSegmenterTest",
    "DanteSegmenterWidget",
    "loadSamplePatient",
    "registerSampleData",
]


class DanteSegmenter(ScriptedLoadableModule):
    """The module's metadata for Slicer."""

    def __init__(self, parent):
        ScriptedLoadableModule.__init__(self, parent)
        self.parent.title = _("DANTE Segmenter")
        self.parent.categories = [translate("qSlicerAbstractCoreModule", "Segmentation")]
        self.parent.dependencies = ["Segmentations", "Volumes", "Tables"]
        self.parent.contributors = ["SlicerDANTE contributors"]
        self.parent.helpText = _(
            "Segments a lesion when its decisive scan is missing: brain tumours without the contrast T1, lung emboli "
            "without contrast CT. Choose the volumes and press Segment. For research, not for diagnosis."
        )
        self.parent.acknowledgementText = _(
            "Method: DANTE, AAAI 2026, doi:10.1609/aaai.v40i15.38305. Network and training recipe: nnU-Net "
            "(Isensee et al. 2021)."
        )
        slicer.app.connect("startupCompleted()", registerSampleData)


class DanteSegmenterWidget(Window):
    """The module's window; see DanteSlicerLib/window."""

    def onReload(self):
        """Re-import every file of the segmenter, not only this one."""
        for name in [name for name in sys.modules if name.partition(".")[0] in LIBRARIES]:
            del sys.modules[name]
        super().onReload()
