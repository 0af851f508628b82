"""Export a pathway as a MONAI bundle: TorchScript, configurations, scripts for what MONAI lacks, README, licence."""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import torch
from torch import Tensor, nn

from ..errors import ModelError, ResourceError, reason
from ..guard.replace_folder import swap_in, to_disk, unfinished_folder
from . import monai_scripts
from .agreement import Agreement, check_agreement
from .bundle_config import inference_config
from .bundle_metadata import bundle_metadata
from .bundle_texts import licence_text, readme
from .source import Source, noise

FOLDERS = {"configs", "models", "scripts", "docs", "LICENSE"}


class _InMonaiOrder(nn.Module):
    """The network in MONAI's axis order: [B, C, I, J, K] -> logits [B, O, I, J, K]."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, image: Tensor) -> Tensor:
        return swap_i_and_k(self.network(swap_i_and_k(image)))


def swap_i_and_k(image: Tensor) -> Tensor:
    """[B, C, K, J, I] <-> [B, C, I, J, K]."""
    return image.permute(0, 1, 4, 3, 2)


def check_target(folder: Path) -> None:
    """Check that the target can be written.

    Raises:
        ResourceError: something other than a bundle exists there, or no folder can be created.
    """
    if not folder.parent.is_dir():
        raise ResourceError(f"the folder '{folder.parent}' does not exist. Create it or choose another.")
    if folder.exists() and not (folder.is_dir() and _is_ours(folder)):
        raise ResourceError(f"'{folder}' exists and is no bundle that this command wrote; choose another.")


def _is_ours(folder: Path) -> bool:
    """Whether the folder is empty or only a bundle; results of running it (data, eval) must not be removed."""
    names = {path.name for path in folder.iterdir()}
    return not names or (names <= FOLDERS and (folder / "configs" / "metadata.json").is_file())


def write_bundle(source: Source, folder: Path) -> Agreement:
    """Write a bundle, replacing an existing one; the new one is checked first.

    Raises:
        ModelError: the network cannot be exported, or the export computes something else; nothing is kept.
        ResourceError: it cannot be written there.
    """
    check_target(folder)
    try:
        with unfinished_folder(folder.parent) as new:
            found = _fill(source, new)
            for file in filter(Path.is_file, new.rglob("*")):
                to_disk(file)
            swap_in(new, folder)
    except OSError as error:
        raise ResourceError(f"'{folder}' could not be written: {reason(error)}. Nothing was changed.") from error
    return found


def _fill(source: Source, folder: Path) -> Agreement:
    for name in ("configs", "models", "scripts", "docs"):
        (folder / name).mkdir()
    config, metadata = inference_config(source), bundle_metadata(source)
    texts = {"inference.json": _json(config), "metadata.json": _json(metadata)}
    network = folder / "models" / "model.ts"
    with warnings.catch_warnings():
        # MONAI's bundles use TorchScript, although PyTorch deprecates it.
        warnings.filterwarnings("ignore", "`torch.jit", DeprecationWarning)
        torch.jit.save(recorded(source), str(network), _extra_files=texts)
        found = agreement_with(source, network)
    texts = {f"configs/{name}": text for name, text in texts.items()}
    texts |= {"docs/README.md": readme(source, found), "LICENSE": licence_text(source.spec)}
    for file in sorted(Path(monai_scripts.__path__[0]).glob("*.py")):
        texts[f"scripts/{file.name}"] = file.read_text(encoding="utf-8")
    for name, text in texts.items():
        (folder / name).write_text(text, encoding="utf-8")
    return found


def _json(table: object) -> str:
    return json.dumps(table, indent=2, ensure_ascii=False) + "\n"


def recorded(source: Source) -> torch.jit.ScriptModule:
    """The network as TorchScript, in MONAI's axis order.

    Raises:
        ModelError: PyTorch cannot trace it.
    """
    example = swap_i_and_k(noise(source).repeat(2, 1, 1, 1, 1))
    try:
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")  # about numbers traced as constants, which the comparison would reveal
            return torch.jit.trace(_InMonaiOrder(source.network).eval(), example, check_trace=False)
    except (RuntimeError, TypeError, ValueError, NotImplementedError) as error:
        line = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ModelError(
            f"'{source.spec.name}' ({source.pathway.architecture}) cannot be written as TorchScript with PyTorch "
            f"{torch.__version__}: {line[:200].rstrip('.')}."
        ) from error


def agreement_with(source: Source, file: Path) -> Agreement:
    """Compare a TorchScript file with the network.

    Raises:
        ModelError: it does not compute the same.
    """
    read_back = torch.jit.load(str(file), map_location="cpu")

    def logits_of(window: Tensor) -> Tensor:
        with torch.no_grad():
            return swap_i_and_k(read_back(swap_i_and_k(window)))

    return check_agreement(source, logits_of, "TorchScript file")
