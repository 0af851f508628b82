"""Stand-in for the PyTorch extension's module: asks, then installs through Slicer, which keeps the window responsive.

Not implemented: installing light-the-torch first, uninstalling, choice of a computation backend, its window.
"""

from __future__ import annotations

import shutil
from typing import Any

__all__ = ["PyTorchUtilsLogic"]


class PyTorchUtilsLogic:
    def installTorch(
        self,
        askConfirmation: bool = False,
        forceComputationBackend: str | None = None,
        torchVersionRequirement: str | None = None,
    ) -> Any:
        """Install torch; `slicer.util` processes events after every line that the installer prints.

        Returns:
            The module torch; None if the user declined.

        Raises:
            CalledProcessError: the installer failed. ImportError: torch cannot be imported.
        """
        import slicer

        arguments = ["install", f"torch{torchVersionRequirement or ''}", "torchvision"]
        question = f"PyTorch will be downloaded and installed using light-the-torch (ltt {' '.join(arguments)})."
        if askConfirmation and not slicer.app.testingEnabled() and not slicer.util.confirmOkCancelDisplay(question):
            return None
        # As `slicer.util._executePythonModule` does, which leaves the pipe open until its process is collected.
        command = [shutil.which("PythonSlicer") or "PythonSlicer", "-m", "light_the_torch", *arguments]
        process = slicer.util.launchConsoleProcess(command, useStartupEnvironment=False)
        with process.stdout:
            slicer.util.logProcessOutput(process)
        import torch

        return torch
