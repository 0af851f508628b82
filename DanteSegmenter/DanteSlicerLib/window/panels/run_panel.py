"""The Segment button and the widgets below it: progress, warnings and the status line."""

import qt
from slicer.i18n import tr as _

from DanteSegmenterLib.errors import Cancelled, InputError
from DanteSegmenterLib.guard.plain_text import one_line
from DanteSegmenterLib.result.regions import shows_whole_head
from DanteSlicerLib.foreign_texts import askYesNo, nodeName, showError, toolTip
from DanteSlicerLib.scene.read_nodes import volumeFromNode
from DanteSlicerLib.scene.results import usersWork
from DanteSlicerLib.scene.studies import patientOf
from DanteSlicerLib.scene.write_result import partsOfReport

ERROR_COLOR = "#c0392b"
WARNING_STYLE = "#warningFrame { background: #fff3cd; border: 1px solid #d39e00; border-radius: 3px; }"
WARNING_TEXT_STYLE = "color: #664d03;"  # readable on the yellow background, also in Slicer's dark theme
ICON_SIZE = 16
HOST_SHOWN = 30  # maximum length of a host name on the button


class StatusLine:
    """The status line below the button, shared by all panels."""

    def __init__(self, label):
        self._label = label

    def show(self, text, color="gray"):
        self._label.styleSheet = f"color: {color};"
        self._label.text = text

    def showError(self, message):
        """Show an error in the line and in a dialog, and log it without volume names."""
        self.show(message, ERROR_COLOR)
        showError(message, _("DANTE Segmenter"))

    def report(self, error, dialog=True):
        """Report why a run failed.

        Args:
            error: from `runner.attempt`.
            dialog: whether an expected error is shown in a dialog.
        """
        if isinstance(error, Cancelled):
            self.show(str(error))
        elif isinstance(error, str) or not dialog:  # an unexpected error was already shown in a dialog
            self.show(str(error), ERROR_COLOR)
        else:
            self.showError(str(error))


