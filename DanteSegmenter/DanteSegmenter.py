"""DANTE's segmenter in 3D Slicer: volumes of the scene in, a segmentation node with coded, nested segments out.

The only file here that knows Slicer. From top to bottom: module, sample data, parameter node, dependencies, the seam
between nodes and `Volume`, what is written into the scene, logic, widget, self-test. Slicer imports this file at
start-up, before torch is installed: nothing here imports torch, the network runs in a process of its own.
"""

import csv
import json
import logging
import tempfile
import time
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from enum import Enum
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Annotated, NamedTuple

import numpy as np
import qt
import slicer
import vtk
import vtk.util.numpy_support
from slicer import vtkMRMLScalarVolumeNode, vtkMRMLSegmentationNode
from slicer.i18n import tr as _
from slicer.parameterNodeWrapper import WithinRange, parameterNodeWrapper
from slicer.ScriptedLoadableModule import (
    ScriptedLoadableModule,
    ScriptedLoadableModuleLogic,
    ScriptedLoadableModuleTest,
    ScriptedLoadableModuleWidget,
)
from slicer.util import VTKObservationMixin

from DanteSegmenterLib import requirements
from DanteSegmenterLib.batch.process import BatchProcess
from DanteSegmenterLib.cases.modality_guess import assign, guess_modality, same_patient
from DanteSegmenterLib.errors import Cancelled, DanteError, InputError, ResourceError
from DanteSegmenterLib.model_folder import Modality, ModelSpec, Region, check_can_prepare, choose_pathway
from DanteSegmenterLib.model_folder.about import about
from DanteSegmenterLib.model_folder.library import ModelEntry, choose_model, find_models
from DanteSegmenterLib.model_folder.zip_file import unpack_model
from DanteSegmenterLib.result.regions import shows_whole_head
from DanteSegmenterLib.volume import Volume
from DanteSegmenterLib.worker.client import WorkerClient

# Attributes by which our nodes and segments are known again, in this session and in a reopened scene.
MODEL_ATTRIBUTE = "DanteSegmenter.Model"
REPORT_ATTRIBUTE = "DanteSegmenter.Report"
REGION_TAG = "DanteSegmenter.Region"
ALIGNMENT_ATTRIBUTE = "DanteSegmenter.Alignments"  # of a result: what `Prepare` did to each volume
ALIGNED_ROLE = "DanteSegmenter.Aligned."
ALIGNED_ATTRIBUTE = "DanteSegmenter.AlignedCopy"
BRAIN_ROLE = "DanteSegmenter.Brain"
BRAIN_COLOR = (0.2, 0.8, 0.9)
SAMPLE_ATTRIBUTE = "DanteSegmenter.Sample"  # of the synthetic patient's volumes: their modality
RESULT_ROLE = "DanteSegmenter.Reference"  # the volume a result was made for
OVERLAY_ATTRIBUTE = "DanteSegmenter.Overlay"  # which probabilities lay over the slices when the result was hidden
FINGERPRINT_TAG = "DanteSegmenter.Mask"  # of a segment as the model made it
TABLE_ROLE = "DanteSegmenter.Table"
INPUT_ROLE = "DanteSegmenter.Input."
MASK_ROLE = "DanteSegmenter.BrainMask"
PROBABILITY_ROLE = "DanteSegmenter.Probability."
PROBABILITY_ATTRIBUTE = "DanteSegmenter.Probability"  # of a volume: the id of its region
COLD_TO_HOT = "vtkMRMLColorTableNodeFileColdToHotRainbow.txt"
NUMBER_COLUMNS = ("Volume [mL]", "Volume low [mL]", "Volume high [mL]", "Mean probability")
DEEPBET = "deepbet>=1.0"  # extracts the brain; needed for raw studies only
MODEL_VOLUME_COLUMN, EDITED_COLUMN, REGION_COLUMN = "Model volume [mL]", "Edited", "Region"
MODEL_COLUMN = 4  # of the window's table: the model's own volume, shown beside an edited one
EDIT_WAIT_MS = 400  # after the last stroke of an edit, before its volumes are counted
SHOWS_LESIONS_BEST = ("flair",)  # ids of modalities, for views in which nothing of the study was read
MIN_VIEW_RADIUS_MM = 50.0  # of what the 3D view shows around a small lesion
POLL_MS = 10  # how often the window looks after a run
PAUSE_MS = 1  # between two steps of a result into the scene: whatever waits for the window has its turn
ERROR_COLOR = "#c0392b"
WARNING_STYLE = "#warningFrame { background: #fff3cd; border: 1px solid #d39e00; border-radius: 3px; }"
WARNING_TEXT_STYLE = "color: #664d03;"  # readable on that ground, also where Slicer is dark
WARNING_PREFIX = "WARNING: "  # what a note begins with that speaks against the result
ICON_SIZE = 16
ROW_HEIGHT = 24
ADDED_MODELS_SETTING = "DanteSegmenter/AddedModels"
BATCH_POLL_MS = 300
BATCH_PACKAGES = ["pynrrd>=1.0", "matplotlib>=3.8"]  # segmentation files and the contact sheet


class DanteSegmenter(ScriptedLoadableModule):
    """The module as Slicer lists it."""

    def __init__(self, parent):
        ScriptedLoadableModule.__init__(self, parent)
        self.parent.title = _("DANTE Segmenter")
        self.parent.categories = [_("Segmentation")]
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


#
# Sample data: a synthetic patient, made when asked for; nothing is downloaded or shipped
#

SAMPLE_CATEGORY = "DANTE"
SAMPLE_NAME = "DanteBrainMR"
SAMPLE_MODALITIES = ("t1", "t1ce", "t2", "flair")


def registerSampleData():
    """List the synthetic patient in the Sample Data module."""
    import SampleData

    names = [f"{SAMPLE_NAME} {modality}" for modality in SAMPLE_MODALITIES]
    SampleData.SampleDataLogic.registerCustomSampleDataSource(
        category=SAMPLE_CATEGORY,
        sampleName=SAMPLE_NAME,
        thumbnailFileName=str(Path(__file__).parent / "Resources" / "Icons" / "DanteSegmenter.png"),
        # Nothing lies behind these: the button calls the custom downloader, which computes the volumes.
        uris=[f"dante-sample:{modality}" for modality in SAMPLE_MODALITIES],
        fileNames=[f"{name}.nrrd" for name in names],
        nodeNames=names,
        customDownloader=loadSamplePatient,
    )


def loadSamplePatient(source=None, seed: int = 0, spacingMm: float = 1.0) -> dict[str, vtkMRMLScalarVolumeNode]:
    """Make a synthetic patient with a brain tumour and add its four MR volumes to the scene.

    Args:
        source: what the Sample Data module passes; not used.
        seed: another number is another patient.
        spacingMm: of the voxels.

    Returns:
        The volume nodes by modality id.
    """
    from DanteSegmenterLib.synthetic.sample import brain_mr

    patient = brain_mr(seed=seed, spacing_mm=spacingMm)
    nodes = {
        modality: slicer.util.addVolumeFromArray(volume.array, volume.ijk_to_ras, f"{SAMPLE_NAME} {modality}")
        for modality, volume in patient.volumes.items()
    }
    for modality, node in nodes.items():
        node.SetAttribute(SAMPLE_ATTRIBUTE, modality)
    makeStudy(_("Synthetic patient"), _("Brain MR"), list(nodes.values()))
    showInSlices(nodes.get("flair") or next(iter(nodes.values())))
    return nodes


#
# Parameter node
#


class Device(Enum):
    """Where to compute, as the window offers it."""

    AUTO = "auto"
    CPU = "cpu"
    CUDA = "cuda"
    MPS = "mps"

    def label(self):
        return {
            Device.AUTO: _("Automatic"),
            Device.CPU: _("Processor (CPU)"),
            Device.CUDA: _("Graphics card (CUDA)"),
            Device.MPS: _("Graphics (Apple)"),
        }[self]


def inWindowWords(message: str) -> str:
    """What the library says, with the devices called as the window calls them."""
    for device in Device:
        message = message.replace(f"'{device.value}'", f"'{device.label()}'")
    return message


def deviceName(device: str) -> str:
    """Such as "Processor (CPU), bfloat16" of "cpu (bfloat16)"; a device the window does not offer stays as it is."""
    kind, _space, numbers = device.partition(" ")
    names = {known.value: known.label() for known in Device}
    return ", ".join([names[kind], *([numbers.strip("()")] if numbers else [])]) if kind in names else device


@parameterNodeWrapper
class DanteSegmenterParameterNode:
    """The choices in the window; saved with the scene.

    model: key of a model, as `model_list` gives it; empty for none chosen yet.
    device: where to compute.
    show3D: whether surfaces are made.
    showProbabilities: whether volumes of probabilities are added and laid over the slices.
    mirror: whether the network's answers for mirrored images are averaged.
    prepare: whether the volumes are aligned and the brain is extracted first, as raw studies need it.
    outputSegmentation: where the result goes; None for a new node, or our last one for the same volume.
    fill: how much the segments' colour covers the tissue in the slices; 0 for outlines alone.
    centred3D: whether the 3D view was centred on a result in this scene; from then on the camera is the user's.

    Which modalities there are depends on the model, so the input volumes are node references named after them.
    """

    model: str
    device: Device = Device.AUTO
    show3D: bool = True
    showProbabilities: bool = False
    mirror: bool = False
    prepare: bool = False
    outputSegmentation: vtkMRMLSegmentationNode
    fill: Annotated[float, WithinRange(0.0, 1.0)] = 0.1
    centred3D: bool = False

    def inputVolume(self, modality: str) -> vtkMRMLScalarVolumeNode | None:
        """The volume chosen for a modality id."""
        return self.parameterNode.GetNodeReference(INPUT_ROLE + modality)

    def setInputVolume(self, modality: str, node: vtkMRMLScalarVolumeNode | None) -> None:
        self.parameterNode.SetNodeReferenceID(INPUT_ROLE + modality, node.GetID() if node else None)

    def brainMask(self) -> slicer.vtkMRMLNode | None:
        """Segmentation or label map that `prepare` uses instead of finding the brain."""
        return self.parameterNode.GetNodeReference(MASK_ROLE)

    def setBrainMask(self, node: slicer.vtkMRMLNode | None) -> None:
        self.parameterNode.SetNodeReferenceID(MASK_ROLE, node.GetID() if node else None)


#
# Dependencies: installed on the first click that needs them, never at start-up
#


def ensureDependencies() -> None:
    """Have torch and the few packages beside it, asking before anything is installed.

    Raises:
        ResourceError: something is missing and was not installed; the message says what to do.
    """
    ensureTorch()
    ensurePackages(requirements.read_requirements(Path(__file__).parent / "Resources" / "requirements.txt"))


def ensureTorch() -> None:
    """Have torch, through the PyTorch extension, which picks the build that fits the graphics driver."""
    if requirements.is_installed(requirements.TORCH):
        return
    version = requirements.installed_version("torch")
    if version:
        raise ResourceError(
            _(
                "PyTorch {version} is too old, {wanted} is needed. Uninstall it in the module 'PyTorch Utils', restart "
                "Slicer and press Segment again."
            ).format(version=version, wanted=requirements.TORCH)
        )
    try:
        import PyTorchUtils
    except ImportError:
        raise ResourceError(
            _(
                "PyTorch is needed to segment and is not installed. Install the extension 'PyTorch' in the Extensions "
                "Manager, restart Slicer and press Segment again. Without internet, with a folder of downloaded wheels "
                "run: PythonSlicer -m pip install --no-index --find-links FOLDER {torch}"
            ).format(torch=forShell([requirements.TORCH]))
        ) from None
    wanted = requirements.TORCH.removeprefix("torch")
    if PyTorchUtils.PyTorchUtilsLogic().installTorch(askConfirmation=True, torchVersionRequirement=wanted) is None:
        raise ResourceError(_("PyTorch was not installed; segmenting needs it. Everything else here works without."))


def ensurePackages(wanted: list[str]) -> None:
    """Have the packages beside torch."""
    missing = requirements.missing(wanted)
    if not missing:
        return
    reason = ""
    try:
        installPackages(missing)
    except Exception as error:  # pip's, Slicer's or the user's refusal: all of them end here, with their reason
        reason = str(error)
        logging.exception("DANTE: packages were not installed")
    still = requirements.missing(wanted)
    if still:
        raise ResourceError(
            _(
                "Not installed: {missing}. Segmenting needs it. {reason} To install it by hand, behind a proxy or from "
                "a folder of wheels, run: PythonSlicer -m pip install {quoted}"
            ).format(missing=" ".join(still), reason=asSentence(reason), quoted=forShell(still))
        )


def forShell(wanted: list[str]) -> str:
    """Requirements as every shell takes them: without the quotes `>=1.0` would write into a file called `=1.0`."""
    return " ".join(f'"{requirement}"' for requirement in wanted)


def asSentence(text: str) -> str:
    """A text of somebody else's with the full stop that it may lack."""
    text = text.strip()
    return text if not text or text.endswith((".", "!", "?")) else f"{text}."


def installPackages(missing: list[str]) -> None:
    """Install with Slicer's own means: the newest has `slicer.packaging`, which asks and shows progress itself."""
    with tempfile.TemporaryDirectory() as folder:
        constraints = Path(folder) / "constraints.txt"
        constraints.write_text(requirements.constraints(("torch", "numpy")), encoding="utf-8")
        if find_spec("slicer.packaging"):
            from slicer import packaging

            packaging.pip_ensure(missing, constraints=str(constraints), requester="DANTE")
            return
        question = _("To segment, these small Python packages will be installed into Slicer: {missing}.")
        if slicer.util.confirmOkCancelDisplay(question.format(missing=", ".join(missing))):
            slicer.util.pip_install(["--constraint", str(constraints), *missing])


#
# The seam: nodes <-> Volume
#


def volumeFromNode(node: vtkMRMLScalarVolumeNode) -> Volume:
    """A copy of a volume node in world space, under the node's name.

    Raises:
        InputError: no volume node, no image, several components, or a non-linear transform above it.
    """
    if not isinstance(node, slicer.vtkMRMLVolumeNode):
        raise InputError(f"a volume node is needed, got {node!r}.")
    name, image = node.GetName(), node.GetImageData()
    if image is None or image.GetPointData().GetScalars() is None:
        raise InputError(f"'{name}' holds no image. Load it again or choose another volume.")
    if image.GetNumberOfScalarComponents() != 1:
        raise InputError(
            f"'{name}' has {image.GetNumberOfScalarComponents()} values per voxel (a colour or vector image); a scalar "
            "volume is needed. Convert it with the module 'Vector to Scalar Volume'."
        )
    return Volume(slicer.util.arrayFromVolume(node).copy(), worldIjkToRas(node), name)


