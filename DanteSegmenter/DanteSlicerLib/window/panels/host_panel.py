"""The rows *of* and *Python there*: where to compute, on this computer or a remote one."""

import qt
import slicer
from slicer.i18n import tr as _

from DanteSegmenterLib.guard.plain_text import LONG, one_line
from DanteSlicerLib.parameters import HOST_SETTING, HOSTS_SETTING

HOSTS_REMEMBERED = 5
HERE = 0  # index in the list


class HostPanel:
    """The choice is saved in the user's settings for later sessions; scenes do not change it."""

    def __init__(self, ui, choices, changed):
        """
        Args:
            changed: called when another host was chosen.
        """
        self.ui = ui
        self._choices = choices
        self._changed = changed
        self._pythons = self.remembered()  # by host, most recent first
        setting = slicer.util.settingsValue(HOST_SETTING, "", converter=str)
        choices.host, _space, choices.hostPython = setting.partition(" ")
        ui.hostSelector.setCompleter(None)  # completion would turn a partly typed name into another host's
        self.fill()
        ui.hostSelector.connect("currentIndexChanged(int)", self.onChosen)
        ui.hostSelector.connect("editTextChanged(QString)", self.onWritten)
        ui.hostPythonEdit.connect("textChanged(QString)", self.onPython)

    @staticmethod
    def remembered():
        lines = slicer.util.settingsValue(HOSTS_SETTING, "", converter=str).split("\n")
        return {host: python for host, _space, python in (line.partition(" ") for line in lines) if host}

    def fill(self):
        """Update the list and the rows from the current choice."""
        with self._choices.change():
            self.ui.hostSelector.clear()
            for text in (_("This computer"), *self._pythons):
                self.ui.hostSelector.addItem(text)
            known = list(self._pythons)
            host = self._choices.host
            self.ui.hostSelector.setCurrentIndex(1 + known.index(host) if host in known else HERE)
            if host and host not in known:
                self.ui.hostSelector.setEditText(host)
            self.ui.hostPythonEdit.text = self._choices.hostPython
        self.showPython()

    def showPython(self):
        for widget in (self.ui.hostPythonLabel, self.ui.hostPythonEdit):
            widget.setVisible(bool(self._choices.host))

    def onChosen(self, index=None):
        """Handle a choice from the list; typed text is handled by `onWritten`."""
        if not self._choices.changing:
            self.choose("" if self.ui.hostSelector.currentIndex == HERE else self.ui.hostSelector.currentText)

    def onWritten(self, text=None):
        if not self._choices.changing:
            written = self.ui.hostSelector.currentText.strip()
            self.choose("" if written == _("This computer") else written)

    def onPython(self, text=None):
        if not self._choices.changing:
            self._choices.hostPython = one_line(self.ui.hostPythonEdit.text, LONG)
            self.remember()
            self._changed()

    def choose(self, host):
        """Compute on this host from now on; empty for this computer."""
        if host == self._choices.host:
            return
        self._choices.host = host
        self._choices.hostPython = self._pythons.get(host, "")
        with self._choices.change():
            self.ui.hostPythonEdit.text = self._choices.hostPython
        self.showPython()
        self.remember()
        self._changed()

    def remember(self):
        """Save the choice if it is valid: it may still be being typed."""
        if not self._choices.whatIsWrongWithHost():
            qt.QSettings().setValue(HOST_SETTING, f"{self._choices.host} {self._choices.hostPython}".strip())

    def used(self):
        """Move the host to the front of the list, because a run has started with it."""
        host = self._choices.host
        if not host:
            return
        others = [(other, python) for other, python in self._pythons.items() if other != host]
        self._pythons = dict([(host, self._choices.hostPython), *others][:HOSTS_REMEMBERED])
        lines = (f"{known} {python}".strip() for known, python in self._pythons.items())
        qt.QSettings().setValue(HOSTS_SETTING, "\n".join(lines))
        self.fill()
