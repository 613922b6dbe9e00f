"""The API reference of the web UI: all routes, as text only."""

from __future__ import annotations

from nqrust.ui.reference import render, shape

API = {
    "paths": {
        "/v1/vms": {
            "post": {
                "tags": ["vms"],
                "summary": "Create <b>VM</b>",
                "description": "Accepted & on record.",
                "parameters": [{"name": "dry", "in": "query", "schema": {"type": "boolean"}}],
                "requestBody": {"content": {"application/json": {"schema": {"$ref": "#/components/schemas/Vm"}}}},
                "responses": {
                    "201": {"content": {"application/json": {"schema": {"$ref": "#/components/schemas/Vm"}}}},
                    "422": {},
                },
            }
        },
        "/health": {"get": {"responses": {"200": {}}}},
    },
    "components": {
        "schemas": {
            "Vm": {
                "properties": {
                    "name": {"type": "string"},
                    "ip": {"anyOf": [{"type": "string"}, {"type": "null"}]},
                    "state": {"enum": ["running", "stopped"]},
                    "parts": {"type": "array", "items": {"$ref": "#/components/schemas/Vm"}},
                }
            }
        }
    },
}


def test_every_route_is_there_by_tag() -> None:
    html = render(API)
    assert html.count('<details class="route">') == 2
    for part in (
        "<code>/v1/vms</code>",
        "<b>POST</b>",
        "Vms</h2>",
        "Other</h2>",
        "Accepted &amp; on record.",
        "dry",
        "(optional)",
    ):
        assert part in html


def test_what_the_description_says_is_text_and_no_markup() -> None:
    html = render(API)
    assert "<b>VM</b>" not in html and "&lt;b&gt;VM&lt;/b&gt;" in html


def test_shape_of_a_recursive_model_ends() -> None:
    found = shape(API, {"$ref": "#/components/schemas/Vm"})
    assert (found["name"], found["ip"], found["state"]) == ("string", "string", "running | stopped")
    assert "..." in str(found["parts"])