def maskFromNode(node, reference: vtkMRMLScalarVolumeNode) -> Volume:
    """A brain mask as uint8: all segments of a segmentation on the reference's grid, or a label map on its own.

    Raises:
        InputError: nothing is marked.
    """
    if node.IsA("vtkMRMLSegmentationNode"):
        segmentation = node.GetSegmentation()
        ids = [segmentation.GetNthSegmentID(n) for n in range(segmentation.GetNumberOfSegments())]
        marked = [slicer.util.arrayFromSegmentBinaryLabelmap(node, segmentId, reference) > 0 for segmentId in ids]
        grid = volumeFromNode(reference)
        mask = grid.with_array(np.any(marked, axis=0) if marked else np.zeros(grid.shape, bool), node.GetName())
    else:
        grid = volumeFromNode(node)
        mask = grid.with_array(grid.array > 0, node.GetName())
    if not mask.array.any():
        raise InputError(f"the brain mask '{node.GetName()}' is empty; choose another, or none.")
    return mask.with_array(mask.array.astype(np.uint8), mask.name)


def worldIjkToRas(node: vtkMRMLScalarVolumeNode) -> np.ndarray:
    """4x4 matrix from voxel indices (i, j, k, 1) to world RAS mm, linear parent transforms included."""
    matrix = vtk.vtkMatrix4x4()
    node.GetIJKToRASMatrix(matrix)
    transform = node.GetParentTransformNode()
    if transform is not None:
        if not transform.IsTransformToWorldLinear():
            raise InputError(
                f"'{node.GetName()}' lies under the non-linear transform '{transform.GetName()}'. Harden the transform "
                "(Transforms module) or take the volume out of it."
            )
        toWorld = vtk.vtkMatrix4x4()
        transform.GetMatrixTransformToWorld(toWorld)
        vtk.vtkMatrix4x4.Multiply4x4(toWorld, matrix, matrix)
    return np.array([[matrix.GetElement(row, column) for column in range(4)] for row in range(4)])


#
# What is written into the scene
#


def modelName(spec: ModelSpec) -> str:
    return f"{spec.name} {spec.version}"


def referenceOf(output: vtkMRMLSegmentationNode) -> vtkMRMLScalarVolumeNode | None:
    """The volume whose grid a segmentation was made on."""
    return output.GetNodeReference(slicer.vtkMRMLSegmentationNode.GetReferenceImageGeometryReferenceRole())


def resultReference(output: vtkMRMLSegmentationNode) -> vtkMRMLScalarVolumeNode | None:
    """The volume that our result in `output` was made for; the user's node that holds it may have another grid."""
    return output.GetNodeReference(RESULT_ROLE) or referenceOf(output)


def ourResults() -> list[vtkMRMLSegmentationNode]:
    """The scene's segmentations that hold a result of this module."""
    nodes = slicer.util.getNodesByClass("vtkMRMLSegmentationNode")
    return [node for node in nodes if node.GetAttribute(MODEL_ATTRIBUTE)]


def previousResults(reference: vtkMRMLScalarVolumeNode, spec: ModelSpec) -> list[vtkMRMLSegmentationNode]:
    """Our results of this model for this volume, the last one first."""
    ours = [node for node in ourResults() if node.GetAttribute(MODEL_ATTRIBUTE) == modelName(spec)]
    return [node for node in reversed(ours) if resultReference(node) is reference]


def previousResult(reference: vtkMRMLScalarVolumeNode, spec: ModelSpec) -> vtkMRMLSegmentationNode | None:
    """Our last result of this model for this volume."""
    return next(iter(previousResults(reference, spec)), None)


def replaceableResult(reference: vtkMRMLScalarVolumeNode, spec: ModelSpec) -> vtkMRMLSegmentationNode | None:
    """Our last result of this model for this volume in which nothing is the user's own work."""
    return next((node for node in previousResults(reference, spec) if not usersWork(node)), None)


def rolesOf(output: vtkMRMLSegmentationNode, prefix: str) -> list[str]:
    """The names of those references from a result to other nodes that begin with `prefix`."""
    roles = [output.GetNthNodeReferenceRole(n) for n in range(output.GetNumberOfNodeReferenceRoles())]
    return [role for role in roles if role.startswith(prefix) and output.GetNodeReferenceID(role)]


def rememberInputs(output: vtkMRMLSegmentationNode, inputs: dict[str, vtkMRMLScalarVolumeNode]) -> None:
    """Let a result know the volumes it was made from, so that choosing it can bring them back."""
    for role in rolesOf(output, INPUT_ROLE):
        output.SetNodeReferenceID(role, None)
    for modality, node in inputs.items():
        if slicer.mrmlScene.IsNodePresent(node):  # not deleted during the run
            output.SetNodeReferenceID(INPUT_ROLE + modality, node.GetID())


def inputsOf(output: vtkMRMLSegmentationNode) -> dict[str, vtkMRMLScalarVolumeNode]:
    """The volumes a result was made from, by modality id; those that are still in the scene."""
    nodes = {role.removeprefix(INPUT_ROLE): output.GetNodeReference(role) for role in rolesOf(output, INPUT_ROLE)}
    return {modality: node for modality, node in nodes.items() if node is not None}


def newResult(reference: vtkMRMLScalarVolumeNode) -> vtkMRMLSegmentationNode:
    name = slicer.mrmlScene.GenerateUniqueName(f"{reference.GetName()} DANTE")
    return slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", name)


def checkOutput(output: vtkMRMLSegmentationNode, reference: vtkMRMLScalarVolumeNode) -> None:
    """Refuse a node whose other segments would move if the result were put into it."""
    if output.GetParentTransformNode() is not reference.GetParentTransformNode() and otherSegments(output):
        raise InputError(
            f"'{output.GetName()}' holds other segments and lies under another transform than '{reference.GetName()}'. "
            "Choose another output segmentation, or give both the same transform."
        )


def ourSegments(output: vtkMRMLSegmentationNode) -> dict[str, str]:
    """Region id -> segment id, of the segments that this module made."""
    segmentation = output.GetSegmentation()
    ids = [segmentation.GetNthSegmentID(n) for n in range(segmentation.GetNumberOfSegments())]
    text = vtk.reference("")
    return {
        str(text): segment_id for segment_id in ids if segmentation.GetSegment(segment_id).GetTag(REGION_TAG, text)
    }  # fmt: skip


def usersWork(output: vtkMRMLSegmentationNode) -> str:
    """What a node holds that this module did not make, in sentences for the user; empty if there is nothing."""
    segmentation, ours = output.GetSegmentation(), set(ourSegments(output).values())
    ids = [segmentation.GetNthSegmentID(n) for n in range(segmentation.GetNumberOfSegments())]
    names = {segmentId: f"'{segmentation.GetSegment(segmentId).GetName()}'" for segmentId in ids}
    others = [names[segmentId] for segmentId in ids if segmentId not in ours]
    corrected = [names[segmentId] for segmentId in ids if segmentId in ours and isEdited(output, segmentId)]
    sentences = []
    if others:
        text = _(
            "'{name}' holds {segments}, which this module did not make; they would stay, and the result beside them."
        )
        sentences.append(text.format(name=output.GetName(), segments=", ".join(others)))
    if corrected:
        text = _("{segments} in '{name}' was corrected by hand; the result would replace it.")
        sentences.append(text.format(name=output.GetName(), segments=", ".join(corrected)))
    return " ".join(sentences)


def otherSegments(output: vtkMRMLSegmentationNode) -> bool:
    return output.GetSegmentation().GetNumberOfSegments() > len(ourSegments(output))


def writeSegmentation(
    output: vtkMRMLSegmentationNode, reference: vtkMRMLScalarVolumeNode, result
) -> Iterator[None]:  # fmt: skip
    """Put the result's regions into `output` as overlapping segments, replacing only those this module made.

    A generator: between its steps, of at most a region each, the application may look after its window.

    Args:
        output: any segmentation node; segments of others in it stay as they are.
        reference: the volume on whose grid the result is.
        result: `worker_client.RunResult` or `inference.Segmentation`.
    """
    spec = result.spec
    model = modelName(spec)
    with slicer.util.NodeModify(output):
        output.CreateDefaultDisplayNodes()
        if not otherSegments(output):
            output.SetAndObserveTransformNodeID(reference.GetTransformNodeID())
            output.SetReferenceImageGeometryParameterFromVolumeNode(reference)
        if output.GetAttribute(MODEL_ATTRIBUTE) != model:
            removeSegments(output, ourSegments(output).values())
        output.SetAttribute(MODEL_ATTRIBUTE, model)
        output.SetAttribute(REPORT_ATTRIBUTE, reportText(result))
        output.SetNodeReferenceID(RESULT_ROLE, reference.GetID())
        # Surfaces of the segments before would be made anew at every change.
        output.RemoveClosedSurfaceRepresentation()
    for region in spec.regions:
        segmentId = ourSegments(output).get(region.id) or addSegment(output, region, spec.regions)
        mask = result.masks[region.id].astype(np.uint8)
        slicer.util.updateSegmentBinaryLabelmapFromArray(mask, output, segmentId, reference)
        output.GetSegmentation().GetSegment(segmentId).SetTag(FINGERPRINT_TAG, fingerprint(output, segmentId))
        yield
    writeTable(output, result, model)


def removeSegments(output: vtkMRMLSegmentationNode, segmentIds) -> None:
    for segmentId in list(segmentIds):
        output.GetSegmentation().RemoveSegment(segmentId)


def addSegment(output: vtkMRMLSegmentationNode, region: Region, regions: tuple[Region, ...]) -> str:
    """An empty segment with the region's name, colour and codes; returns its id."""
    segmentation = output.GetSegmentation()
    wanted = segmentation.GenerateUniqueSegmentID(region.id)
    segmentId = segmentation.AddEmptySegment(wanted, region.name, region.color)
    segment = segmentation.GetSegment(segmentId)
    segment.SetTag(REGION_TAG, region.id)
    segment.SetTag(segment.GetTerminologyEntryTagName(), region.terminology.entry())
    # A region that encloses another must let it be seen.
    encloses = any(set(other.labels) < set(region.labels) for other in regions)
    display = output.GetDisplayNode()
    display.SetSegmentOpacity3D(segmentId, 0.35 if encloses else 1.0)
    return segmentId


def reportText(result) -> str:
    """What the window says below the button after a run, and again when the scene is reopened."""
    seconds = sum(result.seconds.values())
    done = _("Done in {seconds:.1f} s on {device}.").format(seconds=seconds, device=deviceName(result.device))
    return "\n".join([done, *result.notes])


class VolumeRow(NamedTuple):
    """A line of the table of volumes: a segment as it is, and what the model said of it.

    name: of the segment.
    volume: in mL, as the segment is now.
    low, high: the model's range of the volume, in mL.
    sure: the model's mean probability inside its own segment.
    model: name and version.
    modelVolume: in mL, as the model made the segment.
    edited: whether the segment is not as the model made it.
    region: its id; empty in tables of older scenes.
    """

    name: str
    volume: float
    low: float
    high: float
    sure: float
    model: str
    modelVolume: float
    edited: bool
    region: str


def partsOfReport(output: vtkMRMLSegmentationNode | None) -> tuple[str, list[str], list[str]]:
    """What `reportText` said of a result: that it is done, the warnings, and the other notes."""
    report = (output.GetAttribute(REPORT_ATTRIBUTE) if output else None) or ""
    done, *notes = report.split("\n")
    warnings = [note.removeprefix(WARNING_PREFIX) for note in notes if note.startswith(WARNING_PREFIX)]
    return done, warnings, [note for note in notes if not note.startswith(WARNING_PREFIX)]


def writeTable(output: vtkMRMLSegmentationNode, result, model: str) -> None:
    """Volumes in mL, their ranges and the mean probabilities as a table node that belongs to the segmentation."""
    table = output.GetNodeReference(TABLE_ROLE)
    if table is None:
        table = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLTableNode", f"{output.GetName()} volumes")
        output.SetNodeReferenceID(TABLE_ROLE, table.GetID())
    rows = []
    for region in result.spec.regions:
        volume, (low, high) = result.volumes_ml[region.id], result.volume_ranges_ml[region.id]
        sure = result.confidence.get(region.id, float("nan"))
        rows.append(VolumeRow(region.name, volume, low, high, sure, model, volume, False, region.id))
    fillTableNode(table, rows)


def fillTableNode(table, rows: Iterable[VolumeRow]) -> None:
    """Put rows into a table node; what is in the scene and in the CSV file."""
    titles = ("Segment", *NUMBER_COLUMNS, "Model", MODEL_VOLUME_COLUMN, EDITED_COLUMN, REGION_COLUMN)
    texts = ("Segment", "Model", EDITED_COLUMN, REGION_COLUMN)
    columns = [vtk.vtkStringArray() if title in texts else vtk.vtkDoubleArray() for title in titles]
    for column, title in zip(columns, titles):
        column.SetName(title)
    for row in rows:
        for column, value in zip(columns, row._replace(edited="yes" if row.edited else "")):
            column.InsertNextValue(value)
    table.RemoveAllColumns()
    for column in columns:
        table.AddColumn(column)


def followEdits(output: vtkMRMLSegmentationNode) -> bool:
    """Bring a result's table into agreement with its segments as they are now; whether any was edited."""
    table = output.GetNodeReference(TABLE_ROLE)
    segments, rows = ourSegments(output), []
    for row in readTable(table):
        segmentId = segments.get(row.region)
        if segmentId is not None:
            edited = isEdited(output, segmentId)
            volume = segmentVolumeMl(output, segmentId) if edited else row.modelVolume
            name = output.GetSegmentation().GetSegment(segmentId).GetName()
            row = row._replace(name=name, volume=volume, edited=edited)
        elif row.region:  # the user has removed it
            row = row._replace(volume=0.0, edited=True)
        rows.append(row)
    if rows and rows != readTable(table):
        fillTableNode(table, rows)
    return any(row.edited for row in rows)


def isEdited(output: vtkMRMLSegmentationNode, segmentId: str) -> bool:
    """Whether a segment is not any more as the model made it; False where an older version did not note that."""
    noted = vtk.reference("")
    if not output.GetSegmentation().GetSegment(segmentId).GetTag(FINGERPRINT_TAG, noted):
        return False
    sum_, *corner = str(noted).split()
    sumNow, *cornerNow = fingerprint(output, segmentId).split()
    # A saved scene keeps positions to some digits, and may cut the empty margin of a labelmap.
    return sum_ != sumNow or not np.allclose(np.float64(corner), np.float64(cornerNow), atol=0.01)


def fingerprint(output: vtkMRMLSegmentationNode, segmentId: str) -> str:
    """A check sum of a segment's voxels within their bounding box, and where the box begins (RAS mm, no transform)."""
    mask, corner, _voxelMl = segmentBox(output, segmentId)
    checksum = zlib.crc32(np.packbits(mask).tobytes(), zlib.crc32(repr(mask.shape).encode()))
    return " ".join([f"{checksum:08x}", *(f"{value:.3f}" for value in corner)])


def segmentVolumeMl(output: vtkMRMLSegmentationNode, segmentId: str) -> float:
    """What a segment measures as it is, in mL; a linear transform above it counts."""
    mask, _corner, voxelMl = segmentBox(output, segmentId)
    transform, scale = output.GetParentTransformNode(), 1.0
    if transform is not None and transform.IsTransformToWorldLinear():
        toWorld = vtk.vtkMatrix4x4()
        transform.GetMatrixTransformToWorld(toWorld)
        scale = abs(toWorld.Determinant())
    return float(mask.sum()) * voxelMl * scale


