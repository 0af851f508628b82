"""Displays a result over its volume, in 3D, and in the Segment Editor."""

from collections.abc import Iterator

import numpy as np
import slicer
from slicer import vtkMRMLScalarVolumeNode, vtkMRMLSegmentationNode

from DanteSegmenterLib.cases.modality_guess import guess_modality
from DanteSlicerLib.scene.overlays import (
    backgroundOf,
    hideOverlay,
    restoreOverlay,
    showInSlices,
    showPrepared,
    showsPrepared,
)
from DanteSlicerLib.scene.results import inputsOf, ourResults, referenceOf, resultReference
from DanteSlicerLib.scene.segments import closedSurface, otherSegments, ourSegments, segmentBox
from DanteSlicerLib.scene.studies import PROBABILITY_ATTRIBUTE, putBeside, studyOf, volumeNodes
from DanteSlicerLib.scene.volumes_table import TABLE_ROLE

SHOWS_LESIONS_BEST = ("flair",)  # modality ids to show if no view shows a volume of the study
MIN_VIEW_RADIUS_MM = 50.0  # minimum radius of the 3D view around a small lesion


def showResult(output: vtkMRMLSegmentationNode, reference: vtkMRMLScalarVolumeNode, show3D: bool) -> Iterator[None]:
    """Show a result over its volume, and in 3D if wanted, keeping the user's layout; a generator of short steps."""
    putBeside(output, reference)
    if output.GetNodeReference(TABLE_ROLE):
        putBeside(output.GetNodeReference(TABLE_ROLE), reference)
    showOnly(output)
    showStudyInSlices(inputsOf(output), reference)
    jumpTo(output)
    yield
    if show3D:
        yield from makeSurfaces(output)


def makeSurfaces(output: vtkMRMLSegmentationNode) -> Iterator[None]:
    """Create the surfaces segment by segment: Slicer would create all at once and block the window."""
    segmentation = output.GetSegmentation()
    closed = slicer.vtkSegmentationConverter.GetSegmentationClosedSurfaceRepresentationName()
    for segmentId in [segmentation.GetNthSegmentID(n) for n in range(segmentation.GetNumberOfSegments())]:
        segment = segmentation.GetSegment(segmentId)
        if segment is None or segment.GetRepresentation(closed) is not None:
            continue  # deleted between two steps, or already created by an edit
        surface = closedSurface(segmentation, segmentId)
        if surface is not None:
            segment.AddRepresentation(closed, surface)
        yield
    output.CreateClosedSurfaceRepresentation()  # reuses the surfaces above, and notifies the views
    yield


def showOnly(output: vtkMRMLSegmentationNode) -> None:
    """Show a result and hide this module's results for other volumes, which would cover this patient's images.

    Other segmentations stay visible. A hidden result is shown again by its eye icon or by choosing it in the window.
    """
    for other in ourResults():
        if resultReference(other) is not resultReference(output):
            setShown(other, False)
        elif other is not output:
            hideOverlay(other)  # another run's probabilities do not belong to this result
    setShown(output, True)


def setShown(output: vtkMRMLSegmentationNode, shown: bool) -> None:
    """Show or hide a result with its probabilities; in a node with other segments, only this module's segments."""
    if shown or not otherSegments(output):
        output.SetDisplayVisibility(shown)
    display = output.GetDisplayNode()
    if display is not None and otherSegments(output):
        for segmentId in ourSegments(output).values():
            display.SetSegmentVisibility(segmentId, shown)
    if shown:
        restoreOverlay(output)
    else:
        if showsPrepared(output):
            showPrepared(output, False)
        hideOverlay(output)


def fillOf(output: vtkMRMLSegmentationNode) -> float:
    """Opacity of a result's fill in the slices, 0 to 1."""
    display, ours = output.GetDisplayNode(), list(ourSegments(output).values())
    if display is None or not ours:
        return 0.0
    return display.GetOpacity2DFill() * display.GetSegmentOpacity2DFill(ours[-1])


def setFill(output: vtkMRMLSegmentationNode, fill: float) -> None:
    """Set the opacity of a result's fill; other segments in its node are left unchanged."""
    display = output.GetDisplayNode()
    if display is None:
        return
    if not otherSegments(output):
        display.SetOpacity2DFill(fill)
    for segmentId in ourSegments(output).values():
        ofNode = display.GetOpacity2DFill()
        display.SetSegmentOpacity2DFill(segmentId, min(fill / ofNode, 1.0) if ofNode else 1.0)


