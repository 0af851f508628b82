"""Convert nnU-Net's plans to a model folder's settings; anything without a counterpart here is refused."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ..errors import ModelError
from ..model_folder.spec import AS_STORED, NetworkSpec, NnunetSteps, Normalisation, Preprocessing, SplineSteps
from ..volume import triple
from .architecture import known_keys, read_network

# Axes of an image as read by each reader: those of the file, or the closest to these.
AXES_BY_READER = {"SimpleITKIO": AS_STORED, "NibabelIO": AS_STORED, "NibabelIOWithReorient": "RAS"}
RESAMPLING = "resample_data_or_seg_to_shape"
# Except for z-scores, whose kind depends on the use of a mask.
SCHEMES = {
    "CTNormalization": "ct_window", "NoNormalization": "none", "RescaleTo01Normalization": "rescale_01",
    "RGBTo01Normalization": "rgb_01", "ZScoreNormalization": "zscore",
}  # fmt: skip
MAX_ANCESTORS = 16


@dataclass(frozen=True)
class SplineArguments:
    """Arguments of nnU-Net's resampling function, with its own defaults."""

    is_seg: bool = False
    order: int = 3
    order_z: int = 0
    force_separate_z: bool | None = False
    separate_z_anisotropy_threshold: float = 3.0

    @property
    def steps(self) -> SplineSteps:
        return SplineSteps(self.order, self.order_z, self.force_separate_z, self.separate_z_anisotropy_threshold)


@dataclass(frozen=True)
class Configuration:
    """The parts of a configuration, such as "3d_fullres", that are used."""

    patch_size: tuple[int, int, int]
    spacing: tuple[float, float, float]
    normalization_schemes: tuple[str, ...]
    use_mask_for_norm: tuple[bool, ...]
    resampling_fn_data_kwargs: SplineArguments
    resampling_fn_probabilities_kwargs: SplineArguments
    resampling_fn_data: str = RESAMPLING
    resampling_fn_probabilities: str = RESAMPLING
    preprocessor_name: str = "DefaultPreprocessor"
    previous_stage: str | None = None


@dataclass(frozen=True)
class Planned:
    """Settings from plans and a configuration.

    Attributes:
        network: size of the network.
        residual: whether its encoder is residual.
        patch: window size along the network's K, J, I.
        defaults: values of weights that the network lacks, by a pattern of nnU-Net's name for them.
        spacing_mm, steps, orientation: see `Preprocessing`.
        normalisations: in channel order.
    """

    network: NetworkSpec
    residual: bool
    patch: tuple[int, int, int]
    defaults: dict[str, float]
    spacing_mm: tuple[float, float, float]
    steps: NnunetSteps
    orientation: str
    normalisations: tuple[Normalisation, ...]

    def preprocessing(self, modalities: Sequence[str]) -> Preprocessing:
        """The preprocessing for channels with these ids."""
        normalisation = dict(zip(modalities, self.normalisations))
        return Preprocessing(self.orientation, self.spacing_mm, normalisation, self.steps)


def read_plans(plans: dict[str, Any], name: str, channels: int, mirror: tuple[int, ...], where: str) -> Planned:
    """Read the configuration `name` from plans.

    Args:
        plans: content of plans.json.
        channels: number of channels of the dataset.
        mirror: axes along which mirroring is allowed.
        where: name of the file in messages.

    Raises:
        ModelError: it is 2-D or the second stage of a cascade, or needs something unsupported.
    """
    plain = _configuration(plans, name, where)
    patch = plain.get("patch_size")
    if isinstance(patch, list) and len(patch) != 3:
        raise ModelError(f"{where}: the configuration '{name}' is for slices (2-D). Import a 3-D one, e.g. 3d_fullres.")
    configuration = known_keys(Configuration, plain, f"{where}: {name}")
    if configuration.previous_stage is not None:
        raise ModelError(
            f"{where}: '{name}' is the second half of a cascade and reads the masks of "
            f"'{configuration.previous_stage}'. Import 3d_fullres or 3d_lowres."
        )
    _check_known(configuration, plans, where)
    if not len(configuration.normalization_schemes) == len(configuration.use_mask_for_norm) == channels:
        raise ModelError(
            f"{where}: '{name}' normalises {len(configuration.normalization_schemes)} channels, dataset.json names "
            f"{channels}. Are both files of one training?"
        )
    network, residual, defaults = read_network(plain, f"{where}: {name}")
    axes = plans.get("transpose_forward", [0, 1, 2])
    if not isinstance(axes, list) or sorted(map(str, axes)) != ["0", "1", "2"]:
        raise ModelError(f"{where}: transpose_forward is {axes}, wanted are 0, 1 and 2 in some order.")
    return Planned(
        network,
        residual,
        configuration.patch_size,
        defaults,
        configuration.spacing,
        NnunetSteps(
            triple(int(axis) for axis in axes),
            configuration.resampling_fn_data_kwargs.steps,
            configuration.resampling_fn_probabilities_kwargs.steps,
            mirror,
        ),
        AXES_BY_READER[str(plans.get("image_reader_writer", "SimpleITKIO"))],
        tuple(_normalisation(configuration, n, plans, where) for n in range(channels)),
    )