def segmentBox(output: vtkMRMLSegmentationNode, segmentId: str) -> tuple[np.ndarray, tuple[float, ...], float]:
    """The voxels of a segment, bool [K, J, I] within their bounding box; its first voxel in RAS mm; a voxel in mL."""
    image = output.GetBinaryLabelmapInternalRepresentation(segmentId)
    nothing = np.zeros((0, 0, 0), bool), (0.0, 0.0, 0.0), 0.0
    if image is None or image.IsEmpty():
        return nothing
    # The labelmap may hold several segments that do not overlap, each with a value of its own.
    label = output.GetSegmentation().GetSegment(segmentId).GetLabelValue()
    mask = slicer.util.arrayFromSegmentInternalBinaryLabelmap(output, segmentId) == label
    inPlane = mask.any(axis=0)
    ranges = [np.flatnonzero(hits) for hits in (mask.any(axis=(1, 2)), inPlane.any(axis=1), inPlane.any(axis=0))]
    if not len(ranges[0]):
        return nothing
    box = tuple(slice(hits[0], hits[-1] + 1) for hits in ranges)
    toWorld = vtk.vtkMatrix4x4()
    image.GetImageToWorldMatrix(toWorld)
    first = [image.GetExtent()[2 * n] + int(ranges[2 - n][0]) for n in range(3)]
    corner = toWorld.MultiplyPoint((*first, 1.0))[:3]
    return mask[box], corner, abs(toWorld.Determinant()) / 1000


class EditWatch(VTKObservationMixin):
    """Lets the tables of our results follow the segments, a moment after the last stroke: drawing never waits.

    It watches whichever module is shown, and looks at every result of a scene that was opened.
    """

    def __init__(self, changed: Callable[[], None]):
        """
        Args:
            changed: called after tables were brought up to date.
        """
        super().__init__()
        self._changed = changed
        self._due = set()  # ids of segmentation nodes
        self._timer = qt.QTimer()
        self._timer.setSingleShot(True)
        self._timer.setInterval(EDIT_WAIT_MS)
        self._timer.timeout.connect(self.follow)
        scene = slicer.mrmlScene
        self.addObserver(scene, scene.NodeAddedEvent, self.onNodeAdded)
        self.addObserver(scene, scene.EndImportEvent, self.onImported)
        for node in slicer.util.getNodesByClass("vtkMRMLSegmentationNode"):
            self.watch(node)

    @property
    def waiting(self) -> bool:
        return bool(self._due)

    def watch(self, node) -> None:
        kinds = slicer.vtkSegmentation
        for event in (kinds.SourceRepresentationModified, kinds.SegmentRemoved, kinds.SegmentModified):
            if not self.hasObserver(node, event, self.onEdited):
                self.addObserver(node, event, self.onEdited)

    @vtk.calldata_type(vtk.VTK_OBJECT)
    def onNodeAdded(self, caller, event, node=None):
        if node is not None and node.IsA("vtkMRMLSegmentationNode"):
            self.watch(node)

    def onEdited(self, caller, event):
        if caller.GetID() and caller.GetAttribute(MODEL_ATTRIBUTE):
            self._due.add(caller.GetID())
            self._timer.start()

    def onImported(self, caller, event):
        self._due.update(node.GetID() for node in ourResults())
        self._timer.start()

    def follow(self) -> None:
        """Look at what was edited since the last time."""
        self._timer.stop()
        nodes = [slicer.mrmlScene.GetNodeByID(nodeId) for nodeId in self._due]
        self._due.clear()
        for node in nodes:
            if node is not None:
                followEdits(node)
        if nodes:
            self._changed()

    def close(self) -> None:
        self._timer.stop()
        self._due.clear()
        self.removeObservers()


def writeProbabilities(
    output: vtkMRMLSegmentationNode, reference: vtkMRMLScalarVolumeNode, result
) -> Iterator[None]:  # fmt: skip
    """A volume of probabilities per region, and the innermost one in colour over the slices."""
    for region, probability in zip(result.spec.regions, result.probabilities):
        role = f"{PROBABILITY_ROLE}{region.id}"
        node = output.GetNodeReference(role)
        if node is None:
            name = f"{output.GetName()} {region.name} probability"
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
        display.SetAndObserveColorNodeID(COLD_TO_HOT)  # blue to red; "HotToCold" runs from red at 0 to blue at 1
        display.SetAutoWindowLevel(False)
        display.SetWindowLevelMinMax(0, 1)
        display.SetApplyThreshold(True)
        display.SetThreshold(0.05, 1)
        addLegend(node, region)
        putBeside(node, reference)
        yield
    layOver(node)


def addLegend(volume: vtkMRMLScalarVolumeNode, region: Region) -> None:
    """A colour bar in the slices where these probabilities lie, which says of which region they are."""
    legend = slicer.modules.colors.logic().AddDefaultColorLegendDisplayNode(volume)
    legend.SetTitleText(_("Probability of\n{region}").format(region=region.name))
    legend.SetLabelFormat("%.2f")
    legend.SetVisibility(True)


def removeProbabilities(output: vtkMRMLSegmentationNode) -> None:
    """Take a result's volumes of probabilities out of the scene: a new result makes them stale."""
    for role in probabilityRoles(output):
        volume = output.GetNodeReference(role)
        output.SetNodeReferenceID(role, None)
        if volume is not None:
            removeWithItsOwn(volume)


def removeWithItsOwn(displayed) -> None:
    """Take a node out of the scene with how it is displayed and stored."""
    displays = [displayed.GetNthDisplayNode(n) for n in range(displayed.GetNumberOfDisplayNodes())]
    for node in (displayed, displayed.GetStorageNode(), *displays):
        if node is not None:
            slicer.mrmlScene.RemoveNode(node)


#
# What `Prepare` did, to be looked at: the aligned volumes as copies, and the brain that was cut out
#


def writePrepared(
    output: vtkMRMLSegmentationNode, reference: vtkMRMLScalarVolumeNode, result
) -> Iterator[None]:  # fmt: skip
    """Let a result know how its volumes were aligned, and add the brain mask, hidden; what was there before goes."""
    removePrepared(output)
    brain = getattr(result, "brain", None)
    if brain is None:
        return
    matrices = {modality: np.ravel(matrix).tolist() for modality, matrix in result.alignments.items()}
    output.SetAttribute(ALIGNMENT_ATTRIBUTE, json.dumps(matrices))
    name = slicer.mrmlScene.GenerateUniqueName(f"{reference.GetName()} brain")
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", name)
    node.CreateDefaultDisplayNodes()
    node.SetDisplayVisibility(False)
    node.SetAndObserveTransformNodeID(reference.GetTransformNodeID())
    node.SetReferenceImageGeometryParameterFromVolumeNode(reference)
    segmentId = node.GetSegmentation().AddEmptySegment("brain", _("Brain"), BRAIN_COLOR)
    node.GetDisplayNode().SetSegmentOpacity2DFill(segmentId, 0.0)  # an outline: the tissue matters
    slicer.util.updateSegmentBinaryLabelmapFromArray(brain, node, segmentId, reference)
    output.SetNodeReferenceID(BRAIN_ROLE, node.GetID())
    putBeside(node, reference)
    yield


def removePrepared(output: vtkMRMLSegmentationNode) -> None:
    """Take what a run before left of its preparing out of the scene."""
    for role in (*rolesOf(output, ALIGNED_ROLE), *rolesOf(output, BRAIN_ROLE)):
        node = output.GetNodeReference(role)
        output.SetNodeReferenceID(role, None)
        if node is not None:
            removeWithItsOwn(node)
    output.RemoveAttribute(ALIGNMENT_ATTRIBUTE)


def wasPrepared(output: vtkMRMLSegmentationNode | None) -> bool:
    return output is not None and output.GetNodeReference(BRAIN_ROLE) is not None


def showsPrepared(output: vtkMRMLSegmentationNode | None) -> bool:
    return wasPrepared(output) and bool(output.GetNodeReference(BRAIN_ROLE).GetDisplayVisibility())


def showPrepared(output: vtkMRMLSegmentationNode, shown: bool) -> None:
    """Lay an aligned volume over the reference with the brain's outline, or take both off again.

    The copies stay in the scene: any of them can be chosen in the slice views.
    """
    output.GetNodeReference(BRAIN_ROLE).SetDisplayVisibility(shown)
    if shown:
        takeOverlay(output)
        if resultReference(output) is not None:
            showInSlices(resultReference(output))
        copies = alignedCopies(output)
        if copies:
            layOver(copies.get("flair") or next(iter(copies.values())))
        return
    ids = [output.GetNodeReferenceID(role) for role in rolesOf(output, ALIGNED_ROLE)]
    for view in slicer.util.getNodesByClass("vtkMRMLSliceCompositeNode"):
        if view.GetForegroundVolumeID() in ids:
            view.SetForegroundVolumeID(None)
    bringOverlay(output)


def alignedCopies(output: vtkMRMLSegmentationNode) -> dict[str, vtkMRMLScalarVolumeNode]:
    """By modality, copies of the volumes that were aligned, lying where they were laid; made when first asked for."""
    copies, inputs = {}, inputsOf(output)
    for modality, numbers in json.loads(output.GetAttribute(ALIGNMENT_ATTRIBUTE) or "{}").items():
        node, source = output.GetNodeReference(ALIGNED_ROLE + modality), inputs.get(modality)
        if node is None and source is not None:
            matrix = np.reshape(numbers, (4, 4)) @ worldIjkToRas(source)
            name = _("{name} aligned").format(name=source.GetName())
            node = slicer.util.addVolumeFromArray(slicer.util.arrayFromVolume(source).copy(), matrix, name)
            node.SetAttribute(ALIGNED_ATTRIBUTE, modality)
            output.SetNodeReferenceID(ALIGNED_ROLE + modality, node.GetID())
            putBeside(node, source)
        if node is not None:
            copies[modality] = node
    return copies


def showResult(
    output: vtkMRMLSegmentationNode, reference: vtkMRMLScalarVolumeNode, show3D: bool
) -> Iterator[None]:  # fmt: skip
    """Show a result over its volume, in 3D if wanted, and beside its study; the user's layout stays. In steps."""
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
    """Surfaces of all segments for the 3D view, one a step: Slicer makes them all in one go, and the window waits."""
    segmentation = output.GetSegmentation()
    closed = slicer.vtkSegmentationConverter.GetSegmentationClosedSurfaceRepresentationName()
    for segmentId in [segmentation.GetNthSegmentID(n) for n in range(segmentation.GetNumberOfSegments())]:
        segment = segmentation.GetSegment(segmentId)
        if segment is None or segment.GetRepresentation(closed) is not None:
            continue  # deleted between two steps, or made by an edit
        alone = slicer.vtkSegmentation()
        alone.SetSourceRepresentationName(segmentation.GetSourceRepresentationName())
        alone.CopyConversionParameters(segmentation)
        alone.CopySegmentFromSegmentation(segmentation, segmentId)
        alone.CreateRepresentation(closed)
        surface = alone.GetSegmentRepresentation(segmentId, closed)
        if surface is not None:
            segment.AddRepresentation(closed, surface)
        yield
    output.CreateClosedSurfaceRepresentation()  # finds them made, and lets the views know
    yield


def showOnly(output: vtkMRMLSegmentationNode) -> None:
    """Show a result and hide those of other volumes, which would lie over this patient's images.

    Only ours are hidden. The eye in the subject hierarchy, or choosing it in the window, brings any of them back.
    """
    for other in ourResults():
        if resultReference(other) is not resultReference(output):
            setShown(other, False)
        elif other is not output:
            takeOverlay(other)  # another model's, or another run's: its probabilities are not those of this result
    setShown(output, True)


def setShown(output: vtkMRMLSegmentationNode, shown: bool) -> None:
    """Show or hide a result in slices and 3D, with its probabilities; in the user's node, our segments alone."""
    if shown or not otherSegments(output):
        output.SetDisplayVisibility(shown)
    display = output.GetDisplayNode()
    if display is not None and otherSegments(output):
        for segmentId in ourSegments(output).values():
            display.SetSegmentVisibility(segmentId, shown)
    if shown:
        bringOverlay(output)
    else:
        if showsPrepared(output):
            showPrepared(output, False)
        takeOverlay(output)


def takeOverlay(output: vtkMRMLSegmentationNode) -> None:
    """Take a result's probabilities off the slices, and remember which they were."""
    roles = {output.GetNodeReferenceID(role): role for role in probabilityRoles(output)}
    for view in slicer.util.getNodesByClass("vtkMRMLSliceCompositeNode"):
        role = roles.get(view.GetForegroundVolumeID())
        if role:
            output.SetAttribute(OVERLAY_ATTRIBUTE, role)
            view.SetForegroundVolumeID(None)


def bringOverlay(output: vtkMRMLSegmentationNode) -> None:
    """Lay the probabilities over the slices again that `takeOverlay` took off."""
    role = output.GetAttribute(OVERLAY_ATTRIBUTE)
    output.RemoveAttribute(OVERLAY_ATTRIBUTE)
    node = output.GetNodeReference(role) if role else None
    if node is not None:
        layOver(node)


def layOver(volume: vtkMRMLScalarVolumeNode) -> None:
    """Make a volume the foreground of all slice views, as opaque as the user likes it, or by half."""
    for view in slicer.util.getNodesByClass("vtkMRMLSliceCompositeNode"):
        view.SetForegroundVolumeID(volume.GetID())
        if not view.GetForegroundOpacity():
            view.SetForegroundOpacity(0.5)


def probabilityRoles(output: vtkMRMLSegmentationNode) -> list[str]:
    """The names of the references from a result to its volumes of probabilities."""
    return rolesOf(output, PROBABILITY_ROLE)


def fillOf(output: vtkMRMLSegmentationNode) -> float:
    """How much a result's colour covers the tissue, 0 to 1."""
    display, ours = output.GetDisplayNode(), list(ourSegments(output).values())
    if display is None or not ours:
        return 0.0
    return display.GetOpacity2DFill() * display.GetSegmentOpacity2DFill(ours[-1])


def setFill(output: vtkMRMLSegmentationNode, fill: float) -> None:
    """Let a result's colour cover the tissue by so much; segments of others in its node stay as they are."""
    display = output.GetDisplayNode()
    if display is None:
        return
    if not otherSegments(output):
        display.SetOpacity2DFill(fill)
    for segmentId in ourSegments(output).values():
        ofNode = display.GetOpacity2DFill()
        display.SetSegmentOpacity2DFill(segmentId, min(fill / ofNode, 1.0) if ofNode else 1.0)


def showStudyInSlices(inputs: dict[str, vtkMRMLScalarVolumeNode], reference: vtkMRMLScalarVolumeNode) -> None:
    """Leave what is read in the slice views if it is of this study; elsewhere show that, or FLAIR, or the reference.

    Args:
        inputs: the volumes of the study that the model was given, by modality id.
        reference: the one whose grid the result has.
    """
    views = slicer.util.getNodesByClass("vtkMRMLSliceCompositeNode")
    volumes = {view.GetID(): backgroundOf(view) for view in views}
    kept = {view: volume for view, volume in volumes.items() if isOfStudy(volume, inputs, reference)}
    if not kept:
        showInSlices(next((inputs[modality] for modality in SHOWS_LESIONS_BEST if modality in inputs), reference))
    for view in views:
        if kept and view.GetID() not in kept:
            view.SetBackgroundVolumeID(next(iter(kept.values())).GetID())


