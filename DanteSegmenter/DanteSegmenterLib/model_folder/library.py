"""Available models: those shipped with the extension, and folders added by the user.

Reads only descriptions, never weights; does not need torch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ..errors import ModelError
from ..guard.plain_text import LONG, one_line
from ..guard.replace_folder import restore_previous
from .read_write import SPEC_FILE, read_spec
from .spec import ModelSpec


@dataclass(frozen=True)
class ModelEntry:
    """A model folder in a list.

    Attributes:
        key: identifier stored in a scene: the folder's name for an embedded model, the full path for an added one.
        folder: its path.
        spec: its description, or None if it cannot be used.
        problem: the reason; empty if it can be used.
    """

    key: str
    folder: Path
    spec: ModelSpec | None
    problem: str = ""

    @property
    def title(self) -> str:
        """One line for a list."""
        return (
            f"{self.spec.name} {self.spec.version}" if self.spec else f"{one_line(self.folder.name)} (cannot be used)"
        )

    def usable_spec(self) -> ModelSpec:
        """The description, for a model that is about to be used.

        Raises:
            ModelError: it cannot be used.
        """
        if self.spec is None:
            raise ModelError(self.problem)
        return self.spec


def embedded_models_folder(library: Path | None = None) -> Path | None:
    """Folder of the extension's models: beside the installed modules, or at the top of the repository.

    Args:
        library: folder of this package; by default the one of this file.
    """
    library = library or Path(__file__).resolve().parent.parent
    for parent in (library.parent, library.parent.parent):
        folder = parent / "Resources" / "Models"
        if folder.is_dir():
            return folder
    return None


def find_models(added: Sequence[Path | str] = (), embedded: Path | None = None) -> tuple[ModelEntry, ...]:
    """All models, the extension's first. Unusable folders are listed with the reason.

    Args:
        added: model folders of the user.
        embedded: search this folder instead of the extension's.
    """
    embedded = embedded or embedded_models_folder()
    own = sorted(path.parent for path in embedded.glob(f"*/{SPEC_FILE}")) if embedded else []
    entries = [_entry(folder.name, folder) for folder in own]
    entries += [_entry(str(folder), Path(folder)) for folder in dict.fromkeys(map(str, added))]
    return tuple(entries)


def choose_model(models: Sequence[ModelEntry], wanted: Path | str | None = None) -> ModelEntry:
    """The model `wanted` (a key, a name or a folder), or by default the first usable one.

    Raises:
        ModelError: there is none, or it cannot be used.
    """
    if wanted is None:
        usable = next((entry for entry in models if entry.spec), None)
        if usable:
            return usable
        raise ModelError(models[0].problem if models else "There is no model. Add a model folder.")
    known = next((entry for entry in models if str(wanted) in _names(entry)), None)
    entry = known or _entry(str(wanted), Path(wanted))
    entry.usable_spec()
    return entry


def _names(entry: ModelEntry) -> set[str]:
    return {entry.key, str(entry.folder), *({entry.spec.name} if entry.spec else ())}


def _entry(key: str, folder: Path) -> ModelEntry:
    try:
        restore_previous(folder)
        return ModelEntry(key, folder, read_spec(folder))
    except Exception as error:  # a problem with one folder must not hide the others
        return ModelEntry(key, folder, None, one_line(error, LONG) or type(error).__name__)
