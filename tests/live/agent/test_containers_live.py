"""Fifteen images of containers that differ in what they say about their process: from a real registry into guests under emulation."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from tests.container_images import Image, Member, busybox, folder, layer, link
from tests.live import container_registry
from tests.live.container_registry import Registry
from tests.machine_scripts.calling import run_script

from nqrust.contract.images import ImageManifest
from nqrust.host.local import LocalHost
from nqrust.image.oci import reference, skopeo
from nqrust.image.oci.build import Base, build
from nqrust.manager.vms.processes import complete

pytestmark = pytest.mark.hosts


@dataclass
class Case:
    """`layers`: above busybox, unless `base` is another. `command`, `env`: what the VM changes. `does`: see container_vms.py."""

    config: dict[str, Any]
    layers: list[bytes] = field(default_factory=list)
    base: bytes | None = None
    command: list[str] | None = None
    env: list[str] = field(default_factory=list)
    does: dict[str, Any] = field(default_factory=dict)


PATH = "PATH=/bin"
PAGE = layer([folder("srv"), Member("srv/index.html", b"hello\n", mode=0o644)])
SCRIPT = Member("entry", b'#!/bin/sh\necho entry $# "$1"\nexec "$@"\n')


def _static() -> bytes:
    """An image without a shell, a passwd and even /etc: one program."""
    return layer([Member("busybox", Path("/bin/busybox").read_bytes())])


CASES = {
    "web": Case(
        {"Cmd": ["httpd", "-f", "-h", "/srv"], "Env": [PATH], "ExposedPorts": {"80/tcp": {}}},
        [PAGE],
        does={"http": ["80/index.html"], "forward": 8080, "exec": "cat /srv/index.html", "stop": True},
    ),
    "other-port-user": Case(
        {"Cmd": ["httpd", "-f", "-p", "8000", "-h", "/srv"], "Env": [PATH], "User": "web", "ExposedPorts": {"8000/tcp": {}}},
        [PAGE],
        does={"http": ["8000/index.html"], "stop": True},
    ),
    "user": Case({"Cmd": ["sh", "-c", "id; echo $HOME; exit 7"], "Env": [PATH], "User": "web"}),
    "numbers": Case({"Cmd": ["sh", "-c", "id; exit 0"], "Env": [PATH], "User": "1234:99"}),
    "entrypoint": Case({"Entrypoint": ["/entry"], "Cmd": ["echo", "a b"], "Env": [PATH]}, [layer([SCRIPT])]),
    "own-command": Case(
        {"Entrypoint": ["/entry"], "Cmd": ["echo", "a b"], "Env": [PATH]}, [layer([SCRIPT])], command=["sh", "-c", "exit 42"]
    ),
    "env": Case(
        {"Cmd": ["sh", "-c", 'echo "[$A][$B][$C]"'], "Env": [PATH, "A=image", "B=image"]},
        env=["B=own", "C=two\nlines\\"],
    ),
    "workdir": Case({"Cmd": ["sh", "-c", "pwd; ls -d ."], "Env": [PATH], "WorkingDir": "/made/for/it"}),
    "signal": Case(
        {"Cmd": ["sh", "-c", "trap 'echo bye; exit 5' USR1; echo ready; while :; do sleep 0.1; done"], "Env": [PATH], "StopSignal": "SIGUSR1"},
        does={"ready": "ready", "stop": True},
    ),
    "volume": Case(
        {"Cmd": ["sh", "-c", "ls /data; touch /data/new && echo written"], "Env": [PATH], "Volumes": {"/data": {}}, "User": "web"},
        [layer([folder("data", 0o755, uid=101, gid=102), Member("data/old", b"", uid=101)]), layer([Member("data/.wh.old")])],
    ),
    "static": Case({"Entrypoint": ["/busybox"], "Cmd": ["echo", "alone"]}, base=_static()),
    "log-files": Case(
        {"Cmd": ["sh", "-c", "echo to-the-log >/var/log/out; exec 1>&-; kill -9 $$"], "Env": [PATH], "User": "web"},
        [layer([folder("var/log"), link("var/log/out", "/dev/stdout")])],
    ),
    "orphans": Case({"Cmd": ["sh", "-c", "(sleep 1; echo orphan) & (exit 3) & sleep 2; echo last"], "Env": [PATH]}),
    "missing": Case({"Cmd": ["/no/such/program"]}),
    "no-user": Case({"Cmd": ["sh"], "User": "nobody"}),
}  # fmt: skip


@pytest.fixture(scope="module")
def seen(tiny_image: Path) -> Iterator[dict[str, Any]]:
    container_registry.require()
    work = Path(tempfile.mkdtemp(prefix="nqr-"))  # short: Unix sockets go below it
    work.chmod(0o711)
    registry = Registry(work / "registry")
    host = LocalHost()
    (work / "built").mkdir()
    base = Base(
        str(tiny_image),
        ImageManifest.model_validate_json((tiny_image / "image.json").read_bytes()),
        str(tiny_image.parent / "guest-agent"),
    )
    try:
        cases = {}
        for name, case in CASES.items():
            lowest = case.base or busybox("httpd", "id", "echo", "sleep", "ls", "touch", "cat")
            pushed, _ = registry.push(Image([lowest, *case.layers], case.config), f"{name}:1")
            scratch = work / name
            scratch.mkdir()
            parsed = reference.parse(pushed)
            manifest = build(
                host,
                source=skopeo.copy(host, parsed, str(scratch), tls_verify=False),
                scratch=str(scratch / "build"),
                target_dir=str(work / "built" / name),
                name=name,
                origin=str(parsed),
                base=base,
                tell=lambda step, fraction: None,
            )
            process = complete(name, manifest.process, case.command, case.env)
            assert process is not None
            cases[name] = {"image": str(work / "built" / name), "process": process.model_dump(), **case.does}
        (work / "cases.json").write_text(json.dumps(cases))
        (work / "site").mkdir(mode=0o711)
        yield run_script("container_vms.py", work / "cases.json", work / "site", namespaces=("net", "mount"), seconds=580)
    finally:
        registry.close()
        shutil.rmtree(work, ignore_errors=True)


def output(of: dict[str, Any]) -> str:
    """What the process wrote: between the lines of the init."""
    after = of["console"].replace("\r", "").partition("nqr-init: started ")[2].partition("\n")[2]
    return str(after.partition("nqr-init: ")[0])


def test_a_web_server_answers_through_a_forwarded_port(seen: dict[str, Any]) -> None:
    web = seen["web"]
    assert web["http"] == ["hello\n"] and web["forwarded"] == "hello\n"
    assert web["exec"] == [0, "hello\n"], "commands work beside the process"
    assert (web["state"], web["exit_code"]) == ("stopped", 143) and web["seconds_to_stop"] < 15


def test_a_user_serves_another_port(seen: dict[str, Any]) -> None:
    assert seen["other-port-user"]["http"] == ["hello\n"]


@pytest.mark.parametrize(
    ("name", "said", "code"),
    [
        ("user", "uid=101(web) gid=102(web) groups=103(logs)\n/srv\n", 7),
        ("numbers", "uid=1234 gid=99\n", 0),
        ("entrypoint", "entry 2 echo\na b\n", 0),
        ("own-command", "entry 3 sh\n", 42),
        ("env", "[image][own][two\nlines\\]\n", 0),
        ("workdir", "/made/for/it\n.\n", 0),
        ("signal", "ready\nbye\n", 5),
        ("volume", "written\n", 0),
        ("static", "alone\n", 0),
        ("log-files", "to-the-log\n", 137),
        ("orphans", "orphan\nlast\n", 0),
    ],
)
def test_a_process_runs_as_its_image_says(seen: dict[str, Any], name: str, said: str, code: int) -> None:
    assert (output(seen[name]), seen[name]["exit_code"]) == (said, code), seen[name]["console"][-2000:]


def test_the_exit_code_decides_whether_it_failed(seen: dict[str, Any]) -> None:
    assert (seen["user"]["state"], seen["user"]["reason"]) == ("failed", "Its process ended with exit code 7.")
    assert (seen["numbers"]["state"], seen["numbers"]["reason"]) == ("stopped", "Its process ended with exit code 0.")


def test_what_cannot_start_is_said_on_the_console(seen: dict[str, Any]) -> None:
    assert seen["missing"]["exit_code"] == 127 and "/no/such/program cannot be started" in seen["missing"]["console"]
    assert seen["no-user"]["exit_code"] == 125 and "the image has no user nobody" in seen["no-user"]["console"]