def backgroundOf(view) -> vtkMRMLScalarVolumeNode | None:
    volumeId = view.GetBackgroundVolumeID()
    return slicer.mrmlScene.GetNodeByID(volumeId) if volumeId else None


def isOfStudy(volume, inputs: dict[str, vtkMRMLScalarVolumeNode], reference: vtkMRMLScalarVolumeNode) -> bool:
    """Whether a volume is one of the study's: given to the model, or beside it in the subject hierarchy."""
    if volume is None or volume is reference or volume in inputs.values():
        return volume is not None
    study = studyOf(reference)[0]
    if studyOf(volume)[0] != study or volume.GetAttribute(PROBABILITY_ATTRIBUTE):
        return False
    # Volumes without a study are one patient's as long as no modality is there twice.
    together = [guess_modality(node.GetName() or "") for node in volumeNodes() if studyOf(node)[0] == study]
    known = [guess for guess in together if guess]
    return bool(study) or len(known) == len(set(known))


def showInSlices(volume: vtkMRMLScalarVolumeNode) -> None:
    """Make a volume the background of all slice views; zoom to it only where it was not there before."""
    views = slicer.util.getNodesByClass("vtkMRMLSliceCompositeNode")
    shown = all(view.GetBackgroundVolumeID() == volume.GetID() for view in views)
    if not shown:
        slicer.util.setSliceViewerLayers(background=volume, fit=True)


def firstFound(output: vtkMRMLSegmentationNode) -> str | None:
    """The segment of the outermost region that was found, or None if nothing was."""
    ids = ourSegments(output).values()
    return next((segmentId for segmentId in ids if segmentBox(output, segmentId)[0].size), None)


def jumpTo(output: vtkMRMLSegmentationNode) -> None:
    """Bring the slice views to the middle of the first region that was found."""
    segmentId = firstFound(output)
    if segmentId is not None:
        center = output.GetSegmentCenterRAS(segmentId)
        slicer.vtkMRMLSliceNode.JumpAllSlices(slicer.mrmlScene, *center, slicer.vtkMRMLSliceNode.OffsetJumpSlice)


def centre3D(output: vtkMRMLSegmentationNode) -> bool:
    """Let every 3D view look at a result from the side it looks from now; whether there was something to look at."""
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


def putBeside(node, reference) -> None:
    """Give a node the place of `reference` in the subject hierarchy: the same study or folder."""
    hierarchy = slicer.mrmlScene.GetSubjectHierarchyNode()
    item = hierarchy.GetItemByDataNode(reference) if hierarchy else 0
    if item:
        place(hierarchy, node, hierarchy.GetItemParent(item))


def place(hierarchy, node, parent: int) -> None:
    item = hierarchy.GetItemByDataNode(node)
    if item:
        hierarchy.SetItemParent(item, parent)
    else:
        hierarchy.CreateItem(parent, node)


def makeStudy(patient: str, study: str, nodes: list) -> int:
    """A patient with one study in the subject hierarchy; returns the study's item."""
    hierarchy = slicer.mrmlScene.GetSubjectHierarchyNode()
    subject = hierarchy.CreateSubjectItem(hierarchy.GetSceneItemID(), patient)
    item = hierarchy.CreateStudyItem(subject, study)
    for node in nodes:
        place(hierarchy, node, item)
    return item


#
# Logic
#


@dataclass
class SceneStudy:
    """Volumes that stand together in the subject hierarchy, and how they would be segmented.

    problem: why they cannot be; empty if they can.
    """

    name: str
    inputs: dict[str, vtkMRMLScalarVolumeNode]
    problem: str = ""


def volumeNodes() -> list[vtkMRMLScalarVolumeNode]:
    """The scene's volumes with an image, without label maps, vectors, what is ours, and what is hidden."""
    nodes = slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode")
    return [
        node
        for node in nodes
        if node.GetClassName() == "vtkMRMLScalarVolumeNode"
        and not node.GetHideFromEditors()
        and node.GetImageData()
        and not node.GetAttribute(PROBABILITY_ATTRIBUTE)
        and not node.GetAttribute(ALIGNED_ATTRIBUTE)
    ]


def volumeInView() -> vtkMRMLScalarVolumeNode | None:
    """What the first slice view with a background shows there."""
    for view in slicer.util.getNodesByClass("vtkMRMLSliceCompositeNode"):
        shown = view.GetBackgroundVolumeID()
        node = slicer.mrmlScene.GetNodeByID(shown) if shown else None
        if node is not None:
            return node
    return None


def volumesBeside(node, nodes: list[vtkMRMLScalarVolumeNode]) -> list[vtkMRMLScalarVolumeNode]:
    """Those of one patient: in the study of `node`, or where it is in none, called alike but for the modality."""
    item = studyOf(node)[0]
    if item:
        return [other for other in nodes if studyOf(other)[0] == item]
    loose = [other for other in nodes if not studyOf(other)[0]]
    return [loose[n] for n in same_patient([other.GetName() or "" for other in loose], node.GetName() or "")]


def isLeftOut(spec: ModelSpec, modality: str, node: vtkMRMLScalarVolumeNode) -> bool:
    """Whether a volume is only used when it is asked for: the sample shows what is found without the decisive scan."""
    return modality == spec.privileged and bool(node.GetAttribute(SAMPLE_ATTRIBUTE))


def studyOf(node) -> tuple[int, str]:
    """The subject hierarchy item that holds a node, and its name with the patient's."""
    hierarchy = slicer.mrmlScene.GetSubjectHierarchyNode()
    item = hierarchy.GetItemByDataNode(node) if hierarchy else 0
    study = hierarchy.GetItemParent(item) if item else 0
    if not study or study == hierarchy.GetSceneItemID():
        return 0, _("(no study)")
    patient = hierarchy.GetItemParent(study)
    names = [hierarchy.GetItemName(i) for i in (patient, study) if i and i != hierarchy.GetSceneItemID()]
    return study, ", ".join(names)


class WarmInference:
    """Computes in a process of its own, which stays for the next click; see `worker_client`."""

    def __init__(self):
        self._client = WorkerClient()

    def begin(self, modelFolder: Path, volumes: dict[str, Volume], device: str, **options: bool) -> None:
        ensureDependencies()
        if options.get("prepare") and options.get("brain_mask") is None:
            ensurePackages([DEEPBET])
        self._client.begin(modelFolder, volumes, device, **options)

    def poll(self):
        return self._client.poll()

    def cancel(self) -> None:
        self._client.cancel()

    def close(self) -> None:
        self._client.close()


class ImmediateInference:
    """Computes while `begin` is called: for a function that stands in for the network."""

    def __init__(self, run: Callable):
        self._run = run
        self._outcome = None

    def begin(self, modelFolder: Path, volumes: dict[str, Volume], device: str, **options: bool) -> None:
        try:
            self._outcome = self._run(modelFolder, volumes, device, lambda progress: None, lambda: False)
        except DanteError as error:
            self._outcome = error

    def poll(self):
        outcome, self._outcome = self._outcome, None
        return None, outcome

    def cancel(self) -> None:
        pass

    def close(self) -> None:
        pass


@dataclass
class Job:
    """A run that was begun: what belongs to it in the scene.

    reference: the volume on whose grid the result will be.
    output: chosen by the user, or None; after `finish` the node that holds the result.
    usersWork: what `output` held of the user's own when the run began, which they allowed to be written into.
    """

    entry: ModelEntry
    inputs: dict[str, vtkMRMLScalarVolumeNode]
    reference: vtkMRMLScalarVolumeNode
    output: vtkMRMLSegmentationNode | None
    usersWork: str = ""


class DanteSegmenterLogic(ScriptedLoadableModuleLogic):
    """Works without a window: `slicer.util.getModuleLogic("DanteSegmenter").segment({"t1": node, ...})`."""

    def __init__(self, run: Callable | None = None, embeddedModels: Path | None = None):
        """
        Args:
            run: a function (folder, volumes, device, progress, cancelled) that computes in place of the network.
            embeddedModels: a folder of model folders instead of the extension's.
        """
        ScriptedLoadableModuleLogic.__init__(self)
        self.run = run
        self.inference = ImmediateInference(run) if run else WarmInference()
        self._embeddedModels = embeddedModels

    def getParameterNode(self):
        return DanteSegmenterParameterNode(super().getParameterNode())

    def models(self) -> tuple[ModelEntry, ...]:
        """The extension's models and those the user added."""
        return find_models(self.addedModels(), self._embeddedModels)

    def addedModels(self) -> list[str]:
        text = slicer.util.settingsValue(ADDED_MODELS_SETTING, "", converter=str)
        return [line for line in text.split("\n") if line]

    def addModel(self, folder: str | Path) -> ModelEntry:
        """Remember a model folder for this and later sessions; a zip file is unpacked among Slicer's settings first.

        Raises:
            ModelError: it is no model folder that can be used.
        """
        if str(folder).lower().endswith(".zip"):
            settings = Path(slicer.app.slicerUserSettingsFilePath).parent
            folder = unpack_model(folder, settings / "DanteModels")
        entry = choose_model((), folder)
        folders = dict.fromkeys([*self.addedModels(), str(folder)])
        qt.QSettings().setValue(ADDED_MODELS_SETTING, "\n".join(folders))
        return entry

    def guessInputs(self, modalities: list[str], nodes: list) -> dict[str, vtkMRMLScalarVolumeNode | None]:
        """A volume node for every modality id, guessed from the names; None where they do not tell."""
        found = assign([node.GetName() or "" for node in nodes], modalities)
        return {modality: None if n is None else nodes[n] for modality, n in found.items()}

    def studies(self, spec: ModelSpec) -> list[SceneStudy]:
        """The scene's studies in the order of their first volumes, each with its volumes guessed from their names."""
        groups: dict[int, tuple[str, list]] = {}
        made = {node.GetNodeReference(role) for node in slicer.util.getNodesByClass("vtkMRMLSegmentationNode")
                for role in (f"{PROBABILITY_ROLE}{region.id}" for region in spec.regions)}  # fmt: skip
        for node in volumeNodes():
            if node not in made:
                item, name = studyOf(node)
                groups.setdefault(item, (name, []))[1].append(node)
        return [self.study(spec, name, nodes) for name, nodes in groups.values()]

    def study(self, spec: ModelSpec, name: str, nodes: list) -> SceneStudy:
        """What can be made of the volumes of one study."""
        guessed = self.guessInputs([modality.id for modality in usedModalities(spec)], nodes)
        inputs = {m: node for m, node in guessed.items() if node is not None and not isLeftOut(spec, m, node)}
        missing = [spec.modality(m).label for m in spec.limited.modalities if m not in inputs]
        if missing:
            return SceneStudy(name, inputs, _("no volume for {missing}").format(missing=", ".join(missing)))
        reference = inputs[choose_pathway(spec, inputs)[0].modalities[0]]
        finished = previousResult(reference, spec) is not None
        return SceneStudy(name, inputs, _("finished already") if finished else "")

    def segment(
        self, volumes, model=None, device="auto", outputSegmentation=None, show3D=True, showProbabilities=False,
        mirror=False, prepare=False, brainMask=None, progress=None, cancelled=None, confirmed=False,
    ) -> vtkMRMLSegmentationNode:  # fmt: skip
        """Segment volume nodes, and return when it is done; the scene is touched only when the result is there.

        Args:
            volumes: volume nodes by modality id, e.g. {"t1": node, "t2": node, "flair": node}.
            model: key, name or folder of a model; the first by default.
            device: "auto", "cpu", "cuda", "cuda:N" or "mps".
            outputSegmentation: node for the result; by default our last one for the same volume if nothing in it was
                corrected by hand, or a new one.
            show3D: make surfaces.
            showProbabilities: add a volume of probabilities per region.
            mirror: average over mirrored images; eight times as long.
            prepare: align the volumes with the first and extract the brain (deepbet): for raw clinical studies.
            brainMask: segmentation or label map node to use with `prepare` instead of deepbet, on the first volume.
            progress: called with `worker_client.RunProgress`.
            cancelled: asked often; True ends the run.
            confirmed: `outputSegmentation` may hold segments of others, which stay, or corrected ones of ours, which
                are replaced; otherwise such a node is refused.

        Returns:
            The segmentation node, with one segment a region.

        Raises:
            DanteError: a volume is missing or cannot be used, the model cannot be used, or it was cancelled.
        """
        job = self.begin(
            volumes, model, device, outputSegmentation, showProbabilities, mirror, prepare, brainMask, confirmed
        )  # fmt: skip
        outcome = None
        while outcome is None:
            news, outcome = self.inference.poll()
            if news is not None and progress is not None:
                progress(news)
            if outcome is None:
                if cancelled is not None and cancelled():
                    self.inference.cancel()
                time.sleep(POLL_MS / 1000)
        if isinstance(outcome, DanteError):
            raise outcome
        for _step in self.finish(job, outcome, show3D):
            pass
        return job.output

    def begin(
        self, volumes, model=None, device="auto", outputSegmentation=None, showProbabilities=False, mirror=False,
        prepare=False, brainMask=None, confirmed=False,
    ) -> Job:  # fmt: skip
        """Check everything, and begin to compute; `self.inference.poll()` tells how it goes.

        Raises: as `segment`.
        """
        entry = choose_model(self.models(), model)
        given = {modality: node for modality, node in volumes.items() if node is not None}
        pathway, _notes = choose_pathway(entry.spec, given)
        reference = given[pathway.modalities[0]]
        inputs = {modality: volumeFromNode(node) for modality, node in given.items()}
        work = ""
        if outputSegmentation is not None:
            checkOutput(outputSegmentation, reference)
            work = usersWork(outputSegmentation)
        if work and not confirmed:
            raise InputError(work + _(" Choose another output segmentation, or pass confirmed=True."))
        if prepare:
            check_can_prepare(entry.spec)
        logging.info("DANTE: segmenting %s with %s", [volume.name for volume in inputs.values()], entry.folder)
        mask = maskFromNode(brainMask, reference) if prepare and brainMask is not None else None
        self.inference.begin(
            entry.folder, inputs, device, mirror=mirror, probabilities=showProbabilities, prepare=prepare,
            brain_mask=mask,
        )  # fmt: skip
        return Job(entry, given, reference, outputSegmentation, work)

    def finish(self, job: Job, result, show3D: bool = True) -> Iterator[None]:
        """Put a result into the scene, in steps of at most some tenths of a second.

        Raises:
            InputError: the volume was deleted meanwhile.
        """
        reference = job.reference
        if not slicer.mrmlScene.IsNodePresent(reference):
            raise InputError(_("The volume was deleted while it was segmented; nothing was changed."))
        if job.output is not None and not slicer.mrmlScene.IsNodePresent(job.output):
            job.output = None
        if job.output is not None and usersWork(job.output) != job.usersWork:
            job.output = None  # something was drawn into it during the run
        job.output = job.output or replaceableResult(reference, result.spec) or newResult(reference)
        rememberInputs(job.output, job.inputs)
        known = {PROBABILITY_ROLE + region.id for region in result.spec.regions}
        fresh = getattr(result, "probabilities", None) is not None
        if not fresh or not set(probabilityRoles(job.output)) <= known:
            removeProbabilities(job.output)
        isNew = not job.output.GetAttribute(MODEL_ATTRIBUTE)
        yield from writeSegmentation(job.output, reference, result)
        if isNew:
            setFill(job.output, self.getParameterNode().fill)
        yield from writePrepared(job.output, reference, result)
        if fresh:
            yield from writeProbabilities(job.output, reference, result)
        yield from showResult(job.output, reference, show3D)
        parameters = self.getParameterNode()
        if show3D and not parameters.centred3D:
            parameters.centred3D = centre3D(job.output)
        logging.info("DANTE: %s", reportText(result))


