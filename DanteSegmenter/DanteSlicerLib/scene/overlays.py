"""The content of the slice views: a background volume, and overlays of probabilities or of *Prepare*'s output."""

import json
from collections.abc import Iterator

import numpy as np
import slicer
import vtk
from slicer import vtkMRMLScalarVolumeNode, vtkMRMLSegmentationNode
from slicer.i18n import tr as _

from DanteSegmenterLib.model_folder import Region
from DanteSegmenterLib.result import Result
from DanteSlicerLib.foreign_texts import nodeName
from DanteSlicerLib.scene.read_nodes import worldIjkToRas
from DanteSlicerLib.scene.results import inputsOf, resultReference, rolesOf
from DanteSlicerLib.scene.studies import ALIGNED_ATTRIBUTE, PROBABILITY_ATTRIBUTE, putBeside

ALIGNMENT_ATTRIBUTE = "DanteSegmenter.Alignments"  # on a result: the alignment of each volume found by `Prepare`
ALIGNED_ROLE = "DanteSegmenter.Aligned."
BRAIN_ROLE = "DanteSegmenter.Brain"
BRAIN_COLOR = (0.2, 0.8, 0.9)
OVERLAY_ATTRIBUTE = "DanteSegmenter.Overlay"  # the probability overlay that was visible when the result was hidden
PROBABILITY_ROLE = "DanteSegmenter.Probability."
COLD_TO_HOT = "vtkMRMLColorTableNodeFileColdToHotRainbow.txt"


def writeProbabilities(
    output: vtkMRMLSegmentationNode, reference: vtkMRMLScalarVolumeNode, result: Result
) -> Iterator[None]:
    """Write a probability volume per region and overlay the last region's on the slices; no-op without them."""
    if result.probabilities is None:
        return
    for region, probability in zip(result.spec.regions, result.probabilities):
        role = f"{PROBABILITY_ROLE}{region.id}"
        node = output.GetNodeReference(role)
        if node is None:
            name = f"{nodeName(output)} {region.name} probability"
            node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", name)
            output.SetNodeReferenceID(role, node.GetID())
            node.SetAttribute(PROBABILITY_ATTRIBUTE, region.id)
        slicer.util.updateVolumeFromArray(node, probability.astype(np.float32))
        matrix = vtk.vtkMatrix4x4()
        reference.GetIJKToRASMatrix(matrix)
        node.SetIJKToRASMatrix(matrix)
        node.SetAndObserveTransformNodeID(reference.GetTransformNodeID())
        node.CreateDefaultDisplayNodes()
        display = node.GetDisplayNode()
        display.SetAndObserveColorNodeID(COLD_TO_HOT)  # blue to red; "HotToCold" maps 0 to red and 1 to blue
        display.SetAutoWindowLevel(False)
        display.SetWindowLevelMinMax(0, 1)
        display.SetApplyThreshold(True)
        display.SetThreshold(0.05, 1)
        addLegend(node, region)
        putBeside(node, reference)
        yield
    showAsForeground(node)


def addLegend(volume: vtkMRMLScalarVolumeNode, region: Region) -> None:
    """Add a colour bar to the slices that show these probabilities, titled with the region."""
    legend = slicer.modules.colors.logic().AddDefaultColorLegendDisplayNode(volume)
    legend.SetTitleText(_("Probability of\n{region}").format(region=region.name))
    legend.SetLabelFormat("%.2f")
    legend.SetVisibility(True)


def removeProbabilities(output: vtkMRMLSegmentationNode) -> None:
    """Remove a result's probability volumes from the scene: a new result makes them stale."""
    for role in probabilityRoles(output):
        volume = output.GetNodeReference(role)
        output.SetNodeReferenceID(role, None)
        if volume is not None:
            removeWithDisplayAndStorage(volume)


def removeWithDisplayAndStorage(displayed) -> None:
    """Remove a node together with its display and storage nodes."""
    displays = [displayed.GetNthDisplayNode(n) for n in range(displayed.GetNumberOfDisplayNodes())]
    for node in (displayed, displayed.GetStorageNode(), *displays):
        if node is not None:
            slicer.mrmlScene.RemoveNode(node)


def writePrepared(
    output: vtkMRMLSegmentationNode, reference: vtkMRMLScalarVolumeNode, result: Result
) -> Iterator[None]:
    """Store the alignments on the result and add the brain mask, hidden; replaces those of an earlier run."""
    removePrepared(output)
    brain = result.brain
    if brain is None:
        return
    matrices = {modality: np.ravel(matrix).tolist() for modality, matrix in result.alignments.items()}
    output.SetAttribute(ALIGNMENT_ATTRIBUTE, json.dumps(matrices))
    name = slicer.mrmlScene.GenerateUniqueName(f"{nodeName(reference)} brain")
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", name)
    node.CreateDefaultDisplayNodes()
    node.SetDisplayVisibility(False)
    node.SetAndObserveTransformNodeID(reference.GetTransformNodeID())
    node.SetReferenceImageGeometryParameterFromVolumeNode(reference)
    segmentId = node.GetSegmentation().AddEmptySegment("brain", _("Brain"), BRAIN_COLOR)
    node.GetDisplayNode().SetSegmentOpacity2DFill(segmentId, 0.0)  # outline only, so that the tissue stays visible
    slicer.util.updateSegmentBinaryLabelmapFromArray(brain, node, segmentId, reference)
    output.SetNodeReferenceID(BRAIN_ROLE, node.GetID())
    putBeside(node, reference)
    yield


