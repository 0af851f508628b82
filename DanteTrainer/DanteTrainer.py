"""DANTE's trainer in 3D Slicer: a hidden module that trains on local datasets from Slicer's Python console.

    logic = slicer.util.getModuleLogic("DanteTrainer")
    run = logic.start("dante", data="/data/BraTS2021", out="/runs/mine")
    logic.follow(run, print)

The training is a process of its own (`DanteTrainerLib.background`); this file only knows where Slicer keeps what it
remembers and how it waits. Slicer imports it at start-up, before torch is installed.
"""

import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path

import qt
import slicer
from slicer.ScriptedLoadableModule import (
    ScriptedLoadableModule,
    ScriptedLoadableModuleLogic,
    ScriptedLoadableModuleTest,
)

if find_spec("DanteSegmenter") is None:  # installed modules share one folder, the development tree keeps them apart
    sys.path.append(str(Path(__file__).resolve().parent.parent / "DanteSegmenter"))

from DanteTrainerLib import background
from DanteTrainerLib.status import RUN_FILE, RunStatus, read_status

RUNS_SETTING = "DanteTrainer/Runs"
FOLLOW_INTERVAL_MS = 1000


class DanteTrainer(ScriptedLoadableModule):
    """The module as Slicer knows it; hidden, because it has no window."""

    def __init__(self, parent):
        ScriptedLoadableModule.__init__(self, parent)
        self.parent.title = "DANTE Trainer"
        self.parent.categories = ["Segmentation"]
        self.parent.dependencies = []
        self.parent.contributors = ["SlicerDANTE contributors"]
        self.parent.helpText = (
            "Trains segmentation networks that do without the decisive scan. Use it from the Python console: "
            "slicer.util.getModuleLogic('DanteTrainer').start(...)."
        )
        self.parent.acknowledgementText = "Method: DANTE, AAAI 2026, doi:10.1609/aaai.v40i15.38305."
        self.parent.hidden = True


def ensureDependencies():
    """Have torch and the packages that training needs, asking before anything is installed.

    Raises:
        ResourceError: something is missing and was not installed; the message says what to do.
    """
    from DanteSegmenter import ensurePackages, ensureTorch
    from DanteSegmenterLib.requirements import read_requirements

    ensureTorch()
    ensurePackages(read_requirements(Path(__file__).parent / "Resources" / "requirements-training.txt"))


class DanteTrainerLogic(ScriptedLoadableModuleLogic):
    """Starts, follows, stops and resumes trainings."""

    def __init__(self):
        ScriptedLoadableModuleLogic.__init__(self)
        self._timers = {}

    def start(
        self, method, data, out, overrides=(), experiment="brats-2mm", smoke=False, device="auto", detach=False
    ) -> Path:
        """Train `method` on the dataset folder `data`; returns the run folder `out` once the settings were accepted.

        Args:
            method: "dante", "lower", "upper", ... (`python -m DanteTrainerLib list`).
            overrides: settings, e.g. ["run.steps=800"].
            experiment: shipped experiment or TOML file.
            smoke: a few tiny steps of every stage, to check a dataset folder.
            detach: let the training outlive Slicer; otherwise it ends with Slicer, after a checkpoint.

        Raises:
            DanteError: why the training cannot begin.
        """
        ensureDependencies()
        run = background.start(method, data, out, overrides, experiment, smoke, device, detach)
        self._remember(run)
        return run

    def runs(self) -> dict[Path, RunStatus]:
        """Every run started from this Slicer installation whose folder is still there, and where it stands."""
        known = [Path(text) for text in (qt.QSettings().value(RUNS_SETTING) or "").split("\n") if text]
        return {run: read_status(run) for run in known if (run / RUN_FILE).is_file()}

    def follow(self, run, callback) -> None:
        """Call `callback(status)` every second, from Slicer's event loop, until the run is no longer trained."""
        run = Path(run)
        timer = qt.QTimer()
        timer.setInterval(FOLLOW_INTERVAL_MS)

        def tick():
            status = read_status(run)
            if status.state != "running":
                timer.stop()
                self._timers.pop(run, None)
            callback(status)

        timer.timeout.connect(tick)
        self._timers[run] = timer
        timer.start()

    def stop(self, run) -> RunStatus:
        """Have a run write a checkpoint and end."""
        return background.stop(run)

    def resume(self, run, device="auto", detach=False) -> Path:
        """Go on with a run, of this or an earlier session, from its last checkpoint."""
        ensureDependencies()
        run = background.resume(run, device, detach)
        self._remember(run)
        return run

    def evaluate(self, run, data, split="test", device="auto") -> Path:
        """Dice and HD95 of a finished run; waits, and returns the folder with cases.csv and contact_sheet.png."""
        return background.evaluate(run, data, split, device)

    def _remember(self, run) -> None:
        runs = [str(known) for known in self.runs()]
        path = str(Path(run).resolve())
        if path not in runs:
            qt.QSettings().setValue(RUNS_SETTING, "\n".join([*runs, path]))


class DanteTrainerTest(ScriptedLoadableModuleTest):
    """Trains a few steps on synthetic patients, stops, resumes, and segments with the result."""

    def setUp(self):
        slicer.mrmlScene.Clear()

    def runTest(self):
        self.setUp()
        self.test_aTrainingStopsResumesAndSegments()

    def test_aTrainingStopsResumesAndSegments(self):
        from DanteSegmenterLib.inference import load_model, segment

        logic = DanteTrainerLogic()
        with tempfile.TemporaryDirectory() as folder:
            data, out = Path(folder) / "data", Path(folder) / "run"
            patients = writeSyntheticDataset(data)
            run = logic.start("lower", data, out, smoke=True, device="cpu")
            self.assertIn(run.resolve(), [known.resolve() for known in logic.runs()])
            status = logic.stop(run)
            self.assertIn(status.state, ("stopped", "finished"))
            if status.state == "stopped":
                logic.resume(run, device="cpu")
            self.assertEqual(background.wait(run, 120).state, "finished")
            model = load_model(run / "model", "cpu")
            volumes = {modality: patients[0].volumes[modality] for modality in model.spec.limited.modalities}
            self.assertEqual(segment(model, volumes).label_map.shape, patients[0].labels.shape)
        self.delayDisplay("Trained, stopped, resumed and segmented")


def writeSyntheticDataset(folder: Path) -> list:
    """Four synthetic patients at 8 mm as BraTS case folders."""
    from DanteSegmenterLib.files import write_volume
    from DanteSegmenterLib.sample import brain_mr

    patients = [brain_mr(seed, spacing_mm=8.0) for seed in range(4)]
    for n, patient in enumerate(patients):
        (folder / f"P{n}").mkdir(parents=True)
        for name, volume in {**patient.volumes, "seg": patient.labels}.items():
            write_volume(folder / f"P{n}" / f"P{n}_{name}.nii.gz", volume)
    return patients