#
# Widget
#


class DanteSegmenterWidget(ScriptedLoadableModuleWidget, VTKObservationMixin):
    """The module's panel."""

    def __init__(self, parent=None):
        self.logic = None
        self.ui = None
        self._parameterNode = None
        self._guiTag = None
        self._models = ()
        self._inputRows = None
        self._inputSelectors = {}
        self._guessLabels = {}
        self._offerLabels = {}
        self._inView = None  # the volume that the slices showed when the boxes were filled
        self._wholeHeads = {}
        self._followingView = False  # whether boxes are being filled for the patient in view
        self._shown = None  # the output node that was shown last
        self._reference = None  # the volume whose result was looked for last
        self._passedOver = {}  # modality -> ids of volumes that were there when the chosen one was deleted
        self._guessed = {}  # modality -> id of the node that was put there by guess
        self._chosenByHand = set()
        self._updating = False
        self._refreshPlanned = False
        self._job = None  # the run that is going on
        self._steps = None  # what is left to do of putting its result into the scene
        self._timer = None
        self.batch = None  # several studies
        self.edits = None  # corrections by hand
        super().__init__(parent)

    # Life cycle

    def setup(self):
        ScriptedLoadableModuleWidget.setup(self)
        self.logic = DanteSegmenterLogic()
        uiWidget = slicer.util.loadUI(self.resourcePath("UI/DanteSegmenter.ui"))
        self.layout.addWidget(uiWidget)
        self.ui = slicer.util.childWidgetVariables(uiWidget)
        uiWidget.setMRMLScene(slicer.mrmlScene)
        self.ui.outputSelector.setMRMLScene(slicer.mrmlScene)
        self.ui.maskSelector.setMRMLScene(slicer.mrmlScene)
        self.ui.maskSelector.connect("currentNodeChanged(vtkMRMLNode*)", self.onMaskChosen)
        self.ui.modalitiesFrame.setLayout(qt.QVBoxLayout())
        self.ui.modalitiesFrame.layout().setContentsMargins(0, 0, 0, 0)
        self.ui.volumesTable.verticalHeader().setDefaultSectionSize(ROW_HEIGHT)
        self.ui.volumesTable.horizontalHeader().setSectionResizeMode(0, qt.QHeaderView.Stretch)
        for column in (1, 2, 3, MODEL_COLUMN):
            self.ui.volumesTable.horizontalHeader().setSectionResizeMode(column, qt.QHeaderView.ResizeToContents)
        self.ui.modelSelector.connect("currentIndexChanged(int)", self.onModelChosen)
        self.ui.addModelButton.connect("clicked(bool)", self.onAddModel)
        self.ui.sampleLabel.connect("linkActivated(QString)", self.onLoadSample)
        self.ui.warningFrame.setStyleSheet(WARNING_STYLE)
        self.ui.warningLabel.setStyleSheet(WARNING_TEXT_STYLE)
        icon = qt.QApplication.style().standardIcon(qt.QStyle.SP_MessageBoxWarning)
        self.ui.warningIcon.setPixmap(icon.pixmap(ICON_SIZE, ICON_SIZE))
        self.ui.segmentButton.connect("clicked(bool)", self.onSegment)
        self.ui.cancelButton.connect("clicked(bool)", self.onCancel)
        self.ui.saveTableButton.connect("clicked(bool)", self.onSaveTable)
        self.ui.editButton.connect("clicked(bool)", self.onEdit)
        self.ui.preparedButton.connect("clicked(bool)", self.onShowPrepared)
        self.ui.fillSlider.connect("valueChanged(int)", self.onFill)
        self._timer = qt.QTimer()
        self._timer.setInterval(POLL_MS)
        self._timer.timeout.connect(self.onTick)
        self.batch = BatchPanel(self)
        self.edits = EditWatch(self.onEdited)
        scene = slicer.mrmlScene
        self.addObserver(scene, scene.StartCloseEvent, self.onSceneStartClose)
        self.addObserver(scene, scene.EndCloseEvent, self.onSceneChanged)
        self.addObserver(scene, scene.EndImportEvent, self.onSceneChanged)
        self.addObserver(scene, scene.NodeAboutToBeRemovedEvent, self.onNodeLeaves)
        self.addObserver(scene, scene.NodeAddedEvent, self.onNodesChanged)
        self.addObserver(scene, scene.NodeRemovedEvent, self.onNodesChanged)
        for view in slicer.util.getNodesByClass("vtkMRMLSliceCompositeNode"):
            self.addObserver(view, vtk.vtkCommand.ModifiedEvent, self.onViewChanged)
        self.initializeParameterNode()

    def cleanup(self):
        """Reload, or the end of Slicer: the computing process ends with the window."""
        self._timer.stop()
        self._job = self._steps = None
        self.batch.close()
        self.edits.close()
        self.logic.inference.close()
        self.setParameterNode(None)
        self.removeObservers()

    def enter(self):
        self.initializeParameterNode()

    def exit(self):
        self.setParameterNode(None)

    def onSceneStartClose(self, caller, event):
        self.batch.close()
        if self._job is not None:  # its volumes are about to go
            self.logic.inference.close()
            self.stopRunning()
        self.setParameterNode(None)

    def onSceneChanged(self, caller, event):
        self._chosenByHand.clear()
        self._passedOver.clear()
        if self.parent.isEntered:
            self.initializeParameterNode()

    @vtk.calldata_type(vtk.VTK_OBJECT)
    def onNodeLeaves(self, caller, event, node=None):
        """Empty the boxes of a node that is being deleted, before they move on to another with a choice's signal."""
        if node is None or slicer.mrmlScene.IsClosing():
            return
        self._updating = True
        parameters = self._parameterNode  # None while another module is shown: the scene empties what is saved
        for modality, selector in self._inputSelectors.items():
            if selector.currentNode() is node:
                if parameters is not None:
                    parameters.setInputVolume(modality, None)
                selector.setCurrentNode(None)
                # Nobody chose the empty box; a volume that comes may be guessed, but none that was there already.
                self._chosenByHand.discard(modality)
                self._guessed.pop(modality, None)
                self._passedOver[modality] = {volume.GetID() for volume in volumeNodes()}
        if self.ui.maskSelector.currentNode() is node:
            if parameters is not None:
                parameters.setBrainMask(None)
            self.ui.maskSelector.setCurrentNode(None)
        if self.ui.outputSelector.currentNode() is node:
            if parameters is not None:
                parameters.outputSegmentation = None
            self.ui.outputSelector.setCurrentNode(None)
        self._updating = False

    def onNodesChanged(self, caller, event):
        """Volumes came or went. Nodes get their name and image after this event, so look a moment later, once."""
        if not self._refreshPlanned:
            self._refreshPlanned = True
            qt.QTimer.singleShot(0, self.onRefresh)

    def onViewChanged(self, caller, event):
        """Perhaps another patient is looked at; the views change one after the other, so look a moment later, once."""
        if volumeInView() is not self._inView:
            self.onNodesChanged(caller, event)

    def onRefresh(self):
        self._refreshPlanned = False
        if self._parameterNode is not None and not self.isRunning():
            self._followingView = True
            try:
                self.guessInputs()
                self.updateGui()
            finally:
                self._followingView = False

    def initializeParameterNode(self):
        """Take up the scene's choices, and guess what is not chosen yet."""
        self.setParameterNode(self.logic.getParameterNode())

    def setParameterNode(self, parameterNode):
        if self._parameterNode is not None:
            self._parameterNode.disconnectGui(self._guiTag)
            self.removeObserver(self._parameterNode, vtk.vtkCommand.ModifiedEvent, self.onParametersModified)
        self._parameterNode = parameterNode
        self._reference = None
        if parameterNode is not None:
            self._shown = self.output()  # as the scene shows it; only another choice changes that
            self._guiTag = parameterNode.connectGui(self.ui)
            self.addObserver(parameterNode, vtk.vtkCommand.ModifiedEvent, self.onParametersModified)
            self.updateModels()
            self.guessInputs()
            self.updateGui()

    def onParametersModified(self, caller=None, event=None):
        if not self._updating and self._parameterNode is not None:
            self.updateGui()

    # Model

    def model(self):
        """The chosen model's entry, or None."""
        index = self.ui.modelSelector.currentIndex
        return self._models[index] if 0 <= index < len(self._models) else None

    def updateModels(self):
        """Fill the list of models and select the scene's; one that is not there any more is listed as missing."""
        self._models = self.logic.models()
        wanted = self._parameterNode.model
        if wanted and wanted not in [entry.key for entry in self._models]:
            self._models += find_models([wanted], embedded=Path(wanted))
        self._updating = True
        self.ui.modelSelector.clear()
        for entry in self._models:
            self.ui.modelSelector.addItem(entry.title)
        usable = [n for n, entry in enumerate(self._models) if entry.spec]
        chosen = [n for n, entry in enumerate(self._models) if entry.key == wanted]
        self.ui.modelSelector.setCurrentIndex((chosen or usable or [0])[0] if self._models else -1)
        self._updating = False
        self.onModelChosen()

    def onModelChosen(self, index=None):
        if self._updating or self._parameterNode is None:
            return
        entry = self.model()
        self._parameterNode.model = entry.key if entry else ""
        self.buildInputSelectors()
        self.guessInputs()
        self.updateGui()
        self.batch.refresh()

    def onAddModel(self):
        title, kinds = _("A model: its model.json, or a zip file"), _("Models (model.json *.zip)")
        chosen = qt.QFileDialog.getOpenFileName(self.parent, title, "", kinds)
        path = chosen if isinstance(chosen, str) else chosen[0]  # PythonQt gives the path alone, PySide also the kind
        if path:
            self.addModel(path if path.lower().endswith(".zip") else str(Path(path).parent))

    def addModel(self, folder):
        """Add a folder or zip file to the list and choose it, or say why not."""
        try:
            self._parameterNode.model = self.logic.addModel(folder).key
        except DanteError as error:
            self.showError(str(error))
            return
        self.updateModels()

    # Inputs

    def buildInputSelectors(self):
        """One row for every modality of the model: label, node selector, and a word where the choice is a guess."""
        if self._inputRows is not None:
            self._inputRows.setParent(None)
            self._inputRows.deleteLater()
        self._inputRows = qt.QWidget()
        self.ui.modalitiesFrame.layout().addWidget(self._inputRows)
        layout = qt.QFormLayout(self._inputRows)
        layout.setContentsMargins(0, 0, 0, 0)
        self._inputSelectors, self._guessLabels, self._offerLabels = {}, {}, {}
        entry = self.model()
        for modality in usedModalities(entry.spec) if entry and entry.spec else ():
            needed = modality.id in entry.spec.limited.modalities
            selector = self.makeInputSelector(modality.id)
            guess = qt.QLabel(_("guessed"))
            guess.setStyleSheet("color: gray; font-style: italic;")
            guess.setToolTip(_("Taken from the volume's name. Choose another volume if it is the wrong one."))
            guess.setVisible(False)
            row = qt.QHBoxLayout()
            row.addWidget(selector, 1)
            row.addWidget(guess)
            if modality.id == entry.spec.privileged:
                self._offerLabels[modality.id] = offer = qt.QLabel(f'<a href="use">{_("use it")}</a>')
                offer.connect("linkActivated(QString)", self.offerTaken(modality.id))
                offer.setVisible(False)
                row.addWidget(offer)
            layout.addRow((_("{label}:") if needed else _("{label} (optional):")).format(label=modality.label), row)
            self._inputSelectors[modality.id], self._guessLabels[modality.id] = selector, guess

    def makeInputSelector(self, modality):
        selector = slicer.qMRMLNodeComboBox()
        selector.nodeTypes = ["vtkMRMLScalarVolumeNode"]
        selector.showChildNodeTypes = False  # no label maps, no vector volumes
        selector.noneEnabled = True
        selector.addEnabled = False
        selector.removeEnabled = False
        selector.selectNodeUponCreation = False
        selector.setSizePolicy(qt.QSizePolicy.Ignored, qt.QSizePolicy.Fixed)  # a long name must not widen the panel
        selector.setMRMLScene(slicer.mrmlScene)
        selector.setCurrentNode(self._parameterNode.inputVolume(modality))
        selector.connect("currentNodeChanged(vtkMRMLNode*)", self.inputChosen(modality))
        return selector

    def inputChosen(self, modality):
        """What to do when the user chooses a volume for `modality`."""

        def chosen(node):
            if self._updating or self._parameterNode is None:
                return
            self._chosenByHand.add(modality)
            self._guessed.pop(modality, None)
            self._parameterNode.setInputVolume(modality, node)
            self.followReference()
            self.updateGui()

        return chosen

    def offerTaken(self, modality):
        """What to do when the user wants the volume too that is loaded and left out."""

        def taken(link=None):
            node = self.offered(modality)
            if node is not None:
                self._inputSelectors[modality].setCurrentNode(node)

        return taken

    def offered(self, modality):
        """The volume for an empty box of the decisive scan that lies beside those in the other boxes, or None."""
        chosen = list(self.inputs().values())
        if self._parameterNode.inputVolume(modality) is not None or not chosen:
            return None
        node = self.logic.guessInputs(list(self._inputSelectors), volumesBeside(chosen[0], volumeNodes()))[modality]
        return None if node in chosen else node

    def onMaskChosen(self, node):
        if not self._updating and self._parameterNode is not None:
            self._parameterNode.setBrainMask(node)

    def guessInputs(self):
        """Fill the empty boxes that the user has not emptied, with volumes of one patient that are not used yet."""
        candidates = self.candidates()
        used = [self._parameterNode.inputVolume(modality) for modality in self._inputSelectors]
        empty = [modality for modality, node in zip(self._inputSelectors, used) if node is None]
        free = [node for node in candidates if node not in used]
        wanted = [modality for modality in empty if modality not in self._chosenByHand]
        for modality, node in self.logic.guessInputs(wanted, free).items():
            if node is None or isLeftOut(self.model().spec, modality, node):
                continue
            if node.GetID() not in self._passedOver.get(modality, ()):
                self._guessed[modality] = node.GetID()
                self._parameterNode.setInputVolume(modality, node)
        self.followReference()

    def candidates(self):
        """The volumes to fill the boxes from, all of one patient where that can be told.

        Boxes that were filled by a guess for another patient are emptied: they follow what the user looks at.
        """
        self._inView = volumeInView()
        filled = {m: node for m in self._inputSelectors if (node := self._parameterNode.inputVolume(m)) is not None}
        guessed = {modality: node for modality, node in filled.items() if self._guessed.get(modality) == node.GetID()}
        chosen = [node for modality, node in filled.items() if modality not in guessed]
        nodes = self.ofOnePatient(chosen, self._inView, list(filled.values()))
        others = [modality for modality, node in guessed.items() if node not in nodes]
        for modality in others:
            self._guessed.pop(modality)
            self._parameterNode.setInputVolume(modality, None)
        if others:
            self._passedOver.clear()
        return nodes

    def ofOnePatient(self, chosen, inView, filled):
        """Volumes of the chosen ones' patient, or of the one in view, if all is there that the model needs.

        Otherwise of the study that the boxes hold already, and of none; all of them where the boxes are empty.
        """
        nodes, entry = volumeNodes(), self.model()
        anchors = [node for node in (*chosen, inView, *filled) if node is not None]
        if not anchors or entry is None or entry.spec is None:
            return nodes
        beside = volumesBeside(anchors[0], nodes)
        found = self.logic.guessInputs(list(self._inputSelectors), beside)
        if all(found[modality] is not None for modality in entry.spec.limited.modalities):
            return beside
        study = studyOf((filled or anchors)[0])[0]
        return [node for node in nodes if not study or studyOf(node)[0] in (0, study)]

    def followReference(self):
        """Take up the result of the chosen volumes, and let go of another patient's: it must not be written over."""
        output, reference = self.output(), self.referenceVolume()
        another, self._reference = reference is not self._reference, reference
        if reference is None or (output is None and not another):
            return
        if output is not None and (not output.GetAttribute(MODEL_ATTRIBUTE) or otherSegments(output)):
            return
        if output is None or resultReference(output) is not reference:
            self._parameterNode.outputSegmentation = previousResult(reference, self.model().spec)

    def chooseVolumes(self, inputs, byHand=True):
        """Put a study's volumes into the boxes, as the user's choice or as a guess; its result is shown, if any."""
        self._updating = True  # the boxes change together
        for modality in self._inputSelectors:
            self._chosenByHand.discard(modality)
            self._guessed.pop(modality, None)
            if byHand:
                self._chosenByHand.add(modality)
            elif modality in inputs:
                self._guessed[modality] = inputs[modality].GetID()
            self._parameterNode.setInputVolume(modality, inputs.get(modality))
        self._updating = False
        self.followReference()
        self.updateGui()

    def showChosen(self):
        """Show the result that was chosen, with the volumes it was made from, and hide those of other volumes."""
        output = self.output()
        if output is self._shown:
            return
        self._shown = output
        if output is None or not output.GetAttribute(MODEL_ATTRIBUTE):
            return
        reference = resultReference(output)
        inputs = inputsOf(output)
        if reference is not self.referenceVolume() and reference in inputs.values():
            self.chooseVolumes(inputs, byHand=not self.batch.running)
        showOnly(output)
        if reference is not None and not self._followingView:  # what the user has just put there stays
            showStudyInSlices(inputs, reference)

    def inputs(self):
        """The chosen volume nodes by modality id, without the empty ones."""
        nodes = {modality: self._parameterNode.inputVolume(modality) for modality in self._inputSelectors}
        return {modality: node for modality, node in nodes.items() if node is not None}

    def referenceVolume(self):
        """The volume on whose grid the result will be, or None while it is not chosen."""
        entry, inputs = self.model(), self.inputs()
        if entry is None or entry.spec is None:
            return None
        missing = set(entry.spec.limited.modalities) - set(inputs)
        pathway = entry.spec.limited if missing else choose_pathway(entry.spec, inputs)[0]
        return inputs.get(pathway.modalities[0])

    # State of the panel

    def output(self):
        """The chosen output node; None if there is none, or it was deleted meanwhile."""
        node = self._parameterNode.outputSegmentation
        return node if node is not None and slicer.mrmlScene.IsNodePresent(node) else None

    def whatIsMissing(self):
        """Why Segment cannot run; empty if it can."""
        entry = self.model()
        if entry is None:
            return _("There is no model. Add a model folder with the button beside the list.")
        if entry.spec is None:
            return entry.problem
        inputs = self.inputs()
        missing = [entry.spec.modality(m).label for m in entry.spec.limited.modalities if m not in inputs]
        if missing:
            return _("Choose the volumes for: {missing}.").format(missing=", ".join(missing))
        for node in inputs.values():
            twins = [entry.spec.modality(m).label for m, other in inputs.items() if other is node]
            if len(twins) > 1:
                return _("'{name}' is chosen for {labels}; each needs a volume of its own.").format(
                    name=node.GetName(), labels=_(" and ").join(twins)
                )
        return ""

    def updateGui(self):
        """Bring every part of the panel into agreement with the parameter node and the scene."""
        self._updating = True
        for modality, selector in self._inputSelectors.items():
            node = self._parameterNode.inputVolume(modality)
            selector.setCurrentNode(node)
            guessed = node is not None and self._guessed.get(modality) == node.GetID()
            self._guessLabels[modality].setVisible(guessed)
        for modality, label in self._offerLabels.items():
            offered = self.offered(modality)
            label.setVisible(offered is not None)
            if offered is not None:
                hint = _("'{name}' is loaded and not used. Click to use it too; the model has a network for that.")
                label.setToolTip(hint.format(name=offered.GetName()))
        self._updating = False
        entry = self.model()
        self.updatePrepare(entry)
        self._updating = True
        self.ui.maskSelector.setCurrentNode(self._parameterNode.brainMask())
        self._updating = False
        self.ui.maskFrame.setVisible(bool(self._parameterNode.prepare))
        self.ui.modelInfoLabel.text = self.modelInfo(entry)
        self.ui.aboutLabel.text = about(entry.spec) if entry and entry.spec else ""
        self.ui.aboutCollapsibleButton.setVisible(bool(self.ui.aboutLabel.text))
        self.ui.sampleLabel.setVisible(not volumeNodes())
        self.updateButton()
        self.updateResult()
        self.showChosen()
        self.updateWarning()
        self.batch.refresh(lookIntoFolder=False)  # a large one takes seconds, and no choice above changes it

    def updatePrepare(self, entry):
        """*Prepare* can be ticked for a model that reads brains without skull, and is off for any other."""
        able = entry is not None and entry.spec is not None and entry.spec.skull_stripped
        if not able and self._parameterNode.prepare and entry is not None and entry.spec is not None:
            self._updating = True
            self._parameterNode.prepare = False
            self._updating = False
        self.ui.prepareCheckBox.enabled = able
        self.ui.prepareCheckBox.toolTip = (
            _(
                "For studies as they come from the scanner: every volume is aligned with the first, and the brain is "
                "cut out of the head (deepbet)."
            )
            if able
            else _("The chosen model does not read MR of the brain: there is nothing to align or to cut out for it.")
        )

    def whatLooksRaw(self):
        """Why the chosen volumes should be prepared first; empty if they need not."""
        entry = self.model()
        if entry is None or entry.spec is None or not entry.spec.skull_stripped:
            return ""
        heads = [node.GetName() for node in self.inputs().values() if self.showsWholeHead(node)]
        if not heads:
            return ""
        return _("{names}: a whole head, not a brain without skull. Tick 'Prepare'.").format(names=", ".join(heads))

    def showsWholeHead(self, node):
        """Looked at once for every image: counting its voxels takes some milliseconds."""
        key = (node.GetID(), node.GetImageData().GetMTime() if node.GetImageData() else 0)
        if key not in self._wholeHeads:
            try:
                self._wholeHeads[key] = shows_whole_head(volumeFromNode(node))
            except InputError:
                self._wholeHeads[key] = False  # Segment will say what is wrong with it
        return self._wholeHeads[key]

    def modelInfo(self, entry):
        if entry is None or entry.spec is None:
            return entry.problem if entry else ""
        regions = ", ".join(region.name for region in entry.spec.regions)
        return _("Finds {regions}. {use}").format(regions=regions, use=entry.spec.intended_use)

    def updateButton(self):
        missing = self.whatIsMissing()
        self.ui.segmentButton.enabled = not missing and not self.isRunning() and not self.batch.running
        waiting = _("Several studies are being segmented.") if self.batch.running else ""
        self.ui.segmentButton.toolTip = missing or waiting or _("Segment the chosen volumes.")
        if not self.isRunning():
            self.showStatus(missing)

    def onFill(self, percent):
        """One place for all results, those that are shown and those to come."""
        if not self._updating and self._parameterNode is not None:
            self._updating = True  # nothing else in the window follows from it
            self._parameterNode.fill = percent / 100
            self._updating = False
            for output in ourResults():
                setFill(output, percent / 100)

    def updateResult(self):
        """The table, and the words about the last run, of the chosen output node."""
        output = self.output()
        updating, self._updating = self._updating, True
        if output is not None:
            self.ui.fillSlider.value = round(100 * fillOf(output))
        self._updating = updating
        table = output.GetNodeReference(TABLE_ROLE) if output else None
        rows = readTable(table)
        segments = [output.GetSegmentation().GetSegment(i) for i in ourSegments(output).values()] if output else []
        self.fillTable(rows, [segment.GetColor() for segment in segments])
        self.ui.volumesCollapsibleButton.setVisible(bool(rows))
        self.ui.preparedButton.setVisible(wasPrepared(output))
        self.ui.preparedButton.checked = showsPrepared(output)
        done, _warnings, notes = partsOfReport(output)
        self.ui.notesLabel.text = "\n".join(notes)
        self.ui.notesLabel.setVisible(bool(notes))
        if done and not self.isRunning() and not self.whatIsMissing():
            self.showStatus(done)

    def updateWarning(self):
        """The first thing below Segment: what speaks against the shown result, or against the chosen volumes."""
        raw = "" if self._parameterNode.prepare else self.whatLooksRaw()
        _done, warnings, _notes = partsOfReport(self.output())
        text = "" if self.isRunning() else "\n".join(warnings) or raw
        self.ui.warningLabel.text = text
        self.ui.warningFrame.setVisible(bool(text))

    def onEdited(self):
        """Segments were corrected by hand and the tables have followed."""
        if self._parameterNode is not None:
            self.updateResult()

    def fillTable(self, rows, colors):
        table = self.ui.volumesTable
        table.setRowCount(len(rows))
        table.setColumnHidden(MODEL_COLUMN, not any(row.edited for row in rows))
        for n, row in enumerate(rows):
            table.setItem(n, 0, qt.QTableWidgetItem(row.name))
            volume = _("{volume:.1f} edited") if row.edited else "{volume:.1f}"
            texts = (
                volume.format(volume=row.volume),
                f"{row.low:.1f} - {row.high:.1f}",
                "" if row.sure != row.sure else f"{100 * row.sure:.0f} %",
                f"{row.modelVolume:.1f}",
            )
            for column, text in enumerate(texts, start=1):
                item = qt.QTableWidgetItem(text)
                item.setTextAlignment(qt.Qt.AlignRight | qt.Qt.AlignVCenter)
                table.setItem(n, column, item)
            if n < len(colors):
                red, green, blue = (int(255 * part) for part in colors[n])
                pixmap = qt.QPixmap(12, 12)
                pixmap.fill(qt.QColor(red, green, blue))
                table.item(n, 0).setIcon(qt.QIcon(pixmap))
        # As high as its rows, so that nothing has to be scrolled and nothing is left empty.
        table.setFixedHeight(ROW_HEIGHT * (len(rows) + 1) + 8)

    def showStatus(self, text, color="gray"):
        self.ui.statusLabel.styleSheet = f"color: {color};"
        self.ui.statusLabel.text = text

    def showError(self, message):
        """Say what went wrong, in the panel, in a dialog and in the log."""
        self.showStatus(message, ERROR_COLOR)
        slicer.util.errorDisplay(message, windowTitle=_("DANTE Segmenter"))

    # Doing

    def onLoadSample(self, link=None):
        with slicer.util.tryWithErrorDisplay(_("The sample patient could not be made."), waitCursor=True):
            loadSamplePatient()

    def onSaveTable(self, checked=False):
        title, kinds = _("Save the table"), _("Comma-separated values (*.csv)")
        chosen = qt.QFileDialog.getSaveFileName(self.parent, title, "", kinds)
        path = chosen if isinstance(chosen, str) else chosen[0]  # PythonQt gives the path alone, PySide also the kind
        if path:
            with slicer.util.tryWithErrorDisplay(_("The table could not be saved.")):
                self.edits.follow()
                saveTable(self.output().GetNodeReference(TABLE_ROLE), path)

    def onShowPrepared(self, checked=False):
        with slicer.util.tryWithErrorDisplay(_("What Prepare did could not be shown.")):
            showPrepared(self.output(), not showsPrepared(self.output()))
            self.updateResult()

    def onEdit(self, checked=False):
        """Open Slicer's Segment Editor on the result."""
        with slicer.util.tryWithErrorDisplay(_("The Segment Editor could not be opened.")):
            openEditor(self.output())

    def isRunning(self):
        return self._job is not None

    def onSegment(self, checked=False):
        if self.isRunning() or self.batch.running or self.whatIsMissing():
            return
        work = usersWork(self.output()) if self.output() else ""
        if work and not self.asked(work):
            self.showStatus(_("Nothing was changed. Choose another output segmentation, or (new segmentation)."))
            return
        self.runJob(self.inputs(), self.output(), self._parameterNode.brainMask())

    def asked(self, work):
        """Whether the user lets the result be written where there is work of their own."""
        question = work + _(" Go on?")
        return slicer.util.confirmYesNoDisplay(question, windowTitle=_("DANTE Segmenter"))

    def runJob(self, inputs, output=None, brainMask=None):
        """Begin to segment volumes with the choices of the window, also while another module is shown."""
        parameters = self.logic.getParameterNode()
        self.showStatus(_("Starting..."))
        self.attempt(
            lambda: self.startRunning(
                self.logic.begin(
                    inputs,
                    model=self.model().folder,
                    device=parameters.device.value,
                    outputSegmentation=output,
                    showProbabilities=parameters.showProbabilities,
                    mirror=parameters.mirror,
                    prepare=parameters.prepare,
                    brainMask=brainMask,
                    confirmed=True,  # `output` was chosen, and asked about, by the user
                )
            )
        )
        if self.isRunning():
            self.onTick()

    def onCancel(self, checked=False):
        if self.isRunning() and self._steps is None:
            self.ui.cancelButton.enabled = False
            self.showStatus(_("Stopping..."))
            self.logic.inference.cancel()

    def onTick(self):
        """Called every few milliseconds while a run is going on: each time a little is done."""
        if self.isRunning():
            self.attempt(self.tick)
        if self.isRunning():  # counted from now: a timer that is late comes twice before others come once
            self._timer.start(POLL_MS if self._steps is None else PAUSE_MS)

    def tick(self):
        if self._steps is None:
            news, outcome = self.logic.inference.poll()
            if news is not None:
                self.showProgress(news)
            if isinstance(outcome, DanteError):
                raise outcome
            if outcome is None:
                return
            self.ui.cancelButton.enabled = False
            show3D = self.logic.getParameterNode().show3D
            self._steps = self.logic.finish(self._job, outcome, show3D)
            if not isinstance(self.logic.inference, ImmediateInference):
                return
        # Computed at once is finished at once; otherwise a step at a time.
        for _step in self._steps:
            if not isinstance(self.logic.inference, ImmediateInference):
                return
        parameters = self.logic.getParameterNode()
        if self.batch.running and self._parameterNode is None:  # another module is shown; the boxes follow there too
            for modality in self._job.entry.spec.modalities:
                parameters.setInputVolume(modality.id, self._job.inputs.get(modality.id))
        parameters.outputSegmentation = self._job.output
        self.stopRunning()
        self.batch.ended()

    def attempt(self, action):
        """Do something, and come to rest with an explanation if it fails."""
        refusal, defect = None, None
        try:
            with slicer.util.tryWithErrorDisplay(_("The segmentation failed.")):
                try:
                    action()
                except Cancelled:
                    refusal = Cancelled(_("Stopped; nothing was changed."))
                except DanteError as error:
                    refusal = type(error)(inWindowWords(str(error)))
        except Exception as error:  # a defect; tryWithErrorDisplay has shown and logged it with its traceback
            defect = _("The segmentation failed: {error}").format(error=error)
            raise
        finally:
            if refusal is not None or defect:
                self.stopRunning()
            if defect:
                self.showStatus(defect, ERROR_COLOR)
            if isinstance(refusal, Cancelled):
                self.showStatus(str(refusal))
            elif refusal is not None and self.batch.running:
                self.showStatus(str(refusal), ERROR_COLOR)  # no dialog: the rest goes on
            elif refusal is not None:
                self.showError(str(refusal))
            if refusal is not None or defect:
                self.batch.ended(refusal or defect)

    def startRunning(self, job):
        self._job = job
        self.ui.warningFrame.setVisible(False)  # it spoke of the result before
        self.ui.segmentButton.enabled = False
        self.ui.cancelButton.enabled = True
        self.ui.progressBar.value = 0
        self.ui.progressBar.visible = True
        self.ui.cancelButton.visible = True
        self._timer.start()

    def showProgress(self, progress):
        if not self.ui.cancelButton.enabled:
            return  # stopping
        self.ui.progressBar.value = int(100 * progress.fraction)
        left = progress.seconds_left
        rest = "" if left is None else _(", about {seconds:.0f} s left").format(seconds=left)
        self.showStatus(progress.message + rest)

    def stopRunning(self):
        """At rest again, with whatever the scene now holds."""
        self._timer.stop()
        self._job = self._steps = None
        self.ui.progressBar.visible = False
        self.ui.cancelButton.visible = False
        if self._parameterNode is not None:
            self.updateGui()


