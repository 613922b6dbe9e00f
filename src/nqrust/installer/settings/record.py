"""The settings that an install records, so that a re-run without flags uses the same."""

from __future__ import annotations

from typing import Any

from nqrust.installer.settings.model import Settings
from nqrust.installer.settings.options import MODE_DEFAULTS, OPTIONS


def value_of(settings: Settings, name: str) -> object:
    """Return the JSON value of a setting by its dotted name."""
    value: Any = settings
    for part in name.split("."):
        value = getattr(value, part)
    return getattr(value, "value", value)


def remembered(settings: Settings) -> dict[str, object]:
    """Return dotted name -> value of the settings that differ from their mode's defaults, and the mode.

    Excludes defaults: they must not survive a change of mode, nor block a better default.
    """
    defaults = Settings(mode=settings.mode)
    of_mode = MODE_DEFAULTS[settings.mode.value]
    kept: dict[str, object] = {}
    for option in OPTIONS:
        value = value_of(settings, option.name)
        default = of_mode.get(option.name, value_of(defaults, option.name))
        if value is not None and (value != default or option.name == "mode"):
            kept[option.name] = value
    return kept
