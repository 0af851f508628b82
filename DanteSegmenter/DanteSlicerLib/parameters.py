"""The window's choices that are saved with the scene, and the display names of devices."""

from enum import Enum
from typing import TYPE_CHECKING, Annotated

import slicer
from slicer import vtkMRMLScalarVolumeNode, vtkMRMLSegmentationNode
from slicer.i18n import tr as _
from slicer.parameterNodeWrapper import WithinRange, parameterNodeWrapper

INPUT_ROLE = "DanteSegmenter.Input."  # also on a result: the volumes it was made from
MASK_ROLE = "DanteSegmenter.BrainMask"
ADDED_MODELS_SETTING = "DanteSegmenter/AddedModels"
# The chosen host and those used before, each with its Python. Kept in the user's settings, not in the scene: a scene
# from someone else must not decide where volumes are sent.
HOST_SETTING = "DanteSegmenter/Host"
HOSTS_SETTING = "DanteSegmenter/Hosts"


class Device(Enum):
    """The devices offered in the window."""

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
    """Replace device ids in a library message by the names used in the window."""
    for device in Device:
        message = message.replace(f"'{device.value}'", f"'{device.label()}'")
    return message


def deviceName(device: str) -> str:
    """E.g. "Processor (CPU), bfloat16, at host" for "cpu (bfloat16) at host"; unknown devices stay unchanged."""
    here, _at, host = device.partition(" at ")
    kind, _space, numbers = here.partition(" ")
    names = {known.value: known.label() for known in Device}
    if kind not in names:
        return device
    where = [_("at {host}").format(host=host)] if host else []
    return ", ".join([names[kind], *([numbers.strip("()")] if numbers else []), *where])


@parameterNodeWrapper
class DanteSegmenterParameterNode:
    """The choices in the window, saved with the scene.

    model: key of a model, see `model_folder.library`; empty if none was chosen yet.
    device: where to run the network.
    show3D: whether to create surfaces.
    showProbabilities: whether to add probability volumes and overlay them on the slices.
    mirror: whether to average predictions over mirrored images.
    prepare: whether to align the volumes and extract the brain first, as raw studies need it.
    outputSegmentation: node for the result; None for a new node, or the latest result for the same volume.
    fill: opacity of the segments' fill in the slices; 0 for outlines only.
    centred3D: whether the 3D view was centred on a result in this scene; after that the camera is left alone.

    The modalities depend on the model, so the input volumes are node references named after them.
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

    if TYPE_CHECKING:  # added by the decorator
        parameterNode: slicer.vtkMRMLScriptedModuleNode

        def __init__(self, parameterNode: slicer.vtkMRMLScriptedModuleNode):
            pass

    def inputVolume(self, modality: str) -> vtkMRMLScalarVolumeNode | None:
        """The volume chosen for a modality."""
        return self.parameterNode.GetNodeReference(INPUT_ROLE + modality)

    def setInputVolume(self, modality: str, node: vtkMRMLScalarVolumeNode | None) -> None:
        self.parameterNode.SetNodeReferenceID(INPUT_ROLE + modality, node.GetID() if node else None)

    def brainMask(self) -> slicer.vtkMRMLNode | None:
        """Segmentation or label map that `prepare` uses instead of extracting the brain."""
        return self.parameterNode.GetNodeReference(MASK_ROLE)

    def setBrainMask(self, node: slicer.vtkMRMLNode | None) -> None:
        self.parameterNode.SetNodeReferenceID(MASK_ROLE, node.GetID() if node else None)