class BatchPanel:
    """Several studies one after the other: those of the scene through the window's own runs, or a folder in a process.

    Whatever fails is written into the table and does not stop the rest.
    """

    SCENE, FOLDER = 0, 1

    def __init__(self, widget):
        self._widget = widget
        self.ui = widget.ui
        self.folder = self.out = None
        self._queue = None  # rows of the scene's studies that are still to do
        self._studies = []
        self._row = None  # the one that is going on
        self._process = None
        self._timer = qt.QTimer()
        self._timer.setInterval(BATCH_POLL_MS)
        self._timer.timeout.connect(self.onTick)
        header = self.ui.batchTable.horizontalHeader()
        header.setSectionResizeMode(0, qt.QHeaderView.ResizeToContents)
        header.setSectionResizeMode(1, qt.QHeaderView.Stretch)
        self.ui.batchSourceSelector.connect("currentIndexChanged(int)", self.onSource)
        self.ui.batchFolderButton.connect("clicked(bool)", self.onFolder)
        self.ui.batchOutButton.connect("clicked(bool)", self.onOut)
        self.ui.batchButton.connect("clicked(bool)", self.onButton)
        self.ui.batchTable.connect("cellClicked(int,int)", self.onRow)
        self.refresh()

    @property
    def running(self) -> bool:
        return self._queue is not None or self._process is not None

    def close(self):
        """End whatever is going on; nothing that was finished is lost."""
        self._timer.stop()
        self._queue = self._row = None
        if self._process is not None:
            self._process.stop()
            self._process = None

    # What would run

    def refresh(self, lookIntoFolder=True):
        """Bring buttons and table into agreement with the scene and the chosen folders."""
        if self.running:
            return
        fromFolder = self.ui.batchSourceSelector.currentIndex == self.FOLDER
        if fromFolder and not lookIntoFolder:
            return
        for button, path, empty in (
            (self.ui.batchFolderButton, self.folder, _("Choose the folder of cases...")),
            (self.ui.batchOutButton, self.out, _("Choose the folder for results...")),
        ):
            button.setVisible(fromFolder)
            button.text = str(path) if path else empty
        rows, able = self.folderRows() if fromFolder else self.sceneRows()
        self.fill(rows)
        self.ui.batchButton.enabled = able and not self._widget.isRunning()
        self.ui.batchButton.text = _("Segment all")

    def sceneRows(self):
        entry = self._widget.model()
        usable = entry is not None and entry.spec is not None
        self._studies = self._widget.logic.studies(entry.spec) if usable else []
        rows = [(study.name, study.problem or _("will run")) for study in self._studies]
        return rows, any(not study.problem for study in self._studies)

    def folderRows(self):
        entry = self._widget.model()
        if self.folder is None or self.out is None or entry is None or entry.spec is None:
            return [], False
        from DanteSegmenterLib.batch import to_do
        from DanteSegmenterLib.cases.case_list import find_cases

        try:
            table = to_do(find_cases(self.folder), entry.spec, self.out)
        except DanteError as error:
            return [(str(self.folder), str(error))], False
        rows = [(case.name, obstacle or _("will run")) for case, obstacle in table]
        return rows, any(not obstacle for _case, obstacle in table)

    def fill(self, rows):
        self.ui.batchTable.setRowCount(len(rows))
        for n, (name, state) in enumerate(rows):
            self.write(n, 0, name)
            self.write(n, 1, state)

    def write(self, row, column, text):
        item = qt.QTableWidgetItem(text)
        item.setToolTip(text)
        self.ui.batchTable.setItem(row, column, item)

    def onSource(self, index=None):
        self.refresh()

    def onFolder(self, checked=False):
        self.folder = self.chosenFolder(_("Folder of cases")) or self.folder
        self.refresh()

    def onOut(self, checked=False):
        self.out = self.chosenFolder(_("Folder for results")) or self.out
        self.refresh()

    def chosenFolder(self, title):
        path = qt.QFileDialog.getExistingDirectory(self._widget.parent, title)
        return Path(path) if path else None

    def onRow(self, row, column=0):
        """A click on a study brings its volumes and its result back into view."""
        fromScene = self.ui.batchSourceSelector.currentIndex == self.SCENE
        if fromScene and not self.running and not self._widget.isRunning() and row < len(self._studies):
            self._widget.chooseVolumes(self._studies[row].inputs)

    # Running

    def onButton(self, checked=False):
        if self.running:
            self.stop()
            return
        self.refresh()
        if not self.ui.batchButton.enabled:
            return
        self.ui.batchButton.text = _("Stop")
        if self.ui.batchSourceSelector.currentIndex == self.FOLDER:
            self._widget.attempt(self.startProcess)
            if self._process is None:
                self.refresh()
        else:
            self._queue = [n for n, study in enumerate(self._studies) if not study.problem]
            self.updateSegmentButton()
            self.next()

    def stop(self):
        if self._row is not None:
            self._queue = []
            self._widget.onCancel()
        else:
            self.close()
            self.refresh()
            self.updateSegmentButton()

    def next(self):
        """Begin the next study of the scene, or come to rest."""
        if self._queue is None:
            return
        if not self._queue:
            self.end()
            return
        self._row = self._queue.pop(0)
        if not all(slicer.mrmlScene.IsNodePresent(node) for node in self._studies[self._row].inputs.values()):
            self.ended(_("a volume was deleted"))
            return
        self.write(self._row, 1, _("running"))
        self._widget.runJob(self._studies[self._row].inputs)

    def ended(self, error=None):
        """The window's run that this panel began is over."""
        if self._row is None:
            return
        row, self._row = self._row, None
        self.write(row, 1, str(error) if error else _("done"))
        qt.QTimer.singleShot(0, self.next)

    def end(self):
        self._queue = None
        self.ui.batchButton.text = _("Segment all")
        self.updateSegmentButton()

    def updateSegmentButton(self):
        """It waits while this panel works; what the window says of the last result stays."""
        if self._widget._parameterNode is not None:
            self._widget.updateButton()
            self._widget.updateResult()

    def startProcess(self):
        ensureDependencies()
        ensurePackages(BATCH_PACKAGES)
        parameters, entry = self._widget._parameterNode, self._widget.model()
        self._process = BatchProcess(
            self.folder, entry.folder, self.out, parameters.device.value, bool(parameters.mirror)
        )
        self._timer.start()
        self.updateSegmentButton()

    def onTick(self):
        """Look after the process now and then."""
        process = self._process
        if process is None:
            return
        running, rows = process.running, process.rows()
        if rows:
            states = {row.case: row for row in rows}
            for n in range(self.ui.batchTable.rowCount):
                row = states.get(self.ui.batchTable.item(n, 0).text())
                if row is not None:
                    self.write(n, 1, f"{row.state}. {row.message}".strip(". "))
        if not running:
            self._timer.stop()
            error, self._process = process.error(), None
            process.stop()
            self.end()
            done = sum(row.state == "done" for row in rows)
            if error is not None:
                self._widget.showError(str(error))
            else:
                self._widget.showStatus(_("{done} cases segmented; see {out}.").format(done=done, out=self.out))


