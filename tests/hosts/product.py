"""The product as an administrator uses it on a test host: the bootstrap, `nqr`, and its visible effects."""

from __future__ import annotations

import ipaddress
import json
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tests.hosts.machine import Machine, Mark, Result

CLONE = "/root/a clone/nqrust"
"""Any path must do, one with a space too."""
CACHE = "/var/cache/nqrust-microvm"
CONFIG = "/etc/nqrust-microvm"
DHCP = (ipaddress.IPv4Address("10.0.0.10"), ipaddress.IPv4Address("10.0.0.250"))


def clone(host: Machine) -> str:
    return host.clone_repository(CLONE)


def bootstrap(
    host: Machine, *arguments: str, clone: str = CLONE, timeout: float = 1500.0, check: bool = True, **options: Any
) -> Result:
    """`scripts/install/install.sh` with these arguments."""
    return host.run([f"{clone}/scripts/install/install.sh", *arguments], timeout=timeout, check=check, **options)


def nqr(host: Machine, *arguments: str, timeout: float = 300.0, check: bool = True, **options: Any) -> Result:
    return host.run(["nqr", *arguments], timeout=timeout, check=check, **options)


def document(host: Machine, *arguments: str) -> Any:
    """What `nqr ... --output json` says."""
    return json.loads(nqr(host, *arguments, "--output", "json").stdout)


def lines(result: Result) -> list[dict[str, Any]]:
    """JSON lines; every line must be an object and the last one the summary."""
    found = [json.loads(line) for line in result.stdout.splitlines()]
    assert found and found[-1]["type"] == "summary", result.describe()
    assert [one["type"] for one in found].count("summary") == 1
    return found


def logs_that_are_gone(host: Machine, result: Result) -> list[str]:
    """Logs of runs that the program named and that are not there."""
    named = re.findall(r"/var/log/nqrust-install[\w/.-]*", result.stdout + result.stderr)
    return sorted({path for path in named if not host.exists(path.rstrip("."))})


def create_vm(host: Machine, name: str, *more: str, address: str = "") -> dict[str, Any]:
    """As the README says it: a running VM whose guest agent reported. `address`: how its address begins, where it is not one
    of the default network."""
    made = nqr(host, "vm", "create", "--name", name, "--image", "tiny", "--vcpus", "1", "--memory", "256", "--start",
               "--wait", *more, timeout=400)  # fmt: skip
    vm: dict[str, Any] = document(host, "vm", "show", name)
    assert vm["state"] == "running" and vm["ip"] in made.stdout, made.describe()
    assert vm["ip"].startswith(address) if address else DHCP[0] <= ipaddress.IPv4Address(vm["ip"]) <= DHCP[1]
    assert vm["boot_id"]
    return vm


def vm_processes(host: Machine, vm_id: str) -> dict[int, str]:
    """Process number (in the host) -> program, of everything that carries the VM's identity."""
    script = (
        "import os,sys,json\nfound={}\n"
        "for p in os.listdir('/proc'):\n"
        "  if p.isdigit():\n"
        "    try:\n"
        "      if ('NQRUST_SCOPE=fc-'+sys.argv[1]) in open(f'/proc/{p}/environ').read().split('\\0'):\n"
        "        found[p]=open(f'/proc/{p}/comm').read().strip()\n"
        "    except OSError: pass\n"
        "print(json.dumps(found))"
    )
    raw = json.loads(host.run(["python3", "-c", script, vm_id]).stdout)
    return {int(pid): comm for pid, comm in raw.items()}


def fetch(host: Machine, url: str, *, token: str = "", body: Any = None) -> tuple[int, str]:
    """(status, body) of a request made on the host; status 0 when nothing answers."""
    script = (
        "import sys,urllib.request as r,urllib.error as e\n"
        "url,token,body=sys.argv[1:]\n"
        "q=r.Request(url,data=body.encode() or None,headers={'Content-Type':'application/json',**({'Authorization':'Bearer '+token} if token else {})})\n"
        "o=r.build_opener(r.ProxyHandler({}))\n"
        "try:\n  a=o.open(q,timeout=10); print(a.status); print(a.read().decode())\n"
        "except e.HTTPError as x: print(x.code); print(x.read().decode())\n"
        "except OSError as x: print(0); print(x)"
    )
    status, _, text = host.run(
        ["python3", "-c", script, url, token, json.dumps(body) if body is not None else ""]
    ).stdout.partition("\n")
    return int(status), text


