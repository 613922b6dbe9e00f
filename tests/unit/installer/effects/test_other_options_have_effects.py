"""The options and arguments of the commands that work on this host and are no flags of a run. Each has a row and a proof.
With the settings, the run flags and the client commands, they make up the whole command line."""

from __future__ import annotations

import json
import os
import signal
import tarfile
from collections.abc import Callable
from typing import Any

import pytest
from tests.fakes.host import FakeHost
from tests.unit.installer.effects.a_bench import TREE, Bench, bench
from tests.unit.installer.effects.of_images import (
    import_agent,
    import_catalogue,
    import_checksum,
    import_format,
    import_manager,
    import_name,
    import_source,
)
from tests.unit.installer.effects.of_releases import release_folders, release_scratch, release_ui, reloaded_tree
from tests.unit.installer.effects.test_client_options_have_effects import OF_CLIENTS, options
from tests.unit.installer.rotation.rotating import FakeManager

from nqrust import __version__
from nqrust.cli import services as service_commands
from nqrust.cli.support import bundle as support_bundle
from nqrust.contract import names, paths
from nqrust.host import local
from nqrust.installer import fingerprint, operations
from nqrust.installer.fingerprint.model import Fingerprint
from nqrust.installer.operations import bundling, serving
from nqrust.installer.request import ServiceStatus, Status, Summary
from nqrust.installer.settings.options import OPTIONS, RUN_FLAGS

__all__ = ["bench"]
VERB = {"phase run": "phase", "config show": "config", "config validate": "config"}
SETTINGS = ("install", "plan", "phase run", "config show", "config validate")


def detailed_exitcode(it: Bench) -> None:
    assert (it.nqr("plan"), it.nqr("plan", "--detailed-exitcode")) == (0, 10)
    assert it.nqr("install") == 0 and it.nqr("plan", "--detailed-exitcode") == 0, "nothing to change any more"


def script(it: Bench) -> None:
    assert it.nqr("install") == 0 and it.nqr("uninstall", "--script", "-") == 0
    assert it.out.startswith("#!/bin/sh") and "remove_file /etc/of-nqr" in it.out and it.host.mutations == []
    file = it.logs.parent / "undo.sh"
    assert it.nqr("uninstall", "--script", str(file)) == 0 and file.stat().st_mode & 0o777 == 0o700


def save_fingerprint(it: Bench) -> None:
    kept, saved = it.logs.parent / "kept", it.logs.parent / "saved"
    kept.write_bytes(b"a fingerprint")
    it.patch.setattr(paths, "FINGERPRINT", str(kept))
    assert it.nqr("uninstall", "--save-fingerprint", str(saved)) == 0 and saved.read_bytes() == b"a fingerprint"


def phase(it: Bench) -> None:
    asked: list[str] = []
    it.patch.setattr(operations, "phase_run", lambda request, name, events: asked.append(name) or Summary("ok", 0))
    assert it.nqr("phase", "run", "kvm") == 0 and it.nqr("phase", "run", "sudo") == 0 and asked == ["kvm", "sudo"]


def _status(it: Bench) -> None:
    it.patch.setattr(operations, "status", lambda request: Status(installed=True, version="9.9", mode="minimal"))
    it.patch.setattr(operations, "verify", lambda request, events: Summary("ok", 0))


def status_output(it: Bench) -> None:
    _status(it)
    assert it.nqr("status", "--output", "json") == 0 and json.loads(it.out)["version"] == "9.9"
    assert it.nqr("status") == 0 and it.out.startswith("NQRust-MicroVM is installed")


def version_output(it: Bench) -> None:
    assert it.nqr("version", "-o", "json") == 0 and json.loads(it.out)["version"] == __version__
    assert set(json.loads(it.out)) == {"version", "python", "architecture"}


def doctor_output(it: Bench) -> None:
    _status(it)
    assert it.nqr("doctor", "--output", "json") == 0 and json.loads(it.out)["status"]["version"] == "9.9"
    assert it.nqr("doctor") == 0 and "All is well." in it.out
    ended = Status(installed=True, problems=("It ended.",))
    it.patch.setattr(operations, "status", lambda request: ended)
    assert it.nqr("doctor") == 1 and "\nproblem: It ended.\n" in it.out and "All is well." not in it.out


