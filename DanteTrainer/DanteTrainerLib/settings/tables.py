"""The tables of settings that all methods share."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class DataSettings:
    """How patches are made."""

    spacing_mm: tuple[float, float, float] = (1.0, 1.0, 1.0)
    """Of the network's grid, along K, J, I."""
    patch: tuple[int, int, int] = (128, 128, 128)
    """Voxels along K, J, I; divisible by the network's strides."""
    batch_size: int = 2
    """Patches per step, over all processes."""
    foreground_share: float = 0.33
    """Of a batch, the part that is forced to contain a region."""
    augment: bool = True
    """nnU-Net's default augmentation."""
    augment_values: bool = True
    """Its brightness, contrast and gamma too, which change what a value means. Those of a CT are calibrated."""
    augment_strength: str = "nnunet"
    """"nnunet", its default augmentation; or "strong", oftener and further, for few cases."""
    workers: int = -1
    """Processes that prepare batches; -1 chooses by the number of processor cores."""
    split_seed: int = 12345
    """Of the 70/10/20 split, where the dataset brings none."""
    pretrain_folders: tuple[str, ...] = ()
    """More dataset folders whose images, without masks, Stage 1 reads; patients of the split's val and test parts are
    kept out, under whatever name."""
    pretrain_on_val: bool = False
    """Stage 1 reads the validation cases' images, without their masks, too."""
    include_downstream_test_in_pretrain: bool = False
    """Keep no patient of `pretrain_folders` out. For comparison with published figures only: test scores leak."""
    strict_leak_guard: bool = False
    """Refuse, instead of warn, where names cannot tell whether a validation or test patient is read in training, or a
    model that is learned from was trained on one."""


@dataclass(frozen=True)
class OptimiserSettings:
    """SGD with Nesterov momentum under a polynomial schedule, as nnU-Net; or AdamW."""

    kind: str = "sgd"
    """"sgd" or "adamw"."""
    learning_rate: float = 0.01
    """The highest: at the first step, or after the warm-up."""
    momentum: float = 0.99
    """Nesterov; of SGD."""
    betas: tuple[float, float] = (0.9, 0.999)
    """Of AdamW."""
    weight_decay: float = 3e-5
    """On all parameters."""
    warm_up: float = 0.0
    """Share of the stage's steps over which the learning rate rises evenly to its highest."""
    schedule: str = "poly"
    """"poly" or "cosine", over the steps after the warm-up."""
    clip_norm: float = 12.0
    """Largest gradient norm, over the parameters that move."""
    exponent: float = 0.9
    """Of the polynomial schedule."""


@dataclass(frozen=True)
class RunSettings:
    """How long, how exact, how often written down."""

    steps: int = 125_000
    """Of the (last) supervised stage: 500 epochs of 250."""
    pretrain_steps: int = 125_000
    """Of a pre-training stage, where the method has one."""
    checkpoint_every: int = 250
    """Steps between checkpoints."""
    validate_every: int = 250
    """Steps between validations; 0 for none."""
    validation_batches: int = 10
    """Fixed, unaugmented patches a validation looks at."""
    precision: str = "auto"
    """fp32, bf16, fp16; auto takes the fastest that is safe on the device."""
    compile: bool = False
    """torch.compile the networks: slow to begin, then faster steps; Stage 1's sparse encoders stay as they are."""


@dataclass(frozen=True)
class DistillationSettings:
    """Of methods that learn from a frozen teacher."""

    teacher: str = ""
    """Model folder whose full network teaches: of `upper`, or of a method with a full pathway."""


@dataclass(frozen=True)
class DroppingSettings:
    """Of methods that drop the privileged modality in training, sample by sample; no other is ever dropped."""

    probability: float = 0.5
    """That a sample is seen without it."""
    equal_views: bool = False
    """As many samples are seen without it as the lower bound sees: the stage has that many more than `run.steps`."""
