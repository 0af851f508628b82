"""DANTE's settings."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from ..method_settings import MethodSettings


@dataclass(frozen=True)
class DanteSettings(MethodSettings):
    """Settings of DANTE; the defaults are the paper's method, and every ablation is one setting."""

    LIMITS: ClassVar = {
        "freeze_share": (0, 1),
        "auxiliary_from": (0, 1),
        "align_ramp": (0, 1),
        "anchors": (1, 10**6),
        "mature_teacher": (0, 10),
    }
    POSITIVE: ClassVar = ("temperature", "fusion_init")
    CHOICES: ClassVar = {
        "masking": ("sparse", "dense"),
        "align": ("l1", "l2", "infonce"),
        "align_grad": ("both", "to_L", "to_A"),
        "align_norm": ("none", "channel_l2"),
        "limited_decoder": ("D_L", "D_F"),
        "reduction": ("mean", "sum"),
        "level_reduction": ("mean", "sum"),
    }

    mask_ratio: float = 0.75
    """Share of blocks that Stage 1 masks."""
    masking: str = "sparse"
    """"sparse": masked voxels do not enter any feature; "dense": they are set to 0 and convolved over."""
    per_modality_masks: bool = False
    """Ablation: each channel has its own mask (needs dense masking)."""
    naive: bool = False
    """Ablation: three independent masked autoencoders instead of cross-modal reconstruction."""
    freeze_share: float = 0.1
    """Share of Stage 2 during which the pre-trained encoders are frozen; ignored without Stage 1."""
    auxiliary_from: float = 0.2
    """Share of Stage 2 after which the alignment and compaction terms are added."""
    align: str = "l1"
    """Alignment loss: "l1", "l2" or "infonce"."""
    align_weight: float = 0.5
    """Weight of L_Align, lambda_2."""
    align_grad: str = "both"
    """Which encoder receives gradients from alignment: "both", "to_L" or "to_A"."""
    align_norm: str = "none"
    """"channel_l2" normalises feature vectors, so that only their directions are aligned, not their scale."""
    align_levels: tuple[int, ...] = ()
    """Ablation: encoder stages to align, 1 is the finest; empty for all, including the bottleneck."""
    reduction: str = "mean"
    """How both L1 terms and "l2" are reduced within a level: "mean" or "sum". "sum" is eq. 3 and 4 literally: the
    finest level then outweighs all others, and the loss weights must be smaller by a factor of millions."""
    level_reduction: str = "sum"
    """How the same terms are reduced over the levels: "sum" or "mean"."""
    temperature: float = 0.1
    """Temperature of InfoNCE."""
    anchors: int = 512
    """Maximum number of InfoNCE anchors per level."""
    infonce_both_ways: bool = False
    """Symmetric InfoNCE: Z^L must also identify its own Z^A among the others; eq. 5 has only the other direction."""
    compaction_weight: float = 0.3
    """Weight of L_PIB, lambda_1."""
    common_start: bool = False
    """Initialise E_A and D_F with the random weights of E_L and D_L, with E_A's weights of the privileged channel at 0.
    Both pathways then start with the same features, so alignment does not first have to match their channels."""
    carry_fusion: bool = False
    """Initialise Stage 2's psi with Stage 1's Psi_1 instead of anew."""
    fusion_init: float = 1.0
    """Factor on the He initialisation of psi's projections. At 1 the privileged correction is initially about twice as
    large as Z^A; at 0.1 Z^A is the primary pathway from the start (eq. 2)."""
    align_ramp: float = 0.0
    """Share of Stage 2, counted from `auxiliary_from`, over which lambda_1 and lambda_2 rise linearly from 0."""
    mature_teacher: float = 0.0
    """Ablation: train f_F alone before Stage 2, for this multiple of Stage 2's steps, so that alignment starts with a
    trained teacher; 0 for not at all."""

    limited_decoder: str = "D_L"
    """Ablation: which decoder reads Z^L in the deployed network: its own "D_L", or "D_F", which was trained on Z^A and
    fits Z^L only through alignment. Does not change the training."""

    def problems(self) -> Iterator[str]:
        yield from super().problems()
        if not 0 < self.mask_ratio < 1:
            yield f"mask_ratio must lie between 0 and 1, got {self.mask_ratio:g}"
        if self.per_modality_masks and self.masking != "dense":
            yield "per_modality_masks needs dante.masking = 'dense': sparse has one mask a sample"
