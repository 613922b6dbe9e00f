"""The manager's API reference as HTML, from its OpenAPI description (OpenAPI 3.1). Pure; loads nothing."""

from __future__ import annotations

import json
from collections.abc import Iterator
from html import escape
from typing import Any

_DEEPEST = 5


def render(api: dict[str, Any]) -> str:
    """Render all routes, by tag. All text from `api` is escaped."""
    groups: dict[str, list[str]] = {}
    for path, verbs in api.get("paths", {}).items():
        for verb, route in verbs.items():
            group = str((route.get("tags") or ["other"])[0])
            groups.setdefault(group, []).append("".join(_route(api, verb.upper(), path, route)))
    return "".join(
        f'<section><h2 class="reference">{escape(group.capitalize())}</h2>{"".join(routes)}</section>'
        for group, routes in groups.items()
    )


def _route(api: dict[str, Any], verb: str, path: str, route: dict[str, Any]) -> Iterator[str]:
    summary = escape(str(route.get("summary", "")))
    yield f'<details class="route"><summary><b>{escape(verb)}</b> <code>{escape(path)}</code> <span>{summary}</span></summary>'
    if route.get("description"):
        yield f"<p>{escape(str(route['description']))}</p>"
    for parameter in route.get("parameters", []):
        optional = "" if parameter.get("required") else " (optional)"
        told = parameter.get("description") or parameter.get("schema", {}).get("description") or ""
        kind = shape(api, parameter.get("schema", {}))
        yield f"<p><code>{escape(str(parameter['name']))}</code> in {escape(str(parameter['in']))}{optional}: {escape(str(kind))}. {escape(str(told))}</p>"
    body = route.get("requestBody", {}).get("content", {}).get("application/json", {}).get("schema")
    if body:
        yield f"<p>Request</p><pre>{_json(shape(api, body))}</pre>"
    for status, answer in route.get("responses", {}).items():
        schema = answer.get("content", {}).get("application/json", {}).get("schema")
        if str(status).startswith("2") and schema:
            yield f"<p>Answer {escape(str(status))}</p><pre>{_json(shape(api, schema))}</pre>"
    yield "</details>"


def shape(api: dict[str, Any], schema: dict[str, Any], depth: int = 0) -> Any:
    """Return an example for `schema`: names with types in place of values."""
    if depth > _DEEPEST:
        return "..."
    if "$ref" in schema:
        node: Any = api
        for key in str(schema["$ref"]).removeprefix("#/").split("/"):
            node = node.get(key, {})
        return shape(api, node, depth + 1)
    if "anyOf" in schema:
        known = [shape(api, one, depth + 1) for one in schema["anyOf"] if one.get("type") != "null"]
        return known[0] if known else None
    if "enum" in schema:
        return " | ".join(str(value) for value in schema["enum"])
    if schema.get("type") == "array":
        return [shape(api, schema.get("items", {}), depth + 1)]
    if "properties" in schema:
        return {name: shape(api, one, depth + 1) for name, one in schema["properties"].items()}
    return schema.get("type", "any")


def _json(value: Any) -> str:
    return escape(json.dumps(value, indent=2))