def removePrepared(output: vtkMRMLSegmentationNode) -> None:
    """Remove the prepared data of an earlier run from the scene."""
    for role in (*rolesOf(output, ALIGNED_ROLE), *rolesOf(output, BRAIN_ROLE)):
        node = output.GetNodeReference(role)
        output.SetNodeReferenceID(role, None)
        if node is not None:
            removeWithDisplayAndStorage(node)
    output.RemoveAttribute(ALIGNMENT_ATTRIBUTE)


def wasPrepared(output: vtkMRMLSegmentationNode | None) -> bool:
    return output is not None and output.GetNodeReference(BRAIN_ROLE) is not None


def showsPrepared(output: vtkMRMLSegmentationNode | None) -> bool:
    brain = output.GetNodeReference(BRAIN_ROLE) if output is not None else None
    return brain is not None and bool(brain.GetDisplayVisibility())


def showPrepared(output: vtkMRMLSegmentationNode, shown: bool) -> None:
    """Overlay an aligned volume and the brain's outline on the reference, or remove both overlays.

    The aligned copies stay in the scene and can be chosen in the slice views.
    """
    output.GetNodeReference(BRAIN_ROLE).SetDisplayVisibility(shown)
    if shown:
        hideOverlay(output)
        if resultReference(output) is not None:
            showInSlices(resultReference(output))
        copies = alignedCopies(output)
        if copies:
            showAsForeground(copies.get("flair") or next(iter(copies.values())))
        return
    ids = [output.GetNodeReferenceID(role) for role in rolesOf(output, ALIGNED_ROLE)]
    for view in slicer.util.getNodesByClass("vtkMRMLSliceCompositeNode"):
        if view.GetForegroundVolumeID() in ids:
            view.SetForegroundVolumeID(None)
    restoreOverlay(output)


def alignedCopies(output: vtkMRMLSegmentationNode) -> dict[str, vtkMRMLScalarVolumeNode]:
    """Copies of the inputs in their aligned positions, by modality; created on first use."""
    copies, inputs = {}, inputsOf(output)
    for modality, numbers in json.loads(output.GetAttribute(ALIGNMENT_ATTRIBUTE) or "{}").items():
        node, source = output.GetNodeReference(ALIGNED_ROLE + modality), inputs.get(modality)
        if node is None and source is not None:
            matrix = np.reshape(numbers, (4, 4)) @ worldIjkToRas(source)
            name = _("{name} aligned").format(name=nodeName(source))
            node = slicer.util.addVolumeFromArray(slicer.util.arrayFromVolume(source).copy(), matrix, name)
            node.SetAttribute(ALIGNED_ATTRIBUTE, modality)
            output.SetNodeReferenceID(ALIGNED_ROLE + modality, node.GetID())
            putBeside(node, source)
        if node is not None:
            copies[modality] = node
    return copies


def hideOverlay(output: vtkMRMLSegmentationNode) -> None:
    """Remove a result's probability overlay from the slices, and remember which it was."""
    roles = {output.GetNodeReferenceID(role): role for role in probabilityRoles(output)}
    for view in slicer.util.getNodesByClass("vtkMRMLSliceCompositeNode"):
        role = roles.get(view.GetForegroundVolumeID())
        if role:
            output.SetAttribute(OVERLAY_ATTRIBUTE, role)
            view.SetForegroundVolumeID(None)


def restoreOverlay(output: vtkMRMLSegmentationNode) -> None:
    """Restore the probability overlay that `hideOverlay` removed."""
    role = output.GetAttribute(OVERLAY_ATTRIBUTE)
    output.RemoveAttribute(OVERLAY_ATTRIBUTE)
    node = output.GetNodeReference(role) if role else None
    if node is not None:
        showAsForeground(node)


def showAsForeground(volume: vtkMRMLScalarVolumeNode) -> None:
    """Make a volume the foreground of all slice views, at the user's opacity, or at 0.5 if that is 0."""
    for view in slicer.util.getNodesByClass("vtkMRMLSliceCompositeNode"):
        view.SetForegroundVolumeID(volume.GetID())
        if not view.GetForegroundOpacity():
            view.SetForegroundOpacity(0.5)


def probabilityRoles(output: vtkMRMLSegmentationNode) -> list[str]:
    """The roles of the node references from a result to its probability volumes."""
    return rolesOf(output, PROBABILITY_ROLE)


def backgroundOf(view) -> vtkMRMLScalarVolumeNode | None:
    volumeId = view.GetBackgroundVolumeID()
    return slicer.mrmlScene.GetNodeByID(volumeId) if volumeId else None


def showInSlices(volume: vtkMRMLScalarVolumeNode) -> None:
    """Make a volume the background of all slice views; fit the views only if it was not in all of them already."""
    views = slicer.util.getNodesByClass("vtkMRMLSliceCompositeNode")
    shown = all(view.GetBackgroundVolumeID() == volume.GetID() for view in views)
    if not shown:
        slicer.util.setSliceViewerLayers(background=volume, fit=True)
