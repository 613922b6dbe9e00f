"""What `--image` and `nqr image pull` fetch, and from where."""

from __future__ import annotations

import os
from typing import Any

import pytest
from tests.unit.installer.effects.fake_manager import IMAGE

from nqrust.cli import image_import, pulling
from nqrust.contract.images import Image, ImageList
from nqrust.installer.engine.errors import UsageError


class Client:
    """A manager that has these images, by name or origin. `asked`: its calls."""

    def __init__(self, *there: str) -> None:
        self.there, self.asked = there, list[str]()

    def send(self, call: Any) -> Any:
        self.asked.append(f"{call.method} {call.path}")
        reference = (call.query or {}).get("reference")
        if call.path == "/v1/images":
            found = [Image.model_validate({**IMAGE, "name": "of-the-manager"})] if reference in self.there else []
            return ImageList(items=found, total=len(found))
        return Image.model_validate({**IMAGE, "name": call.path.rpartition("/")[2]})


@pytest.fixture
def imported(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """Name and entry in the catalogue of each cloud image that was made."""
    made: list[tuple[str, str]] = []
    monkeypatch.setattr(image_import, "make", lambda name, entry: made.append((name, entry.name)))
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    return made


def test_a_plain_name_is_left_to_the_manager(imported: list[tuple[str, str]]) -> None:
    client = Client()
    assert pulling.present(client, "tiny") == "tiny" and client.asked == [] and imported == []  # type: ignore[arg-type]


def test_a_name_of_the_catalogue_is_imported_once(imported: list[tuple[str, str]]) -> None:
    assert pulling.present(Client(), "debian:trixie") == "debian-13"  # type: ignore[arg-type]
    assert pulling.present(Client("debian-13"), "debian:13") == "of-the-manager"  # type: ignore[arg-type]
    assert imported == [("debian-13", "debian:13")]


def test_another_reference_is_pulled_once(imported: list[tuple[str, str]]) -> None:
    client = Client()
    assert pulling.present(client, "nginx:alpine") == "pull"  # type: ignore[arg-type]
    assert client.asked == ["GET /v1/images", "POST /v1/images/pull"]
    assert pulling.present(Client("nginx:alpine"), "nginx:alpine") == "of-the-manager"  # type: ignore[arg-type]
    assert imported == []


def test_a_container_image_with_a_name_of_the_catalogue_has_its_registry_before_it(imported: list[tuple[str, str]]) -> None:
    assert pulling.present(Client(), "docker.io/library/debian:13") == "pull" and imported == []  # type: ignore[arg-type]


def test_only_root_imports_a_cloud_image(imported: list[tuple[str, str]], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(UsageError) as refused:
        pulling.present(Client(), "debian:13")  # type: ignore[arg-type]
    assert refused.value.code == "NQR-USE-001" and "sudo nqr image pull debian:13" in refused.value.cure and imported == []


@pytest.mark.parametrize("more", [("--insecure",), ("--no-wait",), ("--username", "me", "--password-file", "-")])
def test_options_for_registries_are_refused_with_a_cloud_image(more: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    from nqrust.cli.__main__ import run

    assert run(["image", "pull", "debian:13", *more]) == 2
    said = capsys.readouterr().err
    assert "NQR-USE-007" in said and "docker.io/library/debian:13" in said
