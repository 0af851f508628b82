"""Convert models trained by nnU-Net to model folders."""

from .importing import Choices, import_model
from .process import ImportProcess, import_in_process
from .results_folder import is_results_folder

__all__ = ["Choices", "ImportProcess", "import_in_process", "import_model", "is_results_folder"]
