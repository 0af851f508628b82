"""The packages that read and write DICOM: whether they are installed, and kept from printing what a header says."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator

from ...errors import ResourceError


def check_packages(writing: bool = False) -> None:
    """Whether what reads DICOM, and what writes DICOM SEG, is installed.

    Raises:
        ResourceError: it is not; says what to do.
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
    """Without pydicom's own remarks, which would print values of a patient's header."""
    from pydicom import config

    with warnings.catch_warnings(), config.disable_value_validation():
        warnings.simplefilter("ignore")
        yield
