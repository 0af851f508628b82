"""Installs missing packages on the first click that needs them, never at start-up."""

import logging
import platform
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

import slicer
from slicer.i18n import tr as _

from DanteSegmenterLib.errors import ResourceError
from DanteSegmenterLib.options import DEEPBET
from DanteSlicerLib import requirements

BATCH_PACKAGES = ["pynrrd>=1.0", "matplotlib>=3.8"]  # segmentation files and the contact sheet
_installing = threading.Lock()


def ensureDependencies() -> None:
    """Ensure that torch and the other required packages are installed; the user is asked before any installation.

    Raises:
        ResourceError: a package is missing and was not installed; the message says what to do.
    """
    ensureTorch()
    ensurePackages(requirements.read_requirements(Path(__file__).parent.parent / "Resources" / "requirements.txt"))


def ensureTorch() -> None:
    """Ensure torch through the PyTorch extension, which picks the build that matches the graphics driver."""
    if requirements.is_installed(requirements.TORCH):
        return
    if isIntelMac():  # an older PyTorch may be installed for another extension, and is kept
        raise ResourceError(
            _(
                "This Slicer is built for Intel processors, and on macOS there is no PyTorch {wanted} or newer for "
                "these. Let another computer segment (Compute on, the box 'of': ssh:user@host), or segment without "
                "Slicer: on Apple silicon, a Python for it runs python -m DanteSegmenterLib segment."
            ).format(wanted=requirements.TORCH.removeprefix("torch>="))
        )
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
    with exclusiveInstallation():
        try:
            torch = PyTorchUtils.PyTorchUtilsLogic().installTorch(askConfirmation=True, torchVersionRequirement=wanted)
        except Exception as error:  # raised by pip, the extension or the import of torch: not a bug of this module
            logging.exception("DANTE: PyTorch was not installed")
            raise ResourceError(
                _(
                    "PyTorch was not installed; segmenting needs it. {reason} To install it by hand, behind a proxy or "
                    "from a folder of wheels, run: PythonSlicer -m pip install {torch}"
                ).format(reason=asSentence(str(error)), torch=forShell([requirements.TORCH]))
            ) from error
    if torch is None:
        raise ResourceError(_("PyTorch was not installed; segmenting needs it. Everything else here works without."))


@contextmanager
def exclusiveInstallation() -> Iterator[None]:
    """Allow one installation at a time: the window stays responsive, and two concurrent pips break each other's work.

    Raises:
        ResourceError: another installation is in progress.
    """
    if not _installing.acquire(blocking=False):
        raise ResourceError(_("Packages are being installed already. Wait until that is done, and try again."))
    try:
        yield
    finally:
        _installing.release()


def isIntelMac() -> bool:
    """Whether this is an Intel process on macOS, including one that Rosetta runs on Apple silicon.

    The last PyTorch release for these is 2.2.2.
    """
    return sys.platform == "darwin" and platform.machine() == "x86_64"


def ensurePackages(wanted: list[str], use: str = "") -> None:
    """Ensure the packages other than torch.

    Args:
        use: a sentence for the error message on what needs them; by default, that segmenting does.
    """
    missing = requirements.missing(wanted)
    if not missing:
        return
    reason = ""
    with exclusiveInstallation():
        try:
            installPackages(missing)
        except Exception as error:  # raised by pip, by Slicer, or because the user declined: all are reported below
            reason = str(error)
            logging.exception("DANTE: packages were not installed")
    still = requirements.missing(wanted)
    if still:
        raise ResourceError(
            _(
                "Not installed: {missing}. {use} {reason} To install it by hand, behind a proxy or from a folder of "
                "wheels, run: PythonSlicer -m pip install {quoted}"
            ).format(
                missing=" ".join(still),
                use=use or _("Segmenting needs it."),
                reason=asSentence(reason),
                quoted=forShell(still),
            )
        )


def ensureBrainFinder() -> None:
    """Ensure deepbet, which extracts the brain if the user gives no mask of it.

    Raises:
        ResourceError: it is missing and was not installed.
    """
    ensurePackages([DEEPBET], _("Prepare finds the brain by it; it can do with a brain mask of your own instead."))


def forShell(wanted: list[str]) -> str:
    """Quote requirements for any shell: an unquoted `>=1.0` would redirect to a file called `=1.0`."""
    return " ".join(f'"{requirement}"' for requirement in wanted)


def asSentence(text: str) -> str:
    """Add a full stop to a foreign text if it lacks one."""
    text = text.strip()
    return text if not text or text.endswith((".", "!", "?")) else f"{text}."


def installPackages(missing: list[str]) -> None:
    """Install through Slicer: recent versions have `slicer.packaging`, which asks and shows progress itself."""
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
