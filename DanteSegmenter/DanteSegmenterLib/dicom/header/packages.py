"""Check for the packages that read and write DICOM, and keep them from printing header values."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator

from ...errors import ResourceError


def check_packages(writing: bool = False) -> None:
    """Check that the packages for reading DICOM, and optionally for writing DICOM SEG, are installed.

    Raises:
        ResourceError: one is missing; says what to do.
    """
    try:
        import pydicom.pixels  # noqa: F401  # of version 3 on

        if writing:
            import highdicom  # noqa: F401
    except ImportError as error:
        lacking = "highdicom" if str(error.name).startswith("highdicom") else "pydicom 3"
        raise ResourceError(f'DICOM needs the package {lacking}: pip install "slicer-dante[dicom]".') from None


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Suppress pydicom's warnings, which would print values of a patient's header."""
    from pydicom import config

    with warnings.catch_warnings(), config.disable_value_validation():
        warnings.simplefilter("ignore")
        yield
