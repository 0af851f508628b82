"""Stand-in for the Segment Editor module: the real editor node and logic, without effects and tables."""

from __future__ import annotations

from typing import Any

import numpy as np
import slicer
from slicer.ScriptedLoadableModule import ScriptedLoadableModule, ScriptedLoadableModuleWidget
from vtkmodules.util.numpy_support import vtk_to_numpy


class SegmentEditor(ScriptedLoadableModule):
    """The module's metadata for Slicer."""


class MarginEffect:
    """Grows the selected segment. Not implemented: shrinking, options other than MarginSizeMm."""

    def __init__(self, editor: qMRMLSegmentEditorWidget) -> None:
        self._editor = editor
        self._parameters = {"MarginSizeMm": "3.0"}

    def setParameter(self, name: str, value: Any) -> None:
        self._parameters[name] = str(value)

    def self(self) -> MarginEffect:
        """The Python object behind the effect."""
        return self

    def onApply(self) -> None:
        from scipy.ndimage import binary_dilation

        editor = self._editor
        volume, segment = editor.sourceVolumeNode(), editor.mrmlSegmentEditorNode().GetSelectedSegmentID()
        mask = slicer.util.arrayFromSegmentBinaryLabelmap(editor.segmentationNode(), segment, volume) > 0
        voxels = max(1, round(float(self._parameters["MarginSizeMm"]) / min(volume.GetSpacing())))
        editor.stroke(binary_dilation(mask, iterations=voxels))


class qMRMLSegmentEditorWidget:
    """The editor: its choices are stored in a vtkMRMLSegmentEditorNode, whose overwrite mode is "all" as in Slicer.

    Not implemented: effects other than Margin, undo, segment table; `stroke` simulates painting with an effect.
    """

    def __init__(self) -> None:
        self._logic = slicer.vtkSlicerSegmentEditorLogic()
        self._logic.SetMRMLScene(slicer.mrmlScene)
        self._node: Any = None
        self._effect: MarginEffect | None = None

    def setActiveEffectByName(self, name: str) -> None:
        """ "" for none."""
        if name not in ("", "Margin"):
            raise LookupError(f"the stand-in has no effect '{name}'")
        self._effect = MarginEffect(self) if name else None

    def activeEffect(self) -> MarginEffect | None:
        return self._effect

    def mrmlSegmentEditorNode(self) -> Any:
        return self._node

    def setMRMLSegmentEditorNode(self, node: Any) -> None:
        self._node = node
        self._logic.SetSegmentEditorNode(node)

    def segmentationNode(self) -> Any:
        return self._node.GetSegmentationNode() if self._node else None

    def setSegmentationNode(self, node: Any) -> None:
        """Also selects the first segment."""
        self._logic.SetSegmentationNode(node)
        segmentation = node.GetSegmentation() if node else None
        if segmentation and segmentation.GetNumberOfSegments():
            self._node.SetSelectedSegmentID(segmentation.GetNthSegmentID(0))

    def sourceVolumeNode(self) -> Any:
        return self._node.GetSourceVolumeNode() if self._node else None

    def setSourceVolumeNode(self, node: Any) -> None:
        """Show the volume in the slice views where it is neither background nor foreground."""
        self._logic.SetSourceVolumeNode(node)
        if node is None:
            return
        for view in slicer.util.getNodesByClass("vtkMRMLSliceCompositeNode"):
            if node.GetID() not in (view.GetBackgroundVolumeID(), view.GetForegroundVolumeID()):
                view.SetBackgroundVolumeID(node.GetID())

    def stroke(self, voxels: Any, erase: bool = False) -> None:
        """Add voxels of the reference geometry (an index of an array K,J,I) to the selected segment, or remove them."""
        logic = self._logic
        logic.UpdateReferenceGeometryImage()
        logic.ResetModifierLabelmapToDefault()
        image = logic.GetModifierLabelmap()
        shape = image.GetDimensions()[::-1]
        array: np.ndarray = vtk_to_numpy(image.GetPointData().GetScalars()).reshape(shape)
        array[voxels] = 1
        image.Modified()
        logic.UpdateMaskLabelmap()
        mode = logic.ModificationModeRemove if erase else logic.ModificationModeAdd
        selected = self._node.GetSelectedSegmentID()
        logic.ModifySegmentByLabelmap(self._node.GetSegmentationNode(), selected, image, mode, False, False)


class SegmentEditorWidget(ScriptedLoadableModuleWidget):
    """The module's panel."""

    def setup(self) -> None:
        self.editor = qMRMLSegmentEditorWidget()
        self.selectParameterNode()

    def enter(self) -> None:
        self.selectParameterNode()

    def selectParameterNode(self) -> None:
        node = slicer.mrmlScene.GetSingletonNode("SegmentEditor", "vtkMRMLSegmentEditorNode")
        if node is None:
            node = slicer.mrmlScene.CreateNodeByClass("vtkMRMLSegmentEditorNode")
            node.UnRegister(None)  # the scene created it and passed on its ownership
            node.SetSingletonTag("SegmentEditor")
            node = slicer.mrmlScene.AddNode(node)
        self.editor.setMRMLSegmentEditorNode(node)