def config_output(it: Bench) -> None:
    assert it.nqr("config", "show", "--mode", "minimal", "--output", "json") == 0
    assert json.loads(it.out)["settings"]["mode"] == {"value": "minimal", "source": "flag --mode"}
    assert it.nqr("config", "show") == 0 and it.out.startswith("mode ")


def network_output(it: Bench) -> None:
    it.patch.setattr(local, "LocalHost", FakeHost.debian12)
    assert it.nqr("network", "status", "--output", "json") == 0 and json.loads(it.out)["state"] == "none"
    assert it.nqr("network", "status") == 0 and it.out.startswith("No change")


def _services(it: Bench) -> list[int]:
    stopped: list[int] = []
    idle = serving.Services("supervisord", ())
    it.patch.setattr(serving, "show", lambda: serving.Services("supervisord", (ServiceStatus("m", True, False),)))
    it.patch.setattr(serving, "start", lambda tell: idle)
    it.patch.setattr(serving, "stop", lambda seconds, tell: stopped.append(seconds) or idle)
    return stopped


def services_output(it: Bench) -> None:
    _services(it)
    assert it.nqr("services", "status", "--output", "json") == 1 and json.loads(it.out)["all_run"] is False
    assert it.nqr("services", "status") == 1 and "NOT ACTIVE" in it.out


def services_wait(it: Bench) -> None:
    stopped = _services(it)
    it.patch.setattr(service_commands, "_reap", lambda: os.kill(os.getpid(), signal.SIGTERM))
    assert it.nqr("services", "start") == 0 and stopped == []
    assert it.nqr("services", "start", "--wait") == 0 and stopped == [40], it.err


def services_guests(it: Bench) -> None:
    stopped = _services(it)
    assert (it.nqr("services", "stop"), it.nqr("services", "stop", "--guest-seconds", "7")) == (0, 0) and stopped == [40, 7]
    assert it.nqr("services", "stop", "--guest-seconds", "76") == 2 and stopped == [40, 7], "longer than the agent may take"


def services_wait_guests(it: Bench) -> None:
    stopped = _services(it)
    it.patch.setattr(service_commands, "_reap", lambda: os.kill(os.getpid(), signal.SIGTERM))
    assert it.nqr("services", "start", "--wait", "--guest-seconds", "7") == 0 and stopped == [7]


def _prints(it: Bench, *files: str) -> None:
    it.patch.setattr(local, "LocalHost", FakeHost.debian12)
    it.patch.setattr(fingerprint, "take", lambda host: Fingerprint(1.0, {"users": {}, "files": {f: ["file"] for f in files}}))


def fingerprint_output(it: Bench) -> None:
    _prints(it, "/etc/a")
    file = it.logs.parent / "print"
    assert it.nqr("fingerprint") == 0 and "/etc/a" in it.out
    assert it.nqr("fingerprint", "--output", str(file)) == 0 and "/etc/a" not in it.out and "/etc/a" in file.read_text()


def fingerprint_compare(it: Bench) -> None:
    fingerprint_output(it)
    file = str(it.logs.parent / "print")
    assert it.nqr("fingerprint", "--compare", file) == 0 and "Nothing differs" in it.out
    _prints(it, "/etc/a", "/etc/b")
    assert it.nqr("fingerprint", "--compare", file) == 1 and "/etc/b" in it.out and "/etc/a" not in it.out


def before(it: Bench) -> None:
    fingerprint_output(it)
    file = str(it.logs.parent / "print")
    assert it.nqr("verify-clean") == 2 and "--before" in it.err
    assert it.nqr("verify-clean", "--before", file) == 0
    _prints(it)
    assert it.nqr("verify-clean", "--before", file) == 1


