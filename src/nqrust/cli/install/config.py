"""config show, validate, schema: settings before an install uses them."""

from __future__ import annotations

import json
from typing import Any

import typer

from nqrust.cli.install.flags import Flags, with_flags
from nqrust.cli.output import Document, data


def build(app: typer.Typer) -> typer.Typer:
    app.command("show", help="Show every setting of an install, and its source.")(with_flags("config", settings=True)(show))
    app.command("validate", help="Check a configuration file together with the environment.")(
        with_flags("config", settings=True)(validate)
    )
    app.command("schema", help="Print the JSON schema of the configuration file.")(schema)
    return app


def show(flags: Flags, output: Document = "text") -> None:
    from nqrust.cli.install.gathering import gathered

    found = gathered(flags)
    rows = [(name, item.value, item.label) for name, item in found.given.items()]
    if output != "text":
        document = {name: {"value": value, "source": label} for name, value, label in rows}
        data({"settings": document, "notes": list(found.notes)}, output, default=str)
        return
    width = max(len(name) for name, _, _ in rows)
    value_width = min(36, max(len(_shown(value)) for _, value, _ in rows))
    for name, value, label in rows:
        typer.echo(f"{name:<{width}}  {_shown(value):<{value_width}}  {label}")
    for note in found.notes:
        typer.echo(f"note: {note}")


def validate(flags: Flags) -> None:
    from nqrust.cli.install.gathering import gathered

    found = gathered(flags, use_record=False)
    for note in found.notes:
        typer.echo(f"note: {note}")
    given = len(found.explicit)
    typer.echo(f"The settings are valid: mode {found.settings.mode.value}, {given} given, the rest are defaults.")


def schema() -> None:
    typer.echo(render_schema(), nl=False)


def render_schema() -> str:
    """Return the published schema (docs/reference/config.schema.json) as text."""
    from nqrust.installer.settings.model import Settings

    document: dict[str, Any] = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **Settings.model_json_schema(),
        "title": "NQRust-MicroVM settings",
    }
    return json.dumps(document, indent=2) + "\n"


def _shown(value: object) -> str:
    if value is None:
        return "-"
    return str(value).lower() if isinstance(value, bool) else str(value)
