"""`-o` and `-q` of every command that has them, and errors as one JSON document."""

from __future__ import annotations

import json
from typing import Any

import pytest
import yaml
from tests.unit.cli.test_cli_contract import nqr
from tests.unit.installer.effects.test_client_options_have_effects import OF_CLIENTS, TABLE, TREE, ran

from nqrust.cli import failures
from nqrust.cli.__main__ import run

__all__ = ["ran"]
PLAIN = {"host token", "token create"}
"""Commands whose text is a secret: they have no names."""
WITH_OUTPUT = [here for here in TABLE if (here, "--output") in OF_CLIENTS]
LISTS = [here for here in TABLE if (here, "--quiet") in OF_CLIENTS]


def test_every_list_has_quiet_and_every_option_output_is_also_o() -> None:
    assert {here for here in TABLE if here.split()[-1] == "ls"} == set(LISTS)

    def options(node: Any) -> Any:
        for inner in node.commands.values():
            yield from options(inner) if hasattr(inner, "commands") else (parameter.opts for parameter in inner.params)

    assert all("-o" in opts for opts in options(TREE) if "--output" in opts)


@pytest.mark.parametrize("here", WITH_OUTPUT)
def test_yaml_is_the_json_document(here: str, ran: Any) -> None:
    base = TABLE[here]["base"]
    assert yaml.safe_load(ran(here, f"{base} -o yaml").out) == json.loads(ran(here, f"{base} -o json").out)


@pytest.mark.parametrize("here", [here for here in WITH_OUTPUT if here not in PLAIN])
def test_name_is_names_only_and_wide_has_no_less_than_text(here: str, ran: Any) -> None:
    base = TABLE[here]["base"]
    names = ran(here, f"{base} -o name").out.splitlines()
    assert all(name and " " not in name for name in names)
    text, wide = ran(here, base).out, ran(here, f"{base} -o wide").out
    assert set(text.split()) <= set(wide.split())
    if here in LISTS:
        assert len(names) == 1 and ran(here, f"{base} -q").out.splitlines() == names
        assert ran(here, f"{base} -q -o json").code == 2


@pytest.mark.parametrize("here", ["vm ls", "image ls", "host ls", "template ls", "token ls"])
def test_wide_has_more_columns(here: str, ran: Any) -> None:
    assert len(ran(here, "-o wide").out.splitlines()[0].split()) > len(ran(here, "").out.splitlines()[0].split())


@pytest.mark.parametrize("form", [["-o", "json"], ["-ojson"], ["--output", "json"], ["--output=json"], ["-o", "yaml"]])
@pytest.mark.parametrize(
    ("words", "code", "exit_code"),
    [
        (["vm", "ls", "--manager", "http://127.0.0.1:9"], "NQR-API-198", 1), (["vm", "lst"], "NQR-USE-005", 2),
        (["vm", "ls", "--nope"], "NQR-USE-002", 2), (["vm", "show"], "NQR-USE-004", 2), (["services", "stats"], "NQR-USE-005", 2),
    ],
)  # fmt: skip
def test_an_error_is_one_json_document_on_standard_error(
    words: list[str],
    code: str,
    exit_code: int,
    form: list[str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("NQR_TOKEN", "x")
    assert run([*words, *form]) == exit_code
    said = capsys.readouterr()
    error = json.loads(said.err)["error"]
    assert (error["code"], error["exit_code"], said.out) == (code, exit_code, "")
    assert error["message"] and error["cure"]


@pytest.mark.parametrize(
    "argv",
    [
        ["vm", "show", "x"], ["vm", "show", "x", "-o", "text"], ["support-bundle", "-o", "json"], ["fingerprint", "--output", "json"],
        ["vm", "exec", "x", "--", "curl", "-o", "json"], ["vm", "show", "-o"],
    ],
)  # fmt: skip
def test_other_words_do_not_ask_for_a_document(argv: list[str]) -> None:
    assert failures.asked_output(argv) in ("", "text")


def test_an_unknown_format_is_refused_with_the_known_ones() -> None:
    done = nqr("vm", "ls", "-o", "jsn", NQR_TOKEN="x")
    assert done.returncode == 2 and "Did you mean json?" in done.stderr
    assert nqr("status", "-o", "name").returncode == 2
