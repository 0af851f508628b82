"""Result of a segmentation: label map, volumes, confidence."""

from .report import Finding, Report
from .result import Result

__all__ = ["Finding", "Report", "Result"]
