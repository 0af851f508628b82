"""The section *Inputs*: the model, a box for every volume it reads, and whether they are prepared first."""

import time
from pathlib import Path
from typing import Any

import qt
import slicer
from slicer.i18n import tr as _

from DanteSegmenterLib.errors import DanteError
from DanteSegmenterLib.model_folder.about import about
from DanteSegmenterLib.model_folder.library import ModelEntry, find_models
from DanteSegmenterLib.nnunet import ImportProcess
from DanteSlicerLib.foreign_texts import plainLabel, toolTip
from DanteSlicerLib.sample_data import loadSamplePatient
from DanteSlicerLib.scene.studies import usedModalities, volumeNodes

IMPORT_POLL_MS = 300


class InputsPanel:
    """What is to be segmented, and with which model; the text about the model in its own section too.

    While nnU-Net's results are imported, the button that adds a model stops that, and the line below the list tells.
    """

    def __init__(self, ui, parent, choices, guesses, status, modelChanged, changed):
        """
        Args:
            parent: of dialogs.
            modelChanged: called when another model was chosen and its boxes are there.
            changed: called when the user has chosen a volume.
        """
        self.ui = ui
        self.selectors = {}  # by modality id
        self.guessLabels = {}
        self.offerLabels = {}
        self._parent = parent
        self._choices = choices
        self._guesses = guesses
        self._status = status
        self._modelChanged = modelChanged
        self._changed = changed
        self._models: tuple[ModelEntry, ...] = ()
        self._rows: Any = None  # the widget that holds the boxes
        self.modelInUse = lambda: False  # whether what goes on must not find another model half-way
        self._import: ImportProcess | None = None  # that is going on
        self._importBegun = 0.0
        self._adding = (ui.addModelButton.text, ui.addModelButton.toolTip)  # of the button at rest
        self._timer = qt.QTimer()
        self._timer.setInterval(IMPORT_POLL_MS)
        self._timer.timeout.connect(self.onTick)
        ui.maskSelector.setMRMLScene(slicer.mrmlScene)
        ui.maskSelector.connect("currentNodeChanged(vtkMRMLNode*)", self.onMaskChosen)
        ui.modalitiesFrame.setLayout(qt.QVBoxLayout())
        ui.modalitiesFrame.layout().setContentsMargins(0, 0, 0, 0)
        ui.modelSelector.connect("currentIndexChanged(int)", self.onModelChosen)
        ui.addModelButton.connect("clicked(bool)", self.onAddModel)
        ui.sampleLabel.connect("linkActivated(QString)", self.onLoadSample)

    def close(self):
        """End the import that is going on, and tell nobody."""
        self._timer.stop()
        process, self._import = self._import, None
        if process is not None:
            process.stop()

    # Model

    def updateModels(self):
        """Fill the list of models and select the scene's; one that is not there any more is listed as missing."""
        self._models = self._choices.logic.models()
        wanted = self._choices.parameters.model
        if wanted and wanted not in [entry.key for entry in self._models]:
            self._models += find_models([wanted], embedded=Path(wanted))
        with self._choices.change():
            self.ui.modelSelector.clear()
            for entry in self._models:
                self.ui.modelSelector.addItem(entry.title)
            usable = [n for n, entry in enumerate(self._models) if entry.spec]
            chosen = [n for n, entry in enumerate(self._models) if entry.key == wanted]
            self.ui.modelSelector.setCurrentIndex((chosen or usable or [0])[0] if self._models else -1)
        self.onModelChosen()

    def onModelChosen(self, index=None):
        if not self._choices.areTheUsers():
            return
        index = self.ui.modelSelector.currentIndex
        entry = self._models[index] if 0 <= index < len(self._models) else None
        self._choices.model = entry
        self.buildSelectors()  # before anybody is told: the window asks the boxes of the model that is chosen
        self._choices.parameters.model = entry.key if entry else ""
        self._modelChanged()

    def onAddModel(self):
        if self.importing:
            self._atRest().stop()
            self._status.show(_("Stopped; no model was added."))
            return
        title = _("A model: its model.json, a zip file, or the plans.json of nnU-Net's results")
        kinds = _("Models (model.json *.zip plans.json)")
        chosen = qt.QFileDialog.getOpenFileName(self._parent, title, "", kinds)
        path = chosen if isinstance(chosen, str) else chosen[0]  # PythonQt gives the path alone, PySide also the kind
        if path:
            self.addModel(path if path.lower().endswith(".zip") else str(Path(path).parent))

    def addModel(self, folder):
        """Add a folder or zip file to the list and choose it, or say why not; nnU-Net's results some seconds later."""
        if not self.importing:
            self.tryToAdd(lambda: self._add(folder))

    def _add(self, folder):
        logic = self._choices.logic
        self._import = logic.beginImport(folder)
        if self._import is None:
            self.choose(logic.addModel(folder))
            return
        self._importBegun = time.monotonic()
        self.ui.addModelButton.text = _("Stop")
        self.ui.addModelButton.toolTip = _("Stop the import; no model is added.")
        self._status.show(_("Importing what nnU-Net trained..."))
        self._timer.start()
        self.onTick()

    @property
    def importing(self):
        return self._import is not None

    def onTick(self):
        """Look after the import now and then."""
        if self._import is None:
            return
        if self._import.running:
            self.ui.modelInfoLabel.text = self.modelInfo()
            return
        process = self._atRest()  # before anything is said: a dialog lets the timer go on
        try:
            self.tryToAdd(lambda: self.choose(self._choices.logic.rememberModel(process.result())))
        finally:
            process.stop()

    def _atRest(self):
        """The import that was going on; the window does not speak of it any more."""
        process, self._import = self._import, None
        self._timer.stop()
        self.ui.addModelButton.text, self.ui.addModelButton.toolTip = self._adding
        self.ui.modelInfoLabel.text = self.modelInfo()
        return process

    def choose(self, entry):
        """Have an added model in the list, and choose it; also while another module is shown."""
        inUse = self.modelInUse()
        if not inUse:
            self._choices.logic.getParameterNode().model = entry.key
        if self._choices.parameters is not None:
            self.updateModels()
        if inUse:
            self._status.show(_("{model} is in the list of models now.").format(model=entry.title))

    def tryToAdd(self, action):
        """Do something for a new model, or say why it could not be added."""
        refusal: DanteError | None = None
        try:
            with slicer.util.tryWithErrorDisplay(_("The model could not be added.")):
                try:
                    action()
                except DanteError as error:
                    refusal = error
        except Exception as error:  # a defect; tryWithErrorDisplay has shown it with its traceback
            self._status.tell(_("The model could not be added: {error}").format(error=error))
            raise
        if refusal is not None:
            self._status.tell(refusal)

    # Boxes

    def buildSelectors(self):
        """One row for every modality of the model: label, node selector, and a word where the choice is a guess."""
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
        selector.showChildNodeTypes = False  # no label maps, no vector volumes
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
        """What to do when the user chooses a volume for `modality`."""

        def chosen(node):
            if not self._choices.areTheUsers():
                return
            self._guesses.choseByHand(modality)
            self._choices.parameters.setInputVolume(modality, node)
            self._guesses.followReference()
            self._changed()

        return chosen

    def offerTaken(self, modality):
        """What to do when the user wants the volume too that is loaded and left out."""

        def taken(link=None):
            node = self._guesses.offered(modality)
            if node is not None:
                self.selectors[modality].setCurrentNode(node)

        return taken

    def onMaskChosen(self, node):
        if self._choices.areTheUsers():
            self._choices.parameters.setBrainMask(node)

    def nodeLeaves(self, node):
        """Empty the boxes of a node that is being deleted, before they move on to another with a choice's signal."""
        parameters = self._choices.parameters  # None while another module is shown: the scene empties what is saved
        for modality, selector in self.selectors.items():
            if selector.currentNode() is node:
                if parameters is not None:
                    parameters.setInputVolume(modality, None)
                selector.setCurrentNode(None)
                self._guesses.volumeLeaves(modality)
        if self.ui.maskSelector.currentNode() is node:
            if parameters is not None:
                parameters.setBrainMask(None)
            self.ui.maskSelector.setCurrentNode(None)

    def onLoadSample(self, link=None):
        with slicer.util.tryWithErrorDisplay(_("The sample patient could not be made."), waitCursor=True):
            loadSamplePatient()

    # State

    def update(self):
        """Bring the section into agreement with the scene's choices."""
        parameters = self._choices.parameters
        with self._choices.change():
            for modality, selector in self.selectors.items():
                selector.setCurrentNode(parameters.inputVolume(modality))
                self.guessLabels[modality].setVisible(self._guesses.isGuess(modality))
            self.updateOffers()
            self.updatePrepare()
            self.ui.maskSelector.setCurrentNode(parameters.brainMask())
        self.ui.maskFrame.setVisible(bool(parameters.prepare))
        self.ui.modelInfoLabel.text = self.modelInfo()
        self.ui.aboutLabel.text = about(self._choices.spec) if self._choices.spec else ""
        self.ui.aboutCollapsibleButton.setVisible(bool(self.ui.aboutLabel.text))
        self.ui.sampleLabel.setVisible(not volumeNodes())

    def updateOffers(self):
        for modality, label in self.offerLabels.items():
            offered = self._guesses.offered(modality)
            label.setVisible(offered is not None)
            if offered is not None:
                hint = _("'{name}' is loaded and not used. Click to use it too; the model has a network for that.")
                label.setToolTip(toolTip(hint.format(name=offered.GetName())))

    def updatePrepare(self):
        """*Prepare* can be ticked for a model that reads brains without skull, and is off for any other."""
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

    def modelInfo(self):
        if self.importing:
            seconds = time.monotonic() - self._importBegun
            return _("Importing what nnU-Net trained: {seconds:.0f} s so far.").format(seconds=seconds)
        entry, spec = self._choices.model, self._choices.spec
        if spec is None:
            return entry.problem if entry else ""
        regions = ", ".join(region.name for region in spec.regions)
        return _("Finds {regions}. {use}").format(regions=regions, use=spec.intended_use)
