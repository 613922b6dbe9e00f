"""Forwarding, KVM's module and a cluster of PostgreSQL in the undo script: they stay where nqr itself would leave them."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from tests.fakes.host import FakeHost
from tests.live.installer.verbs.script.test_standing_script import render
from tests.live.installer.verbs.script.test_undo_script import entry, tools
from tests.signs_of_forwarding import LINKS, RULES, SETTINGS, translations

from nqrust.installer.engine.originals import Originals
from nqrust.installer.engine.verb import UndoContext
from nqrust.installer.verbs.kernel.forwarding import FILE, FORWARDING
from nqrust.installer.verbs.kernel.undo import undo_module, undo_sysctl
from nqrust.installer.verbs.script.prelude import PRELUDE
from nqrust.installer.verbs.service import shell
from nqrust.installer.verbs.service.undo import undo_unit

DOCKER = "-A POSTROUTING -s 172.17.0.0/16 ! -o docker0 -j MASQUERADE"
VPN = "-A POSTROUTING -o wg0 -j MASQUERADE"


@pytest.fixture(params=[name for name in ("mawk", "gawk", "busybox") if shutil.which(name)])
def awk(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A shell function that is this awk."""
    called = "busybox awk" if request.param == "busybox" else request.param
    return f'awk() {{ {called} "$@"; }}\n'


@pytest.fixture
def host(tmp_path: Path) -> Path:
    """The files of a host whose forwarding nqr turned on."""
    for name in LINKS:
        link = tmp_path / "sys/class/net" / name
        link.mkdir(parents=True)
        (link / "ifalias").write_text("nqrust-microvm\n" if name == "fcbr0" else "\n")
    for path, content in ((FILE, "1\n"), ("/proc/net/ip_tables_names", "")):
        (tmp_path / path[1:]).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path[1:]).write_text(content)
    return tmp_path


