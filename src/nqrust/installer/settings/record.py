"""What an install remembers of its settings, so that a re-run without flags asks for the same."""

from __future__ import annotations

from typing import Any

from nqrust.installer.settings.model import Settings
from nqrust.installer.settings.options import MODE_DEFAULTS, OPTIONS


def value_of(settings: Settings, name: str) -> object:
    """The value of a setting by its dotted name, as JSON has it."""
    value: Any = settings
    for part in name.split("."):
        value = getattr(value, part)
    return getattr(value, "value", value)


def remembered(settings: Settings) -> dict[str, object]:
    """Dotted name -> value of what differs from the defaults of its mode, and the mode.

    What merely was a default is left out: it must not outlive a change of mode, nor hold back a better
    default.
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