def _configuration(plans: dict[str, Any], name: str, where: str) -> dict[str, Any]:
    """A configuration including inherited values."""
    known = plans.get("configurations")
    if not isinstance(known, dict):
        raise ModelError(f"{where}: it has no configurations; it is not of nnU-Net version 2.")
    chain: list[dict[str, Any]] = []
    wanted: Any = name
    while wanted is not None:
        found = known.get(wanted) if isinstance(wanted, str) else None
        if not isinstance(found, dict) or len(chain) > MAX_ANCESTORS:
            raise ModelError(f"{where}: the configuration '{wanted}' is not there, or inherits from itself.")
        chain.insert(0, found)
        wanted = found.get("inherits_from")
    return {key: value for part in chain for key, value in part.items()}


def _check_known(configuration: Configuration, plans: dict[str, Any], where: str) -> None:
    """Refuse steps that would be done differently here."""
    for key, value, known in (
        ("resampling_fn_data", configuration.resampling_fn_data, (RESAMPLING,)),
        ("resampling_fn_probabilities", configuration.resampling_fn_probabilities, (RESAMPLING,)),
        ("preprocessor_name", configuration.preprocessor_name, ("DefaultPreprocessor",)),
        ("image_reader_writer", plans.get("image_reader_writer", "SimpleITKIO"), tuple(AXES_BY_READER)),
        ("label_manager", plans.get("label_manager", "LabelManager"), ("LabelManager",)),
    ):
        if value not in known:
            raise ModelError(f"{where}: {key} is '{value}'; only {', '.join(known)} can be imported.")
    for arguments in (configuration.resampling_fn_data_kwargs, configuration.resampling_fn_probabilities_kwargs):
        if arguments.is_seg:
            raise ModelError(f"{where}: images or probabilities are resampled as masks, which cannot be imported.")


def _normalisation(configuration: Configuration, channel: int, plans: dict[str, Any], where: str) -> Normalisation:
    scheme = configuration.normalization_schemes[channel]
    kind = SCHEMES.get(scheme)
    if kind is None:
        raise ModelError(f"{where}: the normalisation '{scheme}' is not known; known are {', '.join(SCHEMES)}.")
    if kind == "zscore" and configuration.use_mask_for_norm[channel]:
        return Normalisation("zscore_nonzero")
    if kind != "ct_window":
        return Normalisation(kind)
    key = "foreground_intensity_properties_per_channel"
    table = plans.get(key, plans.get("foreground_intensity_properties_by_modality"))
    found = table.get(str(channel)) if isinstance(table, dict) else None
    if not isinstance(found, dict):
        raise ModelError(f"{where}: {key} says nothing of channel {channel}.")
    numbers = [found.get(name) for name in ("percentile_00_5", "percentile_99_5", "mean", "std")]
    if not all(isinstance(number, (int, float)) and not isinstance(number, bool) for number in numbers):
        raise ModelError(f"{where}: {key} of channel {channel} lacks percentiles, mean or std.")
    low, high, mean, std = map(float, numbers)  # type: ignore[arg-type]  # checked above
    return Normalisation(kind, low, high, mean, std)
