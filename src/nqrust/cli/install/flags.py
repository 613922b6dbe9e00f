"""Flags from the tables of `settings/options.py`. Every command that takes settings gets the same flags with the same help."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Mapping
from typing import Annotated, Any

import typer

from nqrust.cli.failures import choice
from nqrust.installer.engine.errors import UsageError
from nqrust.installer.settings.options import OPTIONS, RUN_FLAGS, Form, RunFlag

Flags = dict[str, Any]
"""Python name of a flag -> its value, or None if it is absent."""

_PANELS = {
    "network": "Network",
    "database": "Database",
    "agent": "Agent",
    "manager": "Manager",
    "paths": "Folders",
}
_TRUE = frozenset({"true", "1", "yes", "on"})
_FALSE = frozenset({"false", "0", "no", "off", ""})


def with_flags(verb: str, *, settings: bool) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Decorate a command `f(flags, **own)`. It gets the run flags of `verb`, and with `settings` all settings flags, in one
    mapping; its own parameters stay parameters."""

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        own = [p for p in inspect.signature(function, eval_str=True).parameters.values() if p.name != "flags"]
        shared = [_run_parameter(flag) for flag in RUN_FLAGS if verb in flag.verbs]
        if settings:
            shared += [_setting_parameter(option) for option in OPTIONS]
        names = {parameter.name for parameter in shared}

        def call(**given: Any) -> Any:
            return function({n: given.pop(n) for n in list(given) if n in names}, **given)

        call.__name__, call.__doc__ = function.__name__, function.__doc__
        parameters = [*(p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in own), *shared]
        call.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        call.__annotations__ = {p.name: p.annotation for p in parameters}
        return call

    return decorate


def _parameter(name: str, kind: Any, option: Any) -> inspect.Parameter:
    default: Any = None
    annotation: Any = Annotated[kind, option]
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)


def _setting_parameter(option: Any) -> inspect.Parameter:
    declared = f"{option.flag}/{option.off}" if option.off else option.flag
    kind: Any = bool | None if option.form is Form.boolean else str | None
    metavar = "|".join(option.choices) or option.metavar or None
    panel = _PANELS.get(option.name.split(".")[0], "Settings")
    return _parameter(
        option.parameter,
        kind,
        typer.Option(declared, help=option.help, metavar=metavar, rich_help_panel=panel),
    )


def _run_parameter(flag: RunFlag) -> inspect.Parameter:
    declared = f"{flag.flag}/{flag.off}" if flag.off else flag.flag
    kind: Any = bool | None if flag.form is Form.boolean else str | None
    if flag.repeatable:
        kind = list[str] | None
    metavar = "|".join(flag.choices) or flag.metavar or None
    names = ("-o", declared) if flag.flag == "--output" else (declared,)
    return _parameter(flag.parameter, kind, typer.Option(*names, help=flag.help, metavar=metavar))


def settings_given(flags: Mapping[str, Any]) -> dict[str, object]:
    """Return the settings among the flags, by dotted name."""
    return {o.name: flags[o.parameter] for o in OPTIONS if flags.get(o.parameter) is not None}


def run_value(flags: Mapping[str, Any], name: str, environ: Mapping[str, str] | None = None) -> Any:
    """Return a run flag by its Python name: the flag, else its NQR_ variable, else None (False for a boolean flag).

    Raises UsageError NQR-USE-003, or NQR-CFG-008 for the variable.
    """
    environ = os.environ if environ is None else environ
    flag = next(f for f in RUN_FLAGS if f.parameter == name)
    value = flags.get(name)
    if value is not None and value != []:
        return choice(flag.flag, value, flag.choices) if flag.choices else value
    text = environ.get(flag.variable, "").strip()
    if flag.form is Form.boolean:
        if text.lower() in _TRUE or text.lower() in _FALSE:
            return text.lower() in _TRUE
        raise UsageError(
            "NQR-CFG-008",
            f"The environment variable {flag.variable} is “{text}”, which is neither true nor false.",
            f"Set {flag.variable} to true or false, or unset it.",
        )
    if not text:
        return [] if flag.repeatable else None
    if flag.repeatable:
        return [word for word in text.replace(",", " ").split() if word]
    return choice(f"The environment variable {flag.variable}", text, flag.choices) if flag.choices else text