def openEditor(output: vtkMRMLSegmentationNode) -> None:
    """Slicer's Segment Editor on a result, so that correcting one of its nested segments erases no other."""
    if slicer.util.mainWindow() is not None:
        slicer.util.selectModule("SegmentEditor")
    editor = slicer.util.getModuleWidget("SegmentEditor").editor
    editor.setSegmentationNode(output)
    editor.setSourceVolumeNode(readVolume(output) or referenceOf(output))
    choices = editor.mrmlSegmentEditorNode()
    choices.SetOverwriteMode(slicer.vtkMRMLSegmentEditorNode.OverwriteNone)  # the editor's own is "all"
    choices.SetMaskMode(slicer.vtkMRMLSegmentationNode.EditAllowedEverywhere)
    choices.SetSourceVolumeIntensityMask(False)
    ours = list(ourSegments(output).values())
    if ours:
        choices.SetSelectedSegmentID(ours[0])


def readVolume(output: vtkMRMLSegmentationNode) -> vtkMRMLScalarVolumeNode | None:
    """The volume in the slices if the result was made from it: the editor would show another in its place."""
    views = slicer.util.getNodesByClass("vtkMRMLSliceCompositeNode")
    volumes = [backgroundOf(view) for view in views]
    return next((volume for volume in volumes if volume in inputsOf(output).values()), None)


def usedModalities(spec: ModelSpec) -> list[Modality]:
    """What the model can make use of: the privileged modality only if it came with the full network."""
    used = {*spec.limited.modalities, *(spec.full.modalities if spec.full else ())}
    return [modality for modality in spec.modalities if modality.id in used]


def saveTable(table, path: str | Path) -> None:
    """Write a table node that `writeTable` filled as CSV."""
    columns = table.GetTable()
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow([columns.GetColumnName(n) for n in range(columns.GetNumberOfColumns())])
        for row in range(columns.GetNumberOfRows()):
            writer.writerow([columns.GetValue(row, n).ToString() for n in range(columns.GetNumberOfColumns())])


def readTable(table) -> list[VolumeRow]:
    """Rows of a table node that `writeTable` filled, in this version or before segments could be edited."""
    if table is None or table.GetNumberOfColumns() < 1 + len(NUMBER_COLUMNS):
        return []
    columns, rows = table.GetTable(), []
    for n in range(table.GetNumberOfRows()):
        numbers = [columns.GetValueByName(n, title).ToDouble() for title in NUMBER_COLUMNS]
        name, model, edited, region = (
            columns.GetValueByName(n, title).ToString() if columns.GetColumnByName(title) else ""
            for title in ("Segment", "Model", EDITED_COLUMN, REGION_COLUMN)
        )
        known = columns.GetColumnByName(MODEL_VOLUME_COLUMN) is not None
        modelVolume = columns.GetValueByName(n, MODEL_VOLUME_COLUMN).ToDouble() if known else numbers[0]
        rows.append(VolumeRow(name, *numbers, model, modelVolume, edited == "yes", region))
    return rows


#
# Self-test
#