def showStudyInSlices(inputs: dict[str, vtkMRMLScalarVolumeNode], reference: vtkMRMLScalarVolumeNode) -> None:
    """Show the study in all slice views: a volume of it that is already shown, else FLAIR, else the reference.

    Args:
        inputs: the model's input volumes by modality id.
        reference: the volume whose grid the result uses.
    """
    views = slicer.util.getNodesByClass("vtkMRMLSliceCompositeNode")
    volumes = {view.GetID(): backgroundOf(view) for view in views}
    kept = {view: shown for view, shown in volumes.items() if shown is not None and isOfStudy(shown, inputs, reference)}
    if not kept:
        showInSlices(next((inputs[modality] for modality in SHOWS_LESIONS_BEST if modality in inputs), reference))
    for view in views:
        if kept and view.GetID() not in kept:
            view.SetBackgroundVolumeID(next(iter(kept.values())).GetID())


def isOfStudy(volume, inputs: dict[str, vtkMRMLScalarVolumeNode], reference: vtkMRMLScalarVolumeNode) -> bool:
    """Whether a volume belongs to the study: an input of the model, or beside it in the subject hierarchy."""
    if volume is reference or volume in inputs.values():
        return True
    study = studyOf(reference)[0]
    if studyOf(volume)[0] != study or volume.GetAttribute(PROBABILITY_ATTRIBUTE):
        return False
    if not study and not liesOver(volume, reference):
        return False
    # Volumes outside any study are taken for one patient's if no modality occurs twice.
    together = [guess_modality(node.GetName() or "") for node in volumeNodes() if studyOf(node)[0] == study]
    known = [guess for guess in together if guess]
    return bool(study) or len(known) == len(set(known))


def liesOver(volume, reference) -> bool:
    """Whether a volume's bounding box contains the centre of the reference's; otherwise views would show nothing."""
    boxes = []
    for node in (volume, reference):
        bounds = [0.0] * 6
        node.GetRASBounds(bounds)
        boxes.append(np.reshape(bounds, (3, 2)))
    (low, high), middle = boxes[0].T, boxes[1].mean(axis=1)
    return bool((low <= middle).all() and (middle <= high).all())


def firstFound(output: vtkMRMLSegmentationNode) -> str | None:
    """The first non-empty segment, outermost region first, or None."""
    ids = ourSegments(output).values()
    return next((segmentId for segmentId in ids if segmentBox(output, segmentId)[0].size), None)


def jumpTo(output: vtkMRMLSegmentationNode) -> None:
    """Centre the slice views on the first non-empty region."""
    segmentId = firstFound(output)
    if segmentId is not None:
        center = output.GetSegmentCenterRAS(segmentId)
        slicer.vtkMRMLSliceNode.JumpAllSlices(slicer.mrmlScene, *center, slicer.vtkMRMLSliceNode.OffsetJumpSlice)


def centre3D(output: vtkMRMLSegmentationNode) -> bool:
    """Centre every 3D view on a result, keeping the view direction; returns False if the result is empty."""
    segmentId = firstFound(output)
    if segmentId is None:
        return False
    center = np.array(output.GetSegmentCenterRAS(segmentId))
    spacing = output.GetBinaryLabelmapInternalRepresentation(segmentId).GetSpacing()[::-1]
    size = np.multiply(segmentBox(output, segmentId)[0].shape, spacing)
    radius = max(np.linalg.norm(size) / 2, MIN_VIEW_RADIUS_MM)
    for camera in slicer.util.getNodesByClass("vtkMRMLCameraNode"):
        direction = np.subtract(camera.GetPosition(), camera.GetFocalPoint())
        distance = radius / np.sin(np.radians(camera.GetViewAngle() / 2))
        camera.SetFocalPoint(*center)
        camera.SetPosition(*(center + direction * distance / np.linalg.norm(direction)))
        camera.SetParallelScale(radius)
        camera.ResetClippingRange()
    return True


def openEditor(output: vtkMRMLSegmentationNode) -> None:
    """Open a result in Slicer's Segment Editor, set up so that editing a nested segment erases no other segment."""
    if slicer.util.mainWindow() is not None:
        slicer.util.selectModule("SegmentEditor")
    editor = slicer.util.getModuleWidget("SegmentEditor").editor
    editor.setSegmentationNode(output)
    editor.setSourceVolumeNode(readVolume(output) or referenceOf(output))
    choices = editor.mrmlSegmentEditorNode()
    choices.SetOverwriteMode(slicer.vtkMRMLSegmentEditorNode.OverwriteNone)  # the editor's default is "all"
    choices.SetMaskMode(slicer.vtkMRMLSegmentationNode.EditAllowedEverywhere)
    choices.SetSourceVolumeIntensityMask(False)
    ours = list(ourSegments(output).values())
    if ours:
        choices.SetSelectedSegmentID(ours[0])


def readVolume(output: vtkMRMLSegmentationNode) -> vtkMRMLScalarVolumeNode | None:
    """The result's input that is shown in the slices: the editor would otherwise switch to another volume."""
    views = slicer.util.getNodesByClass("vtkMRMLSliceCompositeNode")
    volumes = [backgroundOf(view) for view in views]
    return next((volume for volume in volumes if volume in inputsOf(output).values()), None)