def sh(text: str, host: Path, iptables: str = "", nft: str = "", *options: str) -> str:
    """Run the script's text on these files, and return what it says of them."""
    shutil.rmtree(host / "bin", ignore_errors=True)
    (host / "iptables").write_text(iptables)
    (host / "nft").write_text(nft)
    path = tools(host / "bin", iptables_save=f"cat {host}/iptables", iptables_legacy_save="echo", nft=f"cat {host}/nft")
    text = re.sub(r"(?<![\w$}])/(etc|run|usr|sys|proc)/(?!self)", rf"{host}/\1/", text)
    done = subprocess.run(
        ["sh", "-s", "--", *options], input=text, capture_output=True, text=True, cwd=host, timeout=60, check=False,
        env={**os.environ, "PATH": path},
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    return done.stdout.replace(str(host), "")


FUNCTIONS = PRELUDE.partition("cd / || exit 1\n")[2]


@pytest.mark.parametrize("name", RULES)
def test_a_rule_of_others_tells_that_they_forward(host: Path, awk: str, name: str) -> None:
    iptables, nft, found = RULES[name]
    assert tuple(sh(f"{FUNCTIONS}{awk}signs_of_forwarding\n", host, iptables, nft).splitlines()) == found


@pytest.mark.parametrize(("path", "content", "found"), SETTINGS)
def test_a_setting_of_others_tells_that_they_forward(host: Path, path: str, content: str, found: bool) -> None:
    (host / path[1:]).parent.mkdir(parents=True)
    (host / path[1:]).write_text(content)
    assert sh(f"{FUNCTIONS}signs_of_forwarding\n", host) == (f"{path}\n" if found else "")


@pytest.mark.parametrize(
    ("known", "now", "sign"),
    [
        ((), (), ""),
        ((), (DOCKER,), DOCKER),
        ((VPN,), (VPN,), ""),
        ((VPN,), (VPN, DOCKER), DOCKER),
    ],
    ids=["nobody", "Docker", "a VPN from before", "Docker beside a VPN from before"],
)
def test_forwarding_stays_on_under_others_that_came_after_nqr(
    host: Path, known: tuple[str, ...], now: tuple[str, ...], sign: str
) -> None:
    script = render(entry(1, undo_sysctl(FORWARDING, prior="0", ours="1", others=known)))
    script = FUNCTIONS + script.partition("cd / || exit 1\n")[2].partition(FUNCTIONS)[2]
    listed = translations(*now)
    dry = sh(script, host, listed, "", "--dry-run", "--non-interactive")
    assert ("stays: step 1" if sign else "undo: step 1") in dry and (host / FILE[1:]).read_text() == "1\n"
    said = sh(script.partition("\nif with_systemd;")[0], host, listed, "", "--non-interactive")
    assert (host / FILE[1:]).read_text() == ("1\n" if sign else "0\n")
    assert (f"net.ipv4.ip_forward stays 1, because others forward packets ({sign}). `echo 0 >{FILE}`" in said) is bool(sign)


@pytest.mark.parametrize(
    ("group", "passwd", "user"),
    [
        ("nqrust,friend", "old:x:12:104::/:/bin/sh", ""),
        ("nqrust,friend,qemu", "old:x:12:104::/:/bin/sh", "qemu"),
        ("nqrust,friend", "old:x:12:104::/:/bin/sh\nlibvirt-qemu:x:13:104::/:/bin/false", "libvirt-qemu"),
        ("", "root:x:0:0::/root:/bin/sh", ""),
    ],
)
def test_module_of_kvm_stays_for_users_that_came_since(host: Path, group: str, passwd: str, user: str) -> None:
    (host / "etc").mkdir()
    (host / "sys/module/kvm_intel").mkdir(parents=True)
    (host / "etc/group").write_text(f"root:x:0:\nkvm:x:104:{group}\n")
    (host / "etc/passwd").write_text(f"{passwd}\n")
    script = render(entry(1, undo_module("kvm_intel", users=("friend", "old"))))
    script = (
        FUNCTIONS
        + f"modprobe() {{ rm -r {host}/sys/module/$2; }}\n"
        + script.partition("cd / || exit 1\n")[2].partition(FUNCTIONS)[2]
    )
    assert ("stays: step 1" if user else "undo: step 1") in sh(script, host, "", "", "--dry-run", "--non-interactive")
    said = sh(script.partition("\nif with_systemd;")[0], host, "", "", "--non-interactive")
    assert (host / "sys/module/kvm_intel").exists() is bool(user)
    assert (f"because {user} may use /dev/kvm. `modprobe --remove kvm_intel` unloads it." in said) is bool(user)


@pytest.mark.parametrize("used", [False, True])
def test_cluster_that_others_came_to_use_runs_on(host: Path, used: bool) -> None:
    data = host / "data"
    (data / ("base/16390" if used else "base/5")).mkdir(parents=True)
    (data / "PG_VERSION").write_text("15\n")
    undo = undo_unit("systemd", "postgresql@15-main.service", enabled=True, active=False, cluster=str(data), found=True)
    (line,) = shell.unit(UndoContext(FakeHost.debian12(), Originals(FakeHost.debian12(), "/x")), undo.args)
    with_systemd = 'with_systemd() { :; }\nsystemctl() { echo "systemctl $*"; }\n'
    said = sh(f"{FUNCTIONS}{with_systemd}{line}\n", host)
    assert ("systemctl stop postgresql@15-main.service\n" in said) is not used
    assert ("runs on for the data in /data. `systemctl stop postgresql@15-main.service` stops it." in said) is used


@pytest.mark.parametrize("used", [False, True])
@pytest.mark.parametrize("layout", ["debian", "redhat"])
def test_cluster_that_others_came_to_use_and_moved_runs_on(tmp_path: Path, layout: str, used: bool) -> None:
    data, conf = tmp_path / "data", tmp_path / "etc/15/main/postgresql.conf"
    (data / ("base/16390" if used else "base/5")).mkdir(parents=True)
    (data / "PG_VERSION").write_text("15\n")
    conf.parent.mkdir(parents=True)
    conf.write_text(f"data_directory = '{data}'\n")
    (tmp_path / "postgresql.service").write_text(f"Environment=PGDATA={data}\n")
    usual = {"debian": "/var/lib/postgresql/15/main", "redhat": "/var/lib/pgsql/data"}[layout]
    undo = undo_unit("systemd", "postgresql.service", enabled=True, active=False, cluster=usual)
    (line,) = shell.unit(UndoContext(FakeHost.debian12(), Originals(FakeHost.debian12(), "/x")), undo.args)
    functions = FUNCTIONS.replace("/etc/postgresql/", f"{tmp_path}/etc/").replace("/etc/systemd/system", str(tmp_path))
    functions = functions.replace("[ -d /var/lib/pgsql ]", "true")
    told = f'{functions}with_systemd() {{ :; }}\nsystemctl() {{ echo "systemctl $*"; }}\n{line}\n'
    said = subprocess.run(["sh", "-u", "-c", told], capture_output=True, text=True, check=True).stdout
    assert ("systemctl stop postgresql.service\n" in said) is not used
