"""A release in upstream's form, from a server, through the same sources as the bundled one."""

from __future__ import annotations

import base64
import functools
import hashlib
import json
import subprocess
import threading
from collections.abc import Callable, Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from nqrust.host.local import LocalHost
from nqrust.installer.engine.errors import ReleaseError
from nqrust.installer.engine.events import NullReporter
from nqrust.installer.engine.step import Needed, Satisfied
from nqrust.installer.release import upstream
from nqrust.installer.release.sources import open_source, source_steps
from nqrust.installer.settings.model import Settings


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        return None


@pytest.fixture
def release(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[str, Path]]:
    for name in ("http_proxy", "all_proxy", "HTTP_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    folder = tmp_path / "served" / "v0.4.2"
    folder.mkdir(parents=True)
    lines = []
    for name in (*upstream.ASSETS.values(), "alpine.ext4", "vmlinux-6.1"):
        (folder / name).write_bytes(name.encode() * 100)
        lines.append(f"{hashlib.sha256((folder / name).read_bytes()).hexdigest()}  ./dist/{name}")
    (folder / upstream.CHECKSUMS).write_text("\n".join(lines) + "\n")
    (folder / upstream.MANIFEST).write_text(json.dumps({"version": "v0.4.2"}))
    server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(tmp_path / "served")))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}/v0.4.2", folder
    server.shutdown()
    server.server_close()


def settings(source: str) -> Settings:
    return Settings.model_validate({"release": {"source": source}})


def test_it_is_described_and_fetched(release: tuple[str, Path], tmp_path: Path) -> None:
    address, folder = release
    host, cache = LocalHost(), tmp_path / "cache"
    wanted = settings(address)
    opened = open_source(host, wanted, "", str(cache), NullReporter())
    assert opened.release.form == "upstream" and opened.release.version == "0.4.2"
    assert {c.name for c in opened.release.components} == {"manager", "agent", "guest-agent", "ui"}
    assert [image.name for image in opened.release.images] == ["alpine"]
    assert opened.release.database_role_attributes == ("CREATEROLE",)
    assert not cache.exists(), "opening a source writes nothing"
    (step,) = source_steps(wanted, "", opened, str(cache))
    assert isinstance(step.inspect(host), Needed)
    step.apply(host)
    step.verify(host)
    assert isinstance(step.inspect(host), Satisfied)
    name = upstream.ASSETS["manager"]
    assert (Path(opened.directory) / name).read_bytes() == (folder / name).read_bytes()


def test_an_asset_that_was_swapped_is_refused(release: tuple[str, Path], tmp_path: Path) -> None:
    address, folder = release
    host, wanted = LocalHost(), settings(address)
    opened = open_source(host, wanted, "", str(tmp_path / "cache"), NullReporter())
    asset = folder / upstream.ASSETS["agent"]
    asset.write_bytes(asset.read_bytes()[::-1])
    (step,) = source_steps(wanted, "", opened, str(tmp_path / "cache"))
    with pytest.raises(ReleaseError) as failure:
        step.apply(host)
    assert failure.value.code == "NQR-REL-022"
    assert isinstance(step.inspect(host), Needed), "a half-fetched release is not taken for one"


def test_a_release_without_checksums_is_refused(release: tuple[str, Path], tmp_path: Path) -> None:
    address, folder = release
    (folder / upstream.CHECKSUMS).write_text("")
    with pytest.raises(ReleaseError) as failure:
        open_source(LocalHost(), settings(address), "", str(tmp_path / "cache"), NullReporter())
    assert failure.value.code == "NQR-REL-025"


def test_a_tag_that_does_not_exist_says_so(release: tuple[str, Path], tmp_path: Path) -> None:
    address, _ = release
    with pytest.raises(ReleaseError) as failure:
        open_source(LocalHost(), settings(address.replace("v0.4.2", "v9")), "", str(tmp_path), NullReporter())
    assert failure.value.code == "NQR-REL-021"


@pytest.mark.parametrize("source", ["bundeld", "/no/such/file.tar", "github:owner", "github:a/b@../c"])
def test_a_source_that_is_none_is_named(source: str, tmp_path: Path) -> None:
    with pytest.raises(ReleaseError) as failure:
        open_source(LocalHost(), settings(source), "", str(tmp_path), NullReporter())
    assert failure.value.code == "NQR-REL-018"


def test_checksum_lines() -> None:
    digest = "ab" * 32
    text = f"{digest}  plain\n{digest.upper()} *dist/binary\n# comment\nshort  x\n{digest} one-space\n"
    assert upstream.parse_checksums(text) == {"plain": digest, "binary": digest}


@pytest.fixture
def signed(release: tuple[str, Path], tmp_path: Path) -> Callable[..., Settings]:
    """Signs the release as docs/understand/security.md says, with openssl(1); gives settings that trust a key."""
    address, folder = release

    def openssl(*words: object) -> None:
        subprocess.run(["openssl", *map(str, words)], check=True, capture_output=True)

    for name in ("theirs", "other"):
        openssl("genpkey", "-algorithm", "ed25519", "-out", tmp_path / f"{name}.pem")
        openssl("pkey", "-in", tmp_path / f"{name}.pem", "-pubout", "-out", tmp_path / f"{name}.pub")
    listed = folder / upstream.CHECKSUMS
    openssl("pkeyutl", "-sign", "-rawin", "-inkey", tmp_path / "theirs.pem", "-in", listed, "-out", f"{listed}.sig")
    return lambda key: Settings.model_validate({"release": {"source": address, "public_key": f"{tmp_path}/{key}"}})


@pytest.mark.parametrize("form", ["bytes", "base64"])
def test_a_release_that_the_trusted_key_signed_is_opened(
    signed: Callable[..., Settings], release: tuple[str, Path], tmp_path: Path, form: str
) -> None:
    signature = release[1] / f"{upstream.CHECKSUMS}.sig"
    if form == "base64":
        signature.write_bytes(base64.b64encode(signature.read_bytes()) + b"\n")
    assert open_source(LocalHost(), signed("theirs.pub"), "", str(tmp_path), NullReporter()).release.version == "0.4.2"


@pytest.mark.parametrize("case", ["list", "signature", "empty", "garbage", "key", "unsigned", "no key", "private", "rsa"])
def test_anything_else_is_refused(signed: Callable[..., Settings], release: tuple[str, Path], tmp_path: Path, case: str) -> None:
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
