"""What a segmentation says: label map, volumes, how sure."""

from .report import Finding, Report
from .result import Result

__all__ = ["Finding", "Report", "Result"]
