"""The window's current choices and what follows from them, shared by the panels, which do not know each other."""

from contextlib import contextmanager
from typing import Any

import slicer
from slicer.i18n import tr as _

from DanteSegmenterLib.errors import ConfigError
from DanteSegmenterLib.host.address import parse_host
from DanteSegmenterLib.model_folder import choose_pathway
from DanteSegmenterLib.model_folder.library import ModelEntry
from DanteSlicerLib.foreign_texts import nodeName
from DanteSlicerLib.scene.studies import usedModalities


class Choices:
    """
    logic: runs the segmentation and lists the models.
    parameters: the scene's parameter node; None while another module is shown.
    model: entry of the chosen model, or None.
    host: the remote computer as typed by the user; empty for this one. Not saved in the scene.
    hostPython: command for the remote Python; empty for the default.
    changing: whether the window is updating its own widgets; their signals are then not user choices.
    """

    def __init__(self):
        self.logic: Any = None  # until the window's `setup`
        self.parameters: Any = None
        self.model: ModelEntry | None = None
        self.host = ""
        self.hostPython = ""
        self.changing = False

    @contextmanager
    def change(self):
        """Context in which the window updates its own widgets."""
        before, self.changing = self.changing, True
        try:
            yield
        finally:
            self.changing = before

    def areByUser(self):
        """Whether a signal of a widget is a choice of the user."""
        return not self.changing and self.parameters is not None

    @property
    def spec(self):
        """The spec of the chosen model; None while no usable model is chosen."""
        return self.model.spec if self.model else None

    def modalities(self):
        """The ids of the modalities that the chosen model can use."""
        return [modality.id for modality in usedModalities(self.spec)] if self.spec else []

    def inputs(self):
        """The chosen volume nodes by modality id, without empty choices."""
        nodes = {modality: self.parameters.inputVolume(modality) for modality in self.modalities()}
        return {modality: node for modality, node in nodes.items() if node is not None}

    def referenceVolume(self):
        """The volume whose grid the result will use, or None if it is not chosen yet."""
        spec, inputs = self.spec, self.inputs()
        if spec is None:
            return None
        missing = set(spec.limited.modalities) - set(inputs)
        pathway = spec.limited if missing else choose_pathway(spec, inputs)[0]
        return inputs.get(pathway.modalities[0])

    def output(self):
        """The chosen output node; None if none is chosen or it was deleted."""
        node = self.parameters.outputSegmentation
        return node if node is not None and slicer.mrmlScene.IsNodePresent(node) else None

    def whatIsMissing(self):
        """Why Segment is disabled; empty if it is enabled."""
        if self.model is None:
            return _("There is no model. Add a model folder with the button beside the list.")
        spec = self.spec
        if spec is None:
            return self.model.problem
        inputs = self.inputs()
        missing = [spec.modality(m).label for m in spec.limited.modalities if m not in inputs]
        if missing:
            return _("Choose the volumes for: {missing}.").format(missing=", ".join(missing))
        for node in inputs.values():
            twins = [spec.modality(m).label for m, other in inputs.items() if other is node]
            if len(twins) > 1:
                return _("'{name}' is chosen for {labels}; each needs a volume of its own.").format(
                    name=nodeName(node), labels=_(" and ").join(twins)
                )
        return self.whatIsWrongWithHost()

    def whatIsWrongWithHost(self):
        """Why the chosen host cannot be used; empty if it can, or if none is chosen."""
        try:
            self.computer()
        except ConfigError as error:
            return str(error)
        return ""

    def computer(self):
        """The chosen remote computer; None for this one.

        Raises:
            ConfigError: the text is not a valid host.
        """
        return parse_host(self.host, self.hostPython) if self.host else None
