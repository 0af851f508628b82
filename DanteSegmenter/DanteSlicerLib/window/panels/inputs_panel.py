"""The section *Inputs* below the model: a box per input volume, and whether the volumes are prepared first."""

from typing import Any

import qt
import slicer
from slicer.i18n import tr as _

from DanteSlicerLib.foreign_texts import plainLabel, toolTip
from DanteSlicerLib.sample_data import loadSamplePatient
from DanteSlicerLib.scene.studies import usedModalities, volumeNodes


class InputsPanel:
    """Selects the input volumes."""

    def __init__(self, ui, choices, guesses, changed):
        """
        Args:
            changed: called when the user has chosen a volume.
        """
        self.ui = ui
        self.selectors = {}  # by modality id
        self.guessLabels = {}
        self.offerLabels = {}
        self._choices = choices
        self._guesses = guesses
        self._changed = changed
        self._rows: Any = None  # the widget that holds the boxes
        ui.maskSelector.setMRMLScene(slicer.mrmlScene)
        ui.maskSelector.connect("currentNodeChanged(vtkMRMLNode*)", self.onMaskChosen)
        ui.modalitiesFrame.setLayout(qt.QVBoxLayout())
        ui.modalitiesFrame.layout().setContentsMargins(0, 0, 0, 0)
        ui.sampleLabel.connect("linkActivated(QString)", self.onLoadSample)

    # Boxes

    def buildSelectors(self):
        """Create a row per modality of the model: label, node selector, and a mark for guesses."""
        if self._rows is not None:
            self._rows.setParent(None)
            self._rows.deleteLater()
        self._rows = qt.QWidget()
        self.ui.modalitiesFrame.layout().addWidget(self._rows)
        layout = qt.QFormLayout(self._rows)
        layout.setContentsMargins(0, 0, 0, 0)
        self.selectors, self.guessLabels, self.offerLabels = {}, {}, {}
        spec = self._choices.spec
        for modality in usedModalities(spec) if spec else ():
            needed = modality.id in spec.limited.modalities
            selector = self.makeSelector(modality.id)
            guess = qt.QLabel(_("guessed"))
            guess.setStyleSheet("color: gray; font-style: italic;")
            guess.setToolTip(_("Taken from the volume's name. Choose another volume if it is the wrong one."))
            guess.setVisible(False)
            row = qt.QHBoxLayout()
            row.addWidget(selector, 1)
            row.addWidget(guess)
            if modality.id == spec.privileged:
                self.offerLabels[modality.id] = offer = qt.QLabel(f'<a href="use">{_("use it")}</a>')
                offer.connect("linkActivated(QString)", self.offerTaken(modality.id))
                offer.setVisible(False)
                row.addWidget(offer)
            title = _("{label}:") if needed else _("{label} (optional):")
            layout.addRow(plainLabel(title.format(label=modality.label)), row)
            self.selectors[modality.id], self.guessLabels[modality.id] = selector, guess

    def makeSelector(self, modality):
        selector = slicer.qMRMLNodeComboBox()
        selector.nodeTypes = ["vtkMRMLScalarVolumeNode"]
        selector.showChildNodeTypes = False  # exclude label maps and vector volumes
        selector.noneEnabled = True
        selector.addEnabled = False
        selector.removeEnabled = False
        selector.selectNodeUponCreation = False
        selector.setSizePolicy(qt.QSizePolicy.Ignored, qt.QSizePolicy.Fixed)  # a long name must not widen the panel
        selector.setMRMLScene(slicer.mrmlScene)
        selector.setCurrentNode(self._choices.parameters.inputVolume(modality))
        selector.connect("currentNodeChanged(vtkMRMLNode*)", self.inputChosen(modality))
        return selector

    def inputChosen(self, modality):
        """A callback for the user's choice of a volume for `modality`."""

        def chosen(node):
            if not self._choices.areByUser():
                return
            self._guesses.noteManualChoice(modality)
            self._choices.parameters.setInputVolume(modality, node)
            self._guesses.followReference()
            self._changed()

        return chosen

    def offerTaken(self, modality):
        """A callback for the user's wish to add the loaded but unused volume of `modality`."""

        def taken(link=None):
            node = self._guesses.offered(modality)
            if node is not None:
                self.selectors[modality].setCurrentNode(node)

        return taken

    def onMaskChosen(self, node):
        if self._choices.areByUser():
            self._choices.parameters.setBrainMask(node)

    def nodeAboutToBeRemoved(self, node):
        """Empty the boxes of a node that is being deleted, before they switch to another node and signal a choice."""
        parameters = self._choices.parameters  # None while another module is shown: the scene clears the choice
        for modality, selector in self.selectors.items():
            if selector.currentNode() is node:
                if parameters is not None:
                    parameters.setInputVolume(modality, None)
                selector.setCurrentNode(None)
                self._guesses.volumeAboutToBeRemoved(modality)
        if self.ui.maskSelector.currentNode() is node:
            if parameters is not None:
                parameters.setBrainMask(None)
            self.ui.maskSelector.setCurrentNode(None)

    def onLoadSample(self, link=None):
        with slicer.util.tryWithErrorDisplay(_("The sample patient could not be made."), waitCursor=True):
            loadSamplePatient()

    # State

    def update(self):
        """Update the section from the scene's choices."""
        parameters = self._choices.parameters
        with self._choices.change():
            for modality, selector in self.selectors.items():
                selector.setCurrentNode(parameters.inputVolume(modality))
                self.guessLabels[modality].setVisible(self._guesses.isGuess(modality))
            self.updateOffers()
            self.updatePrepare()
            self.ui.maskSelector.setCurrentNode(parameters.brainMask())
        self.ui.maskFrame.setVisible(bool(parameters.prepare))
        self.ui.sampleLabel.setVisible(not volumeNodes())

    def updateOffers(self):
        for modality, label in self.offerLabels.items():
            offered = self._guesses.offered(modality)
            label.setVisible(offered is not None)
            if offered is not None:
                hint = _("'{name}' is loaded and not used. Click to use it too; the model has a network for that.")
                label.setToolTip(toolTip(hint.format(name=offered.GetName())))

    def updatePrepare(self):
        """Enable *Prepare* only for models that read skull-stripped brains."""
        spec = self._choices.spec
        able = spec is not None and spec.skull_stripped
        if spec is not None and not able and self._choices.parameters.prepare:
            self._choices.parameters.prepare = False
        self.ui.prepareCheckBox.enabled = able
        self.ui.prepareCheckBox.toolTip = (
            _(
                "For studies as they come from the scanner: every volume is aligned with the first, and the brain is "
                "cut out of the head (deepbet)."
            )
            if able
            else _("The chosen model does not read MR of the brain: there is nothing to align or to cut out for it.")
        )
