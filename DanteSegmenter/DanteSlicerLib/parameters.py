"""The choices of the window that are saved with the scene, and how it calls the devices."""

from enum import Enum
from typing import TYPE_CHECKING, Annotated

import slicer
from slicer import vtkMRMLScalarVolumeNode, vtkMRMLSegmentationNode
from slicer.i18n import tr as _
from slicer.parameterNodeWrapper import WithinRange, parameterNodeWrapper

INPUT_ROLE = "DanteSegmenter.Input."  # and of a result: the volumes it was made from
MASK_ROLE = "DanteSegmenter.BrainMask"
ADDED_MODELS_SETTING = "DanteSegmenter/AddedModels"
# The computer that computes, and those that did, each with its Python. Among the user's settings and not in the scene:
# a scene of somebody else's must not say where volumes are sent.
HOST_SETTING = "DanteSegmenter/Host"
HOSTS_SETTING = "DanteSegmenter/Hosts"


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
    """Such as "Processor (CPU), bfloat16, at host" of "cpu (bfloat16) at host"; an unknown device stays as it is."""
    here, _at, host = device.partition(" at ")
    kind, _space, numbers = here.partition(" ")
    names = {known.value: known.label() for known in Device}
    if kind not in names:
        return device
    where = [_("at {host}").format(host=host)] if host else []
    return ", ".join([names[kind], *([numbers.strip("()")] if numbers else []), *where])


@parameterNodeWrapper
class DanteSegmenterParameterNode:
    """The choices in the window; saved with the scene.

    model: key of a model, as `model_folder.library` gives it; empty for none chosen yet.
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

    if TYPE_CHECKING:  # what the decorator adds
        parameterNode: slicer.vtkMRMLScriptedModuleNode

        def __init__(self, parameterNode: slicer.vtkMRMLScriptedModuleNode):
            pass

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