def _journal(it: Bench, *words: str) -> tuple[str, ...]:
    host = FakeHost.debian12()
    host.on("journalctl", prefix=True, answer="said\n")
    it.patch.setattr(local, "LocalHost", lambda: host)
    it.patch.setattr(os.path, "isdir", lambda path: True)
    assert it.nqr("logs", *words) == 0
    return host.commands[-1].argv


def logs_service(it: Bench) -> None:
    assert [word for word in _journal(it, "agent") if "unit" in word] == ["--unit=nqrust-agent.service"]
    assert len([word for word in _journal(it) if "unit" in word]) == len(names.UNITS)


def logs_follow(it: Bench) -> None:
    assert "-f" in _journal(it, "--follow") and "-f" in _journal(it, "-f") and "-f" not in _journal(it)


def logs_lines(it: Bench) -> None:
    assert " -n 7 " in " ".join(_journal(it, "--lines", "7")) and " -n 100 " in " ".join(_journal(it))


def bundle_output(it: Bench) -> None:
    host = FakeHost.debian12()
    it.patch.setattr(support_bundle, "_output", lambda host, argv: "")
    it.patch.setattr(local, "LocalHost", lambda: host)
    it.patch.chdir(it.logs.parent)
    file = it.logs.parent / "named.tar.gz"
    assert it.nqr("support-bundle", "--output", str(file)) == 0
    with tarfile.open(file) as tar:
        assert any(name.endswith("status.json") for name in tar.getnames())
    assert it.nqr("support-bundle") == 0 and len(list(it.logs.parent.glob("nqrust-support-*.tar.gz"))) == 1


def _built(it: Bench, *words: str) -> tuple[list[str], list[str | None]]:
    from nqrust.image import container, tiny

    recipes: list[str] = []
    urls: list[str | None] = []

    class Client:
        def __init__(self, url: str | None) -> None:
            urls.append(url)

        def __enter__(self) -> Client:
            return self

        def __exit__(self, *_: object) -> None:
            pass

        def send(self, call: Any) -> None:
            assert call.path == "/v1/images/scan"

    manifest = type("Manifest", (), {"rootfs": type("Rootfs", (), {"size": 1})})
    for module, name in ((tiny, "tiny"), (container, "container-runtime")):
        it.patch.setattr(module, "build", lambda *_, name=name, **__: recipes.append(name) or manifest)
    from nqrust.cli import images as image_commands

    it.patch.setattr(image_commands, "manager", Client)
    assert it.nqr("image", "build", *words) == 0
    return recipes, urls


def build_name(it: Bench) -> None:
    assert _built(it)[0] == ["tiny"] and _built(it, "container-runtime")[0] == ["container-runtime"]


def build_manager(it: Bench) -> None:
    assert _built(it)[1] == [None] and _built(it, "--manager", "http://m:1")[1] == ["http://m:1"]


def rotate_names(it: Bench) -> None:
    assert it.nqr("install") == 0
    manager = FakeManager(it.host)
    before = manager.stored
    assert it.nqr("rotate", "certificates") == 0 and manager.stored == before and manager.begun == ["certificates"]
    assert it.nqr("rotate", "database") == 0 and manager.stored != before and manager.begun == ["certificates"]


def rotate_timeout(it: Bench) -> None:
    assert it.nqr("install") == 0
    FakeManager(it.host, stuck=("kvm8",))
    for seconds in ("7", "70"):
        began = it.host.monotonic()
        assert it.nqr("rotate", "certificates", "--timeout", seconds) == 1
        assert float(seconds) < it.host.monotonic() - began < float(seconds) + 5


def completion_shell(it: Bench) -> None:
    for shell in ("bash", "zsh", "fish"):
        assert it.nqr("completion", shell) == 0 and f"Completion of nqr for {shell}" in it.out


