"""An experiment: every number a training depends on. Defaults are the paper's; files hold differences."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from DanteSegmenterLib.errors import ConfigError, reason
from DanteSegmenterLib.model_folder import NetworkSpec
from DanteSegmenterLib.networks.unet import brats_1mm
from DanteSegmenterLib.strict_dataclass import from_plain, to_plain, unknown_key_message
from DanteSegmenterLib.volume import triple

from .method_settings import MethodSettings
from .methods.cmfd import CmfdSettings
from .methods.cpmn import CpmnSettings
from .methods.dante import DanteSettings
from .methods.mmanet import MmanetSettings
from .methods.mmformer import MmformerSettings
from .methods.pmkl import PmklSettings
from .methods.robustseg import RobustSegSettings
from .methods.shaspec import ShaSpecSettings
from .methods.vit import VitSettings
from .ranges import check

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


MAY_CHANGE = ("optimiser.", "pretrain_optimiser.", "run.", "data.workers")
"""Beginnings of the settings that may change when a run is resumed."""


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
    """Refuse, instead of warn, where names cannot tell whether a validation or test patient is read in training."""


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


@dataclass(frozen=True)
class Experiment:
    """All settings of a run."""

    method: str = "lower"
    """One of DanteTrainerLib.methods.METHODS."""
    task: str = "brain"
    """"brain" or "chest"; must be the dataset's."""
    seed: int = 12345
    """Of initial weights, patches and augmentation."""
    begin_with: str = ""
    """Fine-tuning: the model folder whose network for the same modalities a bound begins with."""
    weight_average: float = 0.0
    """Decay, e.g. 0.999, of an exponential average of the last stage's weights over its steps, which is deployed in
    their place; 0 for none."""
    data: DataSettings = field(default_factory=DataSettings)
    """How patches are made."""
    network: NetworkSpec = field(default_factory=brats_1mm)
    """The backbone's numbers."""
    optimiser: OptimiserSettings = field(default_factory=OptimiserSettings)
    """How weights move."""
    pretrain_optimiser: OptimiserSettings | None = None
    """The same for a pre-training stage, where it is to be another, e.g. AdamW."""
    run: RunSettings = field(default_factory=RunSettings)
    """How long and how often."""
    distillation: DistillationSettings = field(default_factory=DistillationSettings)
    """Only methods with a teacher read these."""
    dropping: DroppingSettings = field(default_factory=DroppingSettings)
    """Only methods that drop the privileged modality read these."""
    cmfd: CmfdSettings = field(default_factory=CmfdSettings)
    cpmn: CpmnSettings = field(default_factory=CpmnSettings)
    dante: DanteSettings = field(default_factory=DanteSettings)
    mmanet: MmanetSettings = field(default_factory=MmanetSettings)
    mmformer: MmformerSettings = field(default_factory=MmformerSettings)
    pmkl: PmklSettings = field(default_factory=PmklSettings)
    robustseg: RobustSegSettings = field(default_factory=RobustSegSettings)
    shaspec: ShaSpecSettings = field(default_factory=ShaSpecSettings)
    vit: VitSettings = field(default_factory=VitSettings)

    def __post_init__(self) -> None:
        check(self)

    @property
    def supervised_steps(self) -> int:
        """Steps of the last stage: `run.steps`, or with `dropping.equal_views` what a method that drops needs."""
        own = self.method_settings.get(self.method)
        share = self.dropping.probability * own.dropping_share if own is not None else 0.0
        return round(self.run.steps / share) if self.dropping.equal_views and share else self.run.steps

    @property
    def own(self) -> Experiment:
        """The same with the tables of other methods at their defaults: what decides the training, for comparisons."""
        others = {name: type(table)() for name, table in self.method_settings.items() if name != self.method}
        tables: dict[str, Any] = others
        return replace(self, **tables)

    @property
    def method_settings(self) -> dict[str, MethodSettings]:
        """The tables that are a method's own, by name."""
        tables = ((f.name, getattr(self, f.name)) for f in fields(self))
        return {name: table for name, table in tables if isinstance(table, MethodSettings)}


MOVED = {"feature_weight": "kd_weight", "weak_weight": "weak_weight"}
"""Settings of `distillation` in runs of older versions -> what they are called in `mmanet` now."""


def of_this_version(plain: Any) -> Any:
    """An experiment's plain values as a run or a model folder keeps them, of this version or an older one."""
    if not isinstance(plain, dict) or not isinstance(plain.get("distillation"), dict):
        return plain
    kept = {key: value for key, value in plain["distillation"].items() if key not in MOVED}
    moved = {MOVED[key]: value for key, value in plain["distillation"].items() if key in MOVED}
    return {**plain, "distillation": kept, **({"mmanet": moved} if moved else {})}


def resources_folder(name: str) -> Path:
    """Where shipped files of a kind are: beside the Slicer module, or inside an installed package."""
    here = Path(__file__).resolve().parent.parent
    for folder in (here.parent / "Resources" / name, here / name.lower()):
        if folder.is_dir():
            return folder
    raise ConfigError(f"the shipped {name.lower()} files are missing beside '{here}'. Install SlicerDANTE again.")


def list_experiments() -> dict[str, Path]:
    """Shipped experiment files by name."""
    return {path.stem: path for path in sorted(resources_folder("Experiments").glob("*.toml"))}