def eventually(what: str, probe: Any, timeout: float = 60.0) -> Any:
    """The first true value of `probe()`; AssertionError with its last value after `timeout` seconds."""
    deadline = time.monotonic() + timeout
    while True:
        found = probe()
        if found:
            return found
        assert time.monotonic() < deadline, f"{what}: not within {timeout:g} s, but {found!r}"
        time.sleep(0.5)


def guest_reaches(host: Machine, vm: dict[str, Any]) -> None:
    """Its guest agent answers, and says that it reaches its gateway."""
    shown = eventually("the guest reaches its gateway", lambda: _with_gateway(host, vm["name"]), 60)
    assert shown["guest"]["gateway"] == vm["ip"].rpartition(".")[0] + ".1"
    assert fetch(host, f"http://{vm['ip']}:9000/health")[0] == 200


def _with_gateway(host: Machine, name: str) -> dict[str, Any] | None:
    shown: dict[str, Any] = document(host, "vm", "show", name)
    return shown if shown["guest"] and shown["guest"]["gateway_reachable"] else None


def console_prompt(host: Machine, name: str) -> None:
    """`nqr vm console` joins standard input and output to the serial line: Enter brings the login prompt."""
    said = nqr(host, "vm", "console", name, input=b"\n", timeout=60).stdout
    assert f"{name} login:" in said, said


def typed(host: Machine, name: str, line: str, *, check: bool = True) -> str:
    """What the console shows after `line` was typed; who has logged in there stays so. Without `check` the VM may not run yet, or
    end."""
    return str(nqr(host, "vm", "console", name, input=f"{line}\n".encode(), timeout=60, check=check).stdout)


OURS = ("/etc", "/opt", "/srv", "/usr", "/var/lib")
"""Where a re-run must leave everything as it is."""
LIVING = re.compile(
    r"/var/lib/(postgresql/\d+/|apt/|dpkg/|systemd/|private/)"  # running daemons of the distribution
    r"|/var/lib/nqrust-microvm/(dhcp/leases|agent/)"  # leases and notes of a running agent
    r"|/var/lib/nqrust-microvm/manager-tls/"  # a running manager renews the web UI's certificate
    r"|/srv/fc/vms/"  # disks of running VMs
    r"|/__pycache__(/|$)"
)


def rewritten(host: Machine, since: Mark) -> list[str]:
    """Files below our folders that were written, changed or removed since the mark, but for those that live."""
    return [
        f"{change.what} {change.path}"
        for change in host.changes(since)
        if change.path.startswith(OURS) and not LIVING.search(change.path)
    ]


@dataclass(frozen=True)
class Refusal:
    """How bad input was answered."""

    exit_code: int
    code: str
    what: str
    cure: str


_CODED = re.compile(r"(NQR-[A-Z]{2,4}-\d{3}):? +(.+)")


def refusal(result: Result) -> list[Refusal]:
    """Every coded error of a run in text form: the code and what, then the cure on the next line."""
    text = (result.stderr + "\n" + result.stdout).splitlines()
    found = []
    for number, line in enumerate(text):
        match = _CODED.search(line)
        if match:
            after = text[number + 1].strip() if number + 1 < len(text) else ""
            found.append(Refusal(result.code, match[1], match[2], after))
    return found


def touched(host: Machine, since: Mark, besides: Sequence[str] = ()) -> list[str]:
    """What was written since the mark, but for the bootstrap's own cache, the clone and what every boot writes."""
    ignored = (CACHE, "/root/", "/tmp", "/run", "/var/log", "/var/lib/systemd", "/var/tmp", "/var/cache/ldconfig", *besides)
    return [f"{change.what} {change.path}" for change in host.changes(since) if not change.path.startswith(ignored)]