def _bundled(it: Bench, *words: str) -> tuple[bundling.Ingredients, str]:
    """What a build would put into a bundle, and where."""
    made: list[tuple[bundling.Ingredients, str]] = []

    def write(host: FakeHost, ingredients: bundling.Ingredients, output: str, runner: str, progress: Any) -> str:
        made.append((ingredients, output))
        return __file__

    it.patch.setattr(bundling, "LocalHost", lambda: it.host)
    it.patch.setattr(bundling, "collecting", lambda host: object())
    it.patch.setattr(bundling, "write", write)
    it.patch.setenv("NQR_SOURCE_CHECKOUT", "/src/of-nqr")
    assert it.nqr("bundle", "build", *words) == 0, it.err
    return made[0]


def bundle_for(it: Bench) -> None:
    assert _bundled(it, "--for", "debian-12")[0].system == _bundled(it)[0].system == "debian-12"
    assert it.nqr("bundle", "build", "--for", "debian-13") == 1 and "NQR-REL-064" in it.err
    it.patch.setattr(bundling, "collecting", lambda host: None)
    assert it.nqr("bundle", "build") == 1 and "builds no bundles" in it.err, "a package manager that collects nothing"


def bundle_file(it: Bench) -> None:
    assert _bundled(it, "--output", "/srv/b.tar.zst")[1] == "/srv/b.tar.zst" and _bundled(it)[1] == os.getcwd()


def bundle_source(it: Bench) -> None:
    assert _bundled(it)[0].checkout == "/src/of-nqr" and _bundled(it, "--source", "/src/other")[0].checkout == "/src/other"
    it.patch.delenv("NQR_SOURCE_CHECKOUT")
    assert it.nqr("bundle", "build") == 2 and "NQR-USE-018" in it.err


def bundle_key(it: Bench) -> None:
    assert _bundled(it, "--key", "/root/key.pem")[0].key == "/root/key.pem" and _bundled(it)[0].key == ""


def bundle_images(it: Bench) -> None:
    assert _bundled(it, "--with", "images, container-runtime")[0].images == ("tiny", "container-runtime")
    assert _bundled(it, "--with", "images")[0].images == ("tiny",) and _bundled(it)[0].images == ()
    assert it.nqr("bundle", "build", "--with", "images,docker") == 2 and "NQR-REL-082" in it.err and "docker" in it.err


def bundle_firecracker(it: Bench) -> None:
    it.host.put("/root/firecracker.tgz", "an archive")
    it.patch.setenv("NQR_FIRECRACKER_SHA256", it.host.sha256("/root/firecracker.tgz"))
    assert _bundled(it, "--firecracker", "/root/firecracker.tgz")[0].firecracker == "/root/firecracker.tgz"
    it.host.put("/root/firecracker.tgz", "another archive")
    assert it.nqr("bundle", "build", "--firecracker", "/root/firecracker.tgz") != 0 and "NQR-REL-043" in it.err


def bundle_verify(it: Bench) -> None:
    asked: list[tuple[str, str]] = []

    def verify(path: str, key: str) -> bundling.Checked:
        asked.append((path, key))
        return bundling.Checked("1.2.3", "debian-12", "3.11", 4, 5, bool(key))

    it.patch.setattr(bundling, "verify_bundle", verify)
    assert it.nqr("bundle", "verify", "/srv/b.tar.zst") == 0 and "not checked" in it.out
    assert it.nqr("bundle", "verify", "/srv/b.tar.zst", "--key", "/root/key.pub") == 0 and "signed by that key" in it.out
    assert asked == [("/srv/b.tar.zst", ""), ("/srv/b.tar.zst", "/root/key.pub")]