class DanteSegmenterTest(ScriptedLoadableModuleTest):
    """Runs on a synthetic patient and on drawn volumes: in Slicer's Reload & Test, through ctest, and in pytest."""

    SAMPLE_SPACING_MM = 2.0

    def setUp(self):
        slicer.mrmlScene.Clear(0)

    def tearDown(self):
        slicer.mrmlScene.Clear(0)

    def runTest(self):
        names = [name for name in dir(self) if name.startswith("test")]
        for name in names:
            self.setUp()
            try:
                getattr(self, name)()
                self.delayDisplay(f"{name}: passed")
            finally:
                self.tearDown()

    # Helpers

    def drawnVolume(self, name, shape=(6, 7, 8)):
        """A small volume on an oblique, anisotropic grid with permuted and flipped axes: whatever is mixed up shows."""
        array = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
        matrix = np.array([[0, -2, 0, 11], [1.2, 0, -1.8, -7], [0.9, 0, 2.4, 5], [0, 0, 0, 1]], dtype=float)
        return slicer.util.addVolumeFromArray(array, matrix, name)

    def drawnResult(self, spec, reference, corner=(5, 6, 7)):
        """A result with known masks: the outermost region is one corner voxel and a block, inner ones parts of it."""
        masks = {}
        for n, region in enumerate(spec.regions):
            mask = np.zeros(reference.shape, bool)
            mask[1:4, 1 : 5 - n, 1:5] = True
            masks[region.id] = mask
        masks[spec.regions[0].id][corner] = True
        volumes = {name: mask.sum() * reference.voxel_volume_ml for name, mask in masks.items()}
        return SimpleNamespace(
            spec=spec,
            reference=reference,
            masks=masks,
            volumes_ml=volumes,
            volume_ranges_ml={name: (volume, volume) for name, volume in volumes.items()},
            confidence=dict.fromkeys(masks, 0.9),
            seconds={"network": 0.0},
            device="test",
            notes=(),
        )

    def drawnLogic(self):
        """A logic that computes nothing and answers with `drawnResult`."""

        def run(folder, volumes, device, progress=None, cancelled=None):
            entry = choose_model(DanteSegmenterLogic().models(), folder)
            pathway, _notes = choose_pathway(entry.spec, volumes)
            return self.drawnResult(entry.spec, volumes[pathway.modalities[0]])

        return DanteSegmenterLogic(run)

    def drawnInputs(self, spec):
        return {modality: self.drawnVolume(modality) for modality in spec.limited.modalities}

    def spec(self):
        return choose_model(DanteSegmenterLogic().models()).spec

    def maskOf(self, output, region, reference):
        segmentId = ourSegments(output)[region.id]
        return slicer.util.arrayFromSegmentBinaryLabelmap(output, segmentId, reference).astype(bool)

    # Tests

    def test_aCornerVoxelLandsWhereItMust(self):
        spec = self.spec()
        inputs = self.drawnInputs(spec)
        reference = inputs[spec.limited.modalities[0]]
        output = self.drawnLogic().segment(inputs)
        outer = spec.regions[0]
        mask = self.maskOf(output, outer, reference)
        self.assertTrue(mask[5, 6, 7])
        self.assertEqual(int(mask.sum()), 3 * 4 * 4 + 1)
        # By hand, from the matrix of drawnVolume: (i, j, k) = (7, 6, 5) lies at RAS (-1, -7.6, 23.3) mm. On a grid of
        # 0.5 mm around that point the voxel's 9 mm3 are 72 voxels with the point in their midst, and nothing else.
        around = np.diag([0.5, 0.5, 0.5, 1.0])
        around[:3, 3] = np.array([-1, -7.6, 23.3]) - 5
        probe = slicer.util.addVolumeFromArray(np.zeros((21, 21, 21), np.uint8), around, "probe")
        seen = self.maskOf(output, outer, probe)
        self.assertTrue(seen[10, 10, 10])
        self.assertAlmostEqual(int(seen.sum()), 72, delta=12)
        np.testing.assert_allclose(np.argwhere(seen).mean(axis=0), (10, 10, 10), atol=1)

    def test_segmentsAreNestedAndNoneEatsAnother(self):
        spec = self.spec()
        inputs = self.drawnInputs(spec)
        reference = inputs[spec.limited.modalities[0]]
        logic = self.drawnLogic()
        for _run in range(2):
            output = logic.segment(inputs)
            for region in spec.regions:
                expected = self.drawnResult(spec, volumeFromNode(reference)).masks[region.id]
                np.testing.assert_array_equal(self.maskOf(output, region, reference), expected)
        self.assertEqual(output.GetSegmentation().GetNumberOfLayers(), len(spec.regions))

    def test_segmentsHaveNamesColoursAndCodes(self):
        spec = self.spec()
        output = self.drawnLogic().segment(self.drawnInputs(spec))
        segmentation = output.GetSegmentation()
        self.assertEqual(segmentation.GetNumberOfSegments(), len(spec.regions))
        for n, region in enumerate(spec.regions):
            segment = segmentation.GetNthSegment(n)
            self.assertEqual(segment.GetName(), region.name)
            np.testing.assert_allclose(segment.GetColor(), region.color, atol=1e-6)
            code = vtk.reference("")
            self.assertTrue(segment.GetTag(segment.GetTerminologyEntryTagName(), code))
            self.assertEqual(len(str(code).split("~")), 7)
            self.assertIn(region.terminology.type.value, str(code))
        self.assertIsNotNone(output.GetDisplayNode())

    def test_volumesAreInMillilitres(self):
        spec = self.spec()
        output = self.drawnLogic().segment(self.drawnInputs(spec))
        # By hand: drawnVolume's voxel is 1.5 x 2 x 3 = 9 mm3; 3 * 4 * 4 + 1 = 49 voxels are 0.441 mL.
        rows = readTable(output.GetNodeReference(TABLE_ROLE))
        self.assertEqual([row[0] for row in rows], [region.name for region in spec.regions])
        self.assertAlmostEqual(rows[0][1], 0.441, places=6)

    def test_runningTwiceReplacesOurSegmentsAndTouchesNoOthers(self):
        spec = self.spec()
        inputs = self.drawnInputs(spec)
        reference = inputs[spec.limited.modalities[0]]
        theirs = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", "drawn by the user")
        other = self.drawnVolume("what the user drew on")
        theirs.SetReferenceImageGeometryParameterFromVolumeNode(other)
        theirs.GetSegmentation().AddEmptySegment(spec.regions[0].id, "mine", (0.1, 0.2, 0.3))
        drawn = np.zeros((6, 7, 8), np.uint8)
        drawn[0:3, 0:3, 0:3] = 1
        slicer.util.updateSegmentBinaryLabelmapFromArray(drawn, theirs, spec.regions[0].id, reference)
        logic = self.drawnLogic()
        first, second = logic.segment(inputs), logic.segment(inputs)
        self.assertIs(first, second)
        self.assertIsNot(first, theirs)
        self.assertEqual(first.GetSegmentation().GetNumberOfSegments(), len(spec.regions))
        self.assertEqual(slicer.mrmlScene.GetNumberOfNodesByClass("vtkMRMLTableNode"), 1)
        # Into the user's own node only when told, twice: their segment stays as it is, ours come beside it once.
        with self.assertRaisesRegex(InputError, "'mine', which this module did not make"):
            logic.segment(inputs, outputSegmentation=theirs)
        for _run in range(2):
            logic.segment(inputs, outputSegmentation=theirs, confirmed=True)
        self.assertEqual(theirs.GetSegmentation().GetNumberOfSegments(), 1 + len(spec.regions))
        kept = slicer.util.arrayFromSegmentBinaryLabelmap(theirs, spec.regions[0].id, reference)
        np.testing.assert_array_equal(kept, drawn)
        self.assertIs(referenceOf(theirs), other)
        self.assertEqual(theirs.GetSegmentation().GetSegment(spec.regions[0].id).GetName(), "mine")

    def test_linearTransformsAreHonouredAndOthersRefused(self):
        spec = self.spec()
        inputs = self.drawnInputs(spec)
        before = self.drawnLogic().segment(inputs)
        inner = ourSegments(before)[spec.regions[-1].id]
        x, y, z = before.GetSegmentCenterRAS(inner)
        slicer.mrmlScene.RemoveNode(before)
        transform = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode", "moved")
        matrix = vtk.vtkMatrix4x4()  # a quarter turn about S and a shift: (x, y, z) -> (10 - y, x, z + 4)
        for row, values in enumerate(((0, -1, 0, 10), (1, 0, 0, 0), (0, 0, 1, 4))):
            for column, value in enumerate(values):
                matrix.SetElement(row, column, value)
        transform.SetMatrixTransformToParent(matrix)
        for node in inputs.values():
            node.SetAndObserveTransformNodeID(transform.GetID())
        first = volumeFromNode(inputs[spec.limited.modalities[0]])
        np.testing.assert_allclose(first.ijk_to_ras[:3, 3], (10 + 7, 11, 5 + 4))
        after = self.drawnLogic().segment(inputs)
        moved = after.GetSegmentCenterRAS(ourSegments(after)[spec.regions[-1].id])
        np.testing.assert_allclose(moved, (10 - y, x, z + 4), atol=1e-4)
        bent = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLBSplineTransformNode", "bent")
        bent.SetAndObserveTransformToParent(self.nonLinearTransform())
        inputs[spec.limited.modalities[0]].SetAndObserveTransformNodeID(bent.GetID())
        with self.assertRaisesRegex(InputError, "non-linear transform 'bent'"):
            self.drawnLogic().segment(inputs)

    def nonLinearTransform(self):
        transform = vtk.vtkThinPlateSplineTransform()
        source, target = vtk.vtkPoints(), vtk.vtkPoints()
        for n, point in enumerate(((0, 0, 0), (10, 0, 0), (0, 10, 0), (0, 0, 10), (10, 10, 10))):
            source.InsertNextPoint(point)
            target.InsertNextPoint([part + (n % 2) for part in point])
        transform.SetSourceLandmarks(source)
        transform.SetTargetLandmarks(target)
        transform.SetBasisToR()
        return transform

    def test_whatCannotBeSegmentedIsRefusedByName(self):
        spec = self.spec()
        inputs = self.drawnInputs(spec)
        first = spec.limited.modalities[0]
        with self.assertRaisesRegex(InputError, f"missing: {first}"):
            self.drawnLogic().segment({**inputs, first: None})
        empty = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "no image")
        with self.assertRaisesRegex(InputError, "'no image' holds no image"):
            self.drawnLogic().segment({**inputs, first: empty})
        colour = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLVectorVolumeNode", "colour")
        image = vtk.vtkImageData()
        image.SetDimensions(4, 4, 4)
        image.AllocateScalars(vtk.VTK_UNSIGNED_CHAR, 3)
        colour.SetAndObserveImageData(image)
        with self.assertRaisesRegex(InputError, "'colour' has 3 values per voxel"):
            self.drawnLogic().segment({**inputs, first: colour})
        self.assertEqual(slicer.mrmlScene.GetNumberOfNodesByClass("vtkMRMLSegmentationNode"), 0)

    def test_theResultStandsBesideItsVolumeAndIsShownOverIt(self):
        spec = self.spec()
        inputs = self.drawnInputs(spec)
        reference = inputs[spec.limited.modalities[0]]
        study = makeStudy("A patient", "A study", list(inputs.values()))
        output = self.drawnLogic().segment(inputs)
        hierarchy = slicer.mrmlScene.GetSubjectHierarchyNode()
        self.assertEqual(hierarchy.GetItemParent(hierarchy.GetItemByDataNode(output)), study)
        for view in slicer.util.getNodesByClass("vtkMRMLSliceCompositeNode"):
            self.assertEqual(view.GetBackgroundVolumeID(), inputs.get("flair", reference).GetID())
        self.assertTrue(output.GetSegmentation().ContainsRepresentation("Closed surface"))

    def test_ofTwoPatientsOnlyTheOneThatIsShownIsSeen(self):
        spec, logic = self.spec(), self.drawnLogic()
        first, second = logic.segment(self.drawnInputs(spec)), logic.segment(self.drawnInputs(spec))
        self.assertFalse(first.GetDisplayVisibility())
        self.assertTrue(second.GetDisplayVisibility())
        showOnly(first)
        self.assertTrue(first.GetDisplayVisibility())
        self.assertFalse(second.GetDisplayVisibility())

    def test_correctingASegmentErasesNoneOfThoseInsideItAndTheTableFollows(self):
        if not hasattr(slicer, "vtkSlicerSegmentEditorLogic"):
            logging.warning("this Slicer has no logic of the Segment Editor; editing was not tested")
            return
        spec = self.spec()
        inputs = self.drawnInputs(spec)
        output = self.drawnLogic().segment(inputs)
        reference = inputs[spec.limited.modalities[0]]
        openEditor(output)
        self.growSelected(slicer.util.getModuleWidget("SegmentEditor").editor, np.s_[0:5, 0:6, 0:6])
        counts = [int(self.maskOf(output, region, reference).sum()) for region in spec.regions]
        # The block of 5 x 6 x 6 voxels and the corner; what lies inside it is as drawnResult made it.
        self.assertEqual(counts, [181, *(3 * 4 * (4 - n) for n in range(1, len(spec.regions)))])
        self.assertTrue(followEdits(output))
        rows = readTable(output.GetNodeReference(TABLE_ROLE))
        self.assertEqual([row.edited for row in rows], [True] + [False] * (len(rows) - 1))
        self.assertAlmostEqual(rows[0].volume, 181 * 0.009, places=6)
        self.assertAlmostEqual(rows[0].modelVolume, 49 * 0.009, places=6)

    def growSelected(self, editor, voxels):
        """What painting comes to: Slicer's own logic, with the choices of the editor that the button opened."""
        choices, logic = editor.mrmlSegmentEditorNode(), slicer.vtkSlicerSegmentEditorLogic()
        logic.SetMRMLScene(slicer.mrmlScene)
        logic.SetSegmentEditorNode(choices)
        logic.UpdateReferenceGeometryImage()
        logic.ResetModifierLabelmapToDefault()
        image = logic.GetModifierLabelmap()
        array = vtk.util.numpy_support.vtk_to_numpy(image.GetPointData().GetScalars())
        array.reshape(tuple(reversed(image.GetDimensions())))[voxels] = 1
        image.Modified()
        logic.UpdateMaskLabelmap()
        output, selected = choices.GetSegmentationNode(), choices.GetSelectedSegmentID()
        logic.ModifySegmentByLabelmap(output, selected, image, logic.ModificationModeAdd, False, False)

    def openWindow(self):
        """The module's window over the scene, and volumes for it with the names of their modalities."""
        widget = slicer.util.getModuleWidget("DanteSegmenter")
        widget.enter()
        nodes = {modality: self.drawnVolume(modality) for modality in widget._inputSelectors}
        slicer.app.processEvents()
        for modality, selector in widget._inputSelectors.items():
            selector.setCurrentNode(nodes[modality])
        self.assertTrue(widget.ui.segmentButton.enabled)
        return widget, nodes

    def test_deletingAVolumeEmptiesItsBoxAndPutsNoOtherThere(self):
        widget, nodes = self.openWindow()
        first = widget.model().spec.limited.modalities[0]
        slicer.mrmlScene.RemoveNode(nodes.pop(first))
        slicer.app.processEvents()
        self.assertIsNone(widget._inputSelectors[first].currentNode())
        self.assertIsNone(widget._parameterNode.inputVolume(first))
        self.assertEqual(widget.inputs(), nodes)
        self.assertFalse(widget.ui.segmentButton.enabled)

    def test_deletingTheResultMakesNoOtherSegmentationTheOutput(self):
        widget, nodes = self.openWindow()
        spec = widget.model().spec
        for name in ("before", "after"):
            theirs = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", f"drawn {name} ours")
            theirs.GetSegmentation().AddEmptySegment("mine", "mine")
            if name == "before":
                output = self.drawnLogic().segment({m: nodes[m] for m in spec.limited.modalities})
        widget._parameterNode.outputSegmentation = output
        self.assertIs(widget.ui.outputSelector.currentNode(), output)
        slicer.mrmlScene.RemoveNode(output)
        slicer.app.processEvents()
        self.assertIsNone(widget.output())
        self.assertIsNone(widget.ui.outputSelector.currentNode())

    def test_theWindowFollowsTheParameterNode(self):
        widget = slicer.util.getModuleWidget("DanteSegmenter")
        widget.enter()
        parameters = widget._parameterNode
        parameters.show3D = False
        self.assertFalse(widget.ui.show3DCheckBox.checked)
        widget.ui.show3DCheckBox.checked = True
        self.assertTrue(parameters.show3D)
        parameters.device = Device.CPU
        self.assertEqual(widget.ui.deviceSelector.currentIndex, list(Device).index(Device.CPU))
        self.assertFalse(widget.ui.segmentButton.enabled)
        modality = widget.model().spec.limited.modalities[0]
        self.assertIn(widget.model().spec.modality(modality).label, widget.ui.segmentButton.toolTip)
        node = self.drawnVolume("anything")
        parameters.setInputVolume(modality, node)
        self.assertIs(widget._inputSelectors[modality].currentNode(), node)

    def test_theSamplePatientIsSegmented(self):
        if not requirements.is_installed(requirements.TORCH):
            logging.warning("torch is not installed: the network itself was not tested")
            return
        nodes = loadSamplePatient(spacingMm=self.SAMPLE_SPACING_MM)
        spec = self.spec()
        output = DanteSegmenterLogic().segment({m: nodes[m] for m in spec.limited.modalities}, device="cpu")
        reference = nodes[spec.limited.modalities[0]]
        masks = [self.maskOf(output, region, reference) for region in spec.regions]
        for outer, inner in zip(masks, masks[1:]):
            self.assertFalse((inner & ~outer).any())
        rows = readTable(output.GetNodeReference(TABLE_ROLE))
        for mask, row in zip(masks, rows):
            self.assertAlmostEqual(row[1], mask.sum() * self.SAMPLE_SPACING_MM**3 / 1000, places=3)
        if choose_model(DanteSegmenterLogic().models()).key == "brats-without-t1ce":
            from DanteSegmenterLib.synthetic.sample import brain_mr

            truth = brain_mr(seed=0, spacing_mm=self.SAMPLE_SPACING_MM).labels.array > 0
            self.assertGreater(2 * (masks[0] & truth).sum() / (masks[0].sum() + truth.sum()), 0.5)  # Dice
