"""torch.compile for a stage's networks: only their parts, not the losses.

Losses are not compiled: they depend on the step number and draw masks, and every new step number and count of visible
voxels would trigger a recompilation.
"""

from __future__ import annotations

import torch
from torch import nn

from DanteSegmenterLib.errors import ConfigError
from DanteSegmenterLib.networks.part import Part
from DanteSegmenterLib.networks.unet import Decoder


def compile_networks(networks: nn.Module, device: torch.device) -> None:
    """Compile the networks' parts in place; weights and state-dict keys do not change.

    Patches have one size, so shapes are compiled as constants. Stage 1's sparse encoding calls an encoder's blocks one
    by one and is not compiled.

    On one AVX2 core, a Stage 2 step of DANTE (brats-2mm) took 3.1 s instead of 4.0 s, after half a minute of compiling.

    Raises:
        ConfigError: nothing can be compiled on this machine; raised before the first step.
    """
    _check_compiler(device)
    for part in compiled_parts(networks):
        if isinstance(part, Decoder):  # the loop and the networks use it through `decode` only
            part.decode = torch.compile(part.decode, dynamic=False)  # type: ignore[method-assign]  # as Module.compile
        else:
            part.compile(dynamic=False)


def compiled_parts(networks: nn.Module) -> list[nn.Module]:
    """The parts of any architecture that are compiled; parts nested in another part are left out."""
    parts = [part for part in networks.modules() if isinstance(part, (Part, Decoder))]
    within = {id(inner) for part in parts for inner in part.modules() if inner is not part}
    return [part for part in parts if id(part) not in within]


def _check_compiler(device: torch.device) -> None:
    try:
        torch.compile(torch.sin)(torch.zeros(2, device=device))
    except Exception as error:  # no compiler or headers, or an unsupported version: errors of many types
        reason = str(error).strip().splitlines()
        raise ConfigError(
            f"run.compile = true: nothing can be compiled here ({reason[0] if reason else type(error).__name__}). "
            "Install a C++ compiler (Linux: g++ and Python's headers; macOS: xcode-select --install; Windows: Visual "
            "C++ build tools), or train with run.compile=false."
        ) from error
