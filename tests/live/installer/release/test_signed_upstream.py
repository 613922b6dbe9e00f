"""A release in upstream's form, signed with openssl(1)."""

from __future__ import annotations

import base64
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.fakes.release_web import head
from tests.fakes.upstream_release import served_release  # noqa: F401  the fixture `release`

from nqrust.host.local import LocalHost
from nqrust.installer.engine.errors import ReleaseError
from nqrust.installer.engine.events import NullReporter
from nqrust.installer.release import upstream
from nqrust.installer.release.sources import open_source
from nqrust.installer.settings.model import Settings


@pytest.fixture
def signed(release: tuple[str, Path], tmp_path: Path) -> Callable[..., Settings]:
    """Signs the release as docs/reference/releases.md says, with openssl(1); gives settings that trust a key."""
    address, folder = release

    def openssl(*words: object) -> None:
        subprocess.run(["openssl", *map(str, words)], check=True, capture_output=True)

    for name in ("theirs", "other"):
        openssl("genpkey", "-algorithm", "ed25519", "-out", tmp_path / f"{name}.pem")
        openssl("pkey", "-in", tmp_path / f"{name}.pem", "-pubout", "-out", tmp_path / f"{name}.pub")
    listed = folder / upstream.CHECKSUMS
    listed.write_text(head("0.4.2") + listed.read_text())
    openssl("pkeyutl", "-sign", "-rawin", "-inkey", tmp_path / "theirs.pem", "-in", listed, "-out", f"{listed}.sig")
    return lambda key: Settings.model_validate({"release": {"source": address, "public_key": f"{tmp_path}/{key}"}})


@pytest.mark.parametrize("form", ["bytes", "base64"])
def test_release_signed_by_the_trusted_key_is_accepted(
    signed: Callable[..., Settings], release: tuple[str, Path], tmp_path: Path, form: str
) -> None:
    signature = release[1] / f"{upstream.CHECKSUMS}.sig"
    if form == "base64":
        signature.write_bytes(base64.b64encode(signature.read_bytes()) + b"\n")
    assert open_source(LocalHost(), signed("theirs.pub"), "", str(tmp_path), NullReporter()).release.version == "0.4.2"


def test_sha256sum_accepts_a_list_with_a_head(signed: Callable[..., Settings], release: tuple[str, Path]) -> None:
    flat = release[1] / "flat.txt"
    flat.write_text((release[1] / upstream.CHECKSUMS).read_text().replace("./dist/", ""))
    checked = subprocess.run(["sha256sum", "--check", "--strict", flat], cwd=release[1], capture_output=True, text=True)
    assert checked.returncode == 0 and checked.stderr == ""


@pytest.mark.parametrize("case", ["list", "signature", "empty", "garbage", "key", "unsigned", "no key", "private", "rsa"])
def test_release_without_a_trusted_signature_is_refused(
    signed: Callable[..., Settings], release: tuple[str, Path], tmp_path: Path, case: str
) -> None:
    listed, signature = (release[1] / f"{upstream.CHECKSUMS}{ending}" for ending in ("", ".sig"))
    key, code = "theirs.pub", "NQR-REL-024"
    if case == "list":
        listed.write_text(listed.read_text().replace("a", "b", 1))
    elif case in ("signature", "empty", "garbage"):
        signature.write_bytes({"signature": bytes(64), "empty": b"", "garbage": b"\xff not base64"}[case])
    elif case == "key":
        key = "other.pub"
    elif case == "unsigned":
        signature.unlink()
        code = "NQR-REL-021"
    else:
        code = "NQR-REL-026"
        key = {"no key": "none.pub", "private": "theirs.pem", "rsa": "rsa.pub"}[case]
        if case == "rsa":
            subprocess.run(["openssl", "genrsa", "-out", tmp_path / "rsa.pem", "2048"], check=True, capture_output=True)
            subprocess.run(
                ["openssl", "rsa", "-in", tmp_path / "rsa.pem", "-pubout", "-out", tmp_path / key],
                check=True,
                capture_output=True,
            )
    with pytest.raises(ReleaseError) as refused:
        open_source(LocalHost(), signed(key), "", str(tmp_path), NullReporter())
    assert refused.value.code == code