def list_studies() -> dict[str, Path]:
    """Shipped study files by name."""
    return {path.stem: path for path in sorted(resources_folder("Studies").glob("*.toml"))}


def load_experiment(name: str | None = None, overrides: Sequence[str] = (), **values: Any) -> Experiment:
    """Defaults <- file <- values <- overrides.

    Args:
        name: a shipped experiment's name or a TOML file's path; its key `base` names one that it differs from.
        overrides: "key=value" with dotted keys, e.g. "run.steps=800"; a last part alone will do where it is unique.
        values: top-level settings, e.g. method="lower".

    Raises:
        ConfigError: unknown file, key or wrong value; says which and what is wanted.
    """
    plain: dict[str, Any] = _read(name) if name else {}
    plain.update(values)
    for override in overrides:
        _override(plain, override)
    return from_plain(Experiment, plain, name or "experiment", ConfigError)


def changed_experiment(experiment: Experiment, overrides: Sequence[str]) -> Experiment:
    """The same experiment with other settings of those that may change within a run.

    Raises:
        ConfigError: a setting is unknown, wrong, or decides what the networks and their patches are.
    """
    plain = to_plain(experiment)
    for override in overrides:
        key = _full_key(override.partition("=")[0].strip())
        if not key.startswith(MAY_CHANGE):
            raise ConfigError(
                f"--set {key}: this cannot change within a run, for its checkpoint was made with it. What can: "
                f"{', '.join(MAY_CHANGE)}. Start a new run."
            )
        _override(plain, override)
    return from_plain(Experiment, plain, "run.json", ConfigError)


def _read(name: str, above: tuple[str, ...] = ()) -> dict[str, Any]:
    if name in above:
        raise ConfigError(f"the experiment '{name}' is based on itself: {' -> '.join((*above, name))}.")
    path = list_experiments().get(name, Path(name))
    if not path.is_file():
        known = ", ".join(list_experiments())
        raise ConfigError(f"there is no experiment '{name}': shipped are {known}; or give a TOML file's path.")
    try:
        plain = tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise ConfigError(f"the experiment '{path}' cannot be read: {reason(error)}.") from None
    except (ValueError, RecursionError) as error:  # not TOML, or not UTF-8
        raise ConfigError(f"'{path}' is not valid TOML: {error}.") from None
    base = plain.pop("base", None)
    return plain if base is None else _merged(_read(str(base), (*above, name)), plain)


def _merged(base: dict[str, Any], differences: dict[str, Any]) -> dict[str, Any]:
    """`base` with the values of `differences`, table by table."""
    result = dict(base)
    for key, value in differences.items():
        known = result.get(key)
        result[key] = _merged(known, value) if isinstance(value, dict) and isinstance(known, dict) else value
    return result


def _override(plain: dict[str, Any], override: str) -> None:
    key, equals, text = override.partition("=")
    if not equals:
        raise ConfigError(f"--set {override}: key=value is needed, for example run.steps=800.")
    try:
        value = tomllib.loads(f"x = {text}")["x"]
    except ValueError:  # also of a number with thousands of digits
        value = text  # a word without quotes
    except RecursionError:
        raise ConfigError(f"--set {key}: the value is nested too deeply.") from None
    *sections, last = _full_key(key.strip()).split(".")
    for section in sections:
        if plain.get(section) is None:
            plain[section] = {}
        plain = plain[section]
        if not isinstance(plain, dict):
            raise ConfigError(f"'{section}' must be a table of settings, got {plain!r}.")
    plain[last] = value


def _full_key(key: str) -> str:
    default = Experiment(pretrain_optimiser=OptimiserSettings())
    keys = _all_keys(to_plain(default, whole=True))
    if key in keys:
        return key
    # A last part alone means the training's own settings, then those of a method, never those of a pre-training.
    known = [k for k in keys if k.split(".")[-1] == key and not k.startswith("pretrain_optimiser.")]
    common = [k for k in known if k.split(".")[0] not in default.method_settings]
    matches = common or known
    if len(matches) > 1:
        raise ConfigError(f"--set {key}: which of {', '.join(matches)}?")
    if not matches:
        raise ConfigError(unknown_key_message(key, keys, "--set"))
    return matches[0]


def _all_keys(plain: dict[str, Any], prefix: str = "") -> list[str]:
    keys = []
    for key, value in plain.items():
        keys += _all_keys(value, f"{prefix}{key}.") if isinstance(value, dict) else [f"{prefix}{key}"]
    return keys


def smoke(experiment: Experiment) -> Experiment:
    """The same experiment at a tiny size and for a few steps: to check a dataset folder within a minute."""
    stages = min(3, len(experiment.network.features))
    network = NetworkSpec(
        features=(4, 8, 8)[:stages],
        strides=experiment.network.strides[:stages],
        kernels=experiment.network.kernels[:stages],
        convs_per_stage=1,
    )
    spacing = triple(max(spacing, 4.0) for spacing in experiment.data.spacing_mm)
    tiny: dict[str, Any] = {name: table.smoke() for name, table in experiment.method_settings.items()}
    return replace(
        experiment,
        **tiny,
        data=replace(experiment.data, spacing_mm=spacing, patch=(16, 16, 16), workers=0),
        network=network,
        run=replace(
            experiment.run,
            steps=10,
            pretrain_steps=min(10, experiment.run.pretrain_steps),
            checkpoint_every=5,
            validate_every=5,
            validation_batches=2,
        ),
    )
