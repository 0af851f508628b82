"""Models that nnU-Net trained, made into model folders."""

from .importing import Choices, import_model
from .process import import_in_process
from .results_folder import is_results_folder

__all__ = ["Choices", "import_in_process", "import_model", "is_results_folder"]