ROWS: dict[tuple[str, str], tuple[str, Callable[[Bench], None]]] = {
    ("plan", "--detailed-exitcode"): ("exit code 10 when there are changes", detailed_exitcode),
    ("uninstall", "--script"): ("a shell script, 0700 or printed, and no change", script),
    ("uninstall", "--save-fingerprint"): ("the kept fingerprint is copied there", save_fingerprint),
    ("phase run", "name"): ("that phase is run", phase),
    ("rotate", "names"): ("only that is replaced", rotate_names),
    ("rotate", "--timeout"): ("how long it waits for the hosts", rotate_timeout),
    ("status", "--output"): ("one JSON document", status_output),
    ("version", "--output"): ("one JSON document", version_output),
    ("doctor", "--output"): ("one JSON document", doctor_output),
    ("config show", "--output"): ("one JSON document", config_output),
    ("network status", "--output"): ("one JSON document", network_output),
    ("services status", "--output"): ("one JSON document", services_output),
    ("services start", "--wait"): ("it stays until SIGTERM, then stops the services", services_wait),
    ("services start", "--guest-seconds"): ("how long guests may take at that stop", services_wait_guests),
    ("services stop", "--guest-seconds"): ("how long guests may take", services_guests),
    ("fingerprint", "--output"): ("the fingerprint is in the file and not on standard output", fingerprint_output),
    ("fingerprint", "--compare"): ("exit 1 and what differs", fingerprint_compare),
    ("verify-clean", "--before"): ("that fingerprint is compared instead of the kept one", before),
    ("logs", "service"): ("the unit that journalctl is asked for", logs_service),
    ("logs", "--follow"): ("journalctl -f", logs_follow),
    ("logs", "--lines"): ("journalctl -n", logs_lines),
    ("completion", "shell"): ("the script for that shell", completion_shell),
    ("support-bundle", "--output"): ("the path of the tar file", bundle_output),
    ("bundle build", "--for"): ("a bundle for another system is refused", bundle_for),
    ("bundle build", "--output"): ("the path of the bundle", bundle_file),
    ("bundle build", "--source"): ("the source tree that is built", bundle_source),
    ("bundle build", "--key"): ("the key that signs", bundle_key),
    ("bundle build", "--with"): ("the images in the bundle", bundle_images),
    ("bundle build", "--firecracker"): ("the archive that goes in, if its digest is known", bundle_firecracker),
    ("bundle verify", "file"): ("the bundle that is read", bundle_verify),
    ("bundle verify", "--key"): ("the key that must have signed", bundle_verify),
    ("dev reload", "--source"): ("the tree whose changes are brought", reloaded_tree),
    ("release build", "--source"): ("the tree that is built", release_folders),
    ("release build", "--to"): ("the folder of the release", release_folders),
    ("release build", "--with-ui"): ("whether the web UI is built", release_ui),
    ("release build", "--scratch"): ("where the build has its folder", release_scratch),
    ("image build", "name"): ("the recipe that is built", build_name),
    ("image build", "--manager"): ("the manager that is told", build_manager),
    ("image import", "name"): ("the folder of the image", import_name),
    ("image import", "source"): ("the disk image that is taken", import_source),
    ("image import", "--format"): ("the format that is not detected", import_format),
    ("image import", "--checksum"): ("the digest that a URL must have", import_checksum),
    ("image import", "--agent"): ("whether the guest agent goes in", import_agent),
    ("image import", "--catalogue"): ("the catalogue that is read", import_catalogue),
    ("image import", "--manager"): ("the manager that is told", import_manager),
}


def test_the_tables_together_are_the_command_line() -> None:
    flags = {option.flag for option in OPTIONS}
    known = {
        (here, one) for here, one in options(TREE)
        if (here in SETTINGS and one in flags)
        or (any(flag.flag == one and VERB.get(here, here) in flag.verbs for flag in RUN_FLAGS) and (here, one) not in ROWS)
    }  # fmt: skip
    assert {pair for pair in options(TREE) if pair[1] != "--help"} == known | OF_CLIENTS | ROWS.keys()
    assert [parameter.opts for parameter in TREE.params] == [["-V", "--version"]]


@pytest.mark.parametrize("pair", ROWS, ids=" ".join)
def test_an_option_has_the_effect_that_its_row_names(pair: tuple[str, str], bench: Bench) -> None:
    effect, proof = ROWS[pair]
    assert effect
    proof(bench)


def test_version_option_and_command_print_the_version(bench: Bench) -> None:
    for flag in ("-V", "--version"):
        assert bench.nqr(flag) == 0 and bench.out == f"nqr {__version__}\n"
    assert bench.nqr("version") == 0 and bench.out == f"nqr {__version__}\n"
