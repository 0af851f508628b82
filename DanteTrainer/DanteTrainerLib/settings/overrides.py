"""Overrides of single settings on the command line: `--set run.steps=800`."""

from __future__ import annotations

from typing import Any

from DanteSegmenterLib.errors import ConfigError
from DanteSegmenterLib.strict_dataclass import dotted, to_plain, unknown_key_message

from .experiment import Experiment
from .tables import OptimiserSettings
from .toml_file import parse_toml


def override(plain: dict[str, Any], text: str) -> None:
    """Write "key=value" into an experiment's plain values, in place.

    Raises:
        ConfigError: the value is missing, or the key matches no setting or several.
    """
    key, equals, wanted = text.partition("=")
    if not equals:
        raise ConfigError(f"--set {text}: key=value is needed, for example run.steps=800.")
    try:
        value = parse_toml(f"x = {wanted}")["x"]
    except ValueError:  # also raised for a number with thousands of digits
        value = wanted  # an unquoted word
    except RecursionError:
        raise ConfigError(f"--set {key}: the value is nested too deeply.") from None
    *sections, last = full_key(key.strip()).split(".")
    for section in sections:
        if plain.get(section) is None:
            plain[section] = {}
        plain = plain[section]
        if not isinstance(plain, dict):
            raise ConfigError(f"'{section}' must be a table of settings, got {plain!r}.")
    plain[last] = value


def full_key(key: str) -> str:
    """Expand a setting's last key part to its full dotted name.

    Raises:
        ConfigError: the key matches no setting or several.
    """
    default = Experiment(pretrain_optimiser=OptimiserSettings())
    keys = [known for known, _ in dotted(to_plain(default, whole=True))]
    if key in keys:
        return key
    # A bare last part means a shared setting first, then a method's own, never one of `pretrain_optimiser`.
    known = [k for k in keys if k.split(".")[-1] == key and not k.startswith("pretrain_optimiser.")]
    common = [k for k in known if k.split(".")[0] not in default.method_settings]
    matches = common or known
    if len(matches) > 1:
        raise ConfigError(f"--set {key}: which of {', '.join(matches)}?")
    if not matches:
        raise ConfigError(unknown_key_message(key, keys, "--set"))
    return matches[0]