class RunPanel:
    """Starts runs with the chosen volumes, and shows the progress of every run as the runner's `watcher`."""

    def __init__(self, ui, choices, runner, status, starting, started, idle):
        """
        Args:
            starting: called when a run is about to start, which may take minutes if packages are installed first.
            started: called when a run has started.
            idle: called when a run has ended.
        """
        self.ui = ui
        self._choices = choices
        self._runner = runner
        self._status = status
        self._notifyStarting, self._notifyStarted, self._notifyIdle = starting, started, idle
        self._wholeHeads = {}
        ui.warningFrame.setStyleSheet(WARNING_STYLE)
        ui.warningLabel.setStyleSheet(WARNING_TEXT_STYLE)
        icon = qt.QApplication.style().standardIcon(qt.QStyle.SP_MessageBoxWarning)
        ui.warningIcon.setPixmap(icon.pixmap(ICON_SIZE, ICON_SIZE))
        ui.segmentButton.connect("clicked(bool)", self.onSegment)
        ui.cancelButton.connect("clicked(bool)", self.onCancel)

    # Runs started by this panel

    def onSegment(self, checked=False):
        if self._runner.running or self._runner.reserved or self._choices.whatIsMissing():
            return
        output = self._choices.output()
        work = usersWork(output) if output else ""
        if work and not self.asked(work):
            self._status.show(_("Nothing was changed. Choose another output segmentation, or (new segmentation)."))
            return
        self._runner.start(self, self._choices.inputs(), output, self._choices.parameters.brainMask())

    def asked(self, work):
        """Ask the user whether the result may be written into a node that holds their own work."""
        return askYesNo(work + _(" Go on?"), _("DANTE Segmenter"))

    def onCancel(self, checked=False):
        self._runner.cancel()

    def finished(self, job):
        """Nothing to do: the parameter node already holds the volumes."""

    def ended(self, error):
        if error is not None:
            self._status.report(error)

    # All runs

    def starting(self):
        self._status.show(_("Starting..."))
        self.ui.segmentButton.enabled = False
        self._notifyStarting()

    def started(self):
        self.ui.warningFrame.setVisible(False)  # it referred to the previous result
        self.ui.cancelButton.enabled = True
        self.ui.progressBar.value = 0
        self.ui.progressBar.visible = True
        self.ui.cancelButton.visible = True
        self._notifyStarted()

    def progressed(self, progress):
        if not self.ui.cancelButton.enabled:
            return  # stopping
        self.ui.progressBar.value = int(100 * progress.fraction)
        left = progress.seconds_left
        rest = "" if left is None else _(", about {seconds:.0f} s left").format(seconds=left)
        self._status.show(progress.message + rest)

    def finishing(self):
        self.ui.cancelButton.enabled = False

    def stopping(self):
        self.ui.cancelButton.enabled = False
        self._status.show(_("Stopping..."))

    def idle(self):
        """Hide the progress widgets after a run."""
        self.ui.progressBar.visible = False
        self.ui.cancelButton.visible = False
        self._notifyIdle()

    # Choices and results

    def updateButton(self):
        missing = self._choices.whatIsMissing()
        self.ui.segmentButton.enabled = not missing and not self._runner.running and not self._runner.reserved
        self.ui.segmentButton.text = self.buttonText()
        self.ui.segmentButton.toolTip = toolTip(missing or self._runner.reserved or _("Segment the chosen volumes."))
        if not self._runner.running:
            self._status.show(missing)

    def buttonText(self):
        """Include the host's name, so that nobody sends volumes there unknowingly."""
        if not self._choices.host or self._choices.whatIsWrongWithHost():
            return _("Segment")
        return _("Segment on {host}").format(host=one_line(self._choices.computer().name, HOST_SHOWN))

    def showDone(self):
        """Show that the chosen result is done, unless something else needs to be shown."""
        done, _warnings, _notes = partsOfReport(self._choices.output())
        if done and not self._runner.running and not self._choices.whatIsMissing():
            self._status.show(done)

    def updateWarning(self):
        """Show warnings about the displayed result, or about the chosen volumes, directly below the button."""
        raw = "" if self._choices.parameters.prepare else self.whatLooksRaw()
        _done, warnings, _notes = partsOfReport(self._choices.output())
        doubts = [self.whatIsOfSeveralPatients(), *(warnings or [raw])]
        text = "" if self._runner.running else "\n".join(doubt for doubt in doubts if doubt)
        self.ui.warningLabel.text = text
        self.ui.warningFrame.setVisible(bool(text))

    def whatIsOfSeveralPatients(self):
        """Which of the chosen volumes belong to more than one patient; empty if that is not so, or not known."""
        patients = {node: patientOf(node) for node in self._choices.inputs().values()}
        nodes = [node for node, patient in patients.items() if patient]
        if len({patients[node] for node in nodes}) < 2:
            return ""
        names = ", ".join(f"'{nodeName(node)}'" for node in nodes)
        return _("{names} are not of one patient. Choose volumes of one examination.").format(names=names)

    def whatLooksRaw(self):
        """Why the chosen volumes should be prepared first; empty if they need not."""
        if self._choices.spec is None or not self._choices.spec.skull_stripped:
            return ""
        heads = [nodeName(node) for node in self._choices.inputs().values() if self.showsWholeHead(node)]
        if not heads:
            return ""
        return _("{names}: a whole head, not a brain without skull. Tick 'Prepare'.").format(names=", ".join(heads))

    def showsWholeHead(self, node):
        """Whether a volume shows the whole head; cached per image, as counting voxels takes some milliseconds."""
        key = (node.GetID(), node.GetImageData().GetMTime() if node.GetImageData() else 0)
        if key not in self._wholeHeads:
            try:
                self._wholeHeads[key] = shows_whole_head(volumeFromNode(node))
            except InputError:
                self._wholeHeads[key] = False  # Segment will report the problem
        return self._wholeHeads[key]
