"""Verbs for units, nqr's supervisord and VM scopes."""

from __future__ import annotations

import re
import signal
from typing import Any

from nqrust.contract import names as product
from nqrust.host.errors import CommandFailed, HostError, PathError, ProgramMissing
from nqrust.host.port import Host, command
from nqrust.installer.engine.undo_record import Undo
from nqrust.installer.engine.verb import Kept, Outcome, Partly, Reverted, UndoContext
from nqrust.installer.verbs import cluster_data

SCOPE_ENV = f"{product.SCOPE_ENV}=".encode()
TAP_ALIAS = product.TAP_ALIAS.encode()
GRACE_SECONDS = 10.0
_LARGEST = 1 << 20  # bytes that are read of what a process says of itself


def undo_unit(supervisor: str, name: str, *, enabled: bool, active: bool, cluster: str = "", found: bool = False) -> Undo:
    """Restore a service's state: enabled or not, running or not. `cluster`: the PostgreSQL data folder that it serves; the
    service runs on while that holds data of others. `found`: nqr did not make it."""
    args = {"supervisor": supervisor, "name": name, "enabled": enabled, "active": active}
    if cluster:
        args |= {"cluster": cluster, **({"found": True} if found else {})}
    return Undo("unit", args)


def undo_supervisord(config: str, program: str) -> Undo:
    """End the supervisord that runs with `config`, and its programs."""
    return Undo("supervisord", {"config": config, "program": program})


def undo_vms(prefix: str) -> Undo:
    """End every VM scope whose name begins with `prefix`, gracefully first."""
    return Undo("vms", {"prefix": prefix})


def unit(context: UndoContext, args: dict[str, Any]) -> Outcome:
    """Restore a service's state, except for its start: older records restore the files it reads, and then `settle` restarts
    it. A service without a unit file is only stopped (systemctl(1))."""
    host, name = context.host, str(args["name"])
    if args["supervisor"] != "systemd":
        return _supervisord_program(host, name, args)
    if not _has_systemd(host):
        return Reverted("no systemd here")
    if args.get("cluster") and (used := cluster_data.used_folder(host, str(args["cluster"]))):
        args = {**args, "cluster": used}
        if args.get("found") and not context.needed_packages:
            return Kept(runs_on(args))
        return Partly(runs_on_for(args))
    if not args["active"]:
        host.run(command("systemctl", "stop", name, ok=(0, 1, 5), timeout=180))
    if not args["enabled"]:
        host.run(command("systemctl", "disable", name, ok=(0, 1, 5)))
    host.run(command("systemctl", "reset-failed", name, ok=(0, 1, 5)))
    return Reverted()


def runs_on_for(args: dict[str, Any]) -> str:
    return f"{args['name']} runs on for the data in {args['cluster']}"


def runs_on(args: dict[str, Any]) -> str:
    return f"{runs_on_for(args)}. `systemctl stop {args['name']}` stops it"


def rest(context: UndoContext, args: dict[str, Any]) -> None:
    """Stop the agent: within a second of a change it draws again the rules that a newer record takes out. VMs run on."""
    host, name = context.host, str(args["name"])
    if not draws_rules(args):
        return
    if args["supervisor"] != "systemd":
        _control(host, args, "stop", name)
    elif _has_systemd(host):
        host.run(command("systemctl", "stop", name, ok=(0, 1, 5), timeout=180))


def draws_rules(args: dict[str, Any]) -> bool:
    """Return whether the record is the agent's. supervisord's programs have no suffix."""
    return str(args["name"]) in (product.AGENT_UNIT, product.AGENT_UNIT.removesuffix(".service"))


def needs_settling(undo: Undo) -> bool:
    """Return whether a service that ran before must be restarted after all other reverts."""
    return undo.verb == "unit" and bool(undo.args["active"])


def settle(context: UndoContext, units: list[Undo]) -> list[Kept]:
    """Finish a rollback: systemd forgets removed unit files, and services that ran before restart with their restored files.
    `units`: in start order."""
    host, left = context.host, []
    if _has_systemd(host):
        host.run(command("systemctl", "daemon-reload"))
    for undo in units:
        name = str(undo.args["name"])
        if undo.args["supervisor"] != "systemd":
            _control(host, undo.args, "restart", name)
        elif _has_systemd(host):
            if undo.args["enabled"]:
                host.run(command("systemctl", "enable", name, ok=(0, 1, 5)))
            if host.run(command("systemctl", "restart", name, ok=(0, 1, 5), timeout=180)).code:
                left.append(Kept(f"{name} ran before and does not start now; `systemctl status {name}` says why"))
    return left


def _has_systemd(host: Host) -> bool:
    return host.stat("/run/systemd/system") is not None and host.which("systemctl") is not None


def _supervisord_program(host: Host, name: str, args: dict[str, Any]) -> Outcome:
    """Stop a new program and remove it from supervisord. Without a supervisord there is nothing to stop. If supervisorctl's
    Python is gone, all programs end together."""
    if not args["active"]:
        try:
            _control(host, args, "stop", name)
        except (CommandFailed, PathError, ProgramMissing):
            return _end_supervisord(host, str(args["control"][-1]))
    if not args["enabled"]:
        _control(host, args, "remove", name)
    return Reverted()


def _control(host: Host, args: dict[str, Any], verb: str, name: str) -> None:
    """Run supervisorctl(1). Its exit codes follow LSB, and an unknown program is not an error."""
    control = [str(word) for word in args.get("control", [])]
    if control and host.stat(control[0]) is not None:
        host.run(command(*control, verb, name, ok=(0, 1, 2, 3, 4, 5, 6, 7), timeout=180))


def supervisord(context: UndoContext, args: dict[str, Any]) -> Outcome:
    """End the supervisord that runs with nqr's configuration; it ends its programs (supervisord(1), SIGTERM)."""
    return _end_supervisord(context.host, str(args["config"]))


def _end_supervisord(host: Host, config: str) -> Outcome:
    found = [
        pid
        for pid in _pids(host)
        if not _user(host, pid) and _is_supervisord(_cmdline(host, pid).split(b"\0"), config.encode())  # a stranger can claim it
    ]
    for pid in found:
        host.kill(pid, signal.SIGTERM)
    if not _wait_gone(host, found, 60.0):
        return Kept("supervisord did not end within a minute")
    return Reverted()


def _is_supervisord(words: list[bytes], config: bytes) -> bool:
    """Return whether a command line is that of supervisord itself: an editor can have its configuration, too."""
    return config in words and any(word.rpartition(b"/")[2] == b"supervisord" for word in words[:3])


def vms(context: UndoContext, args: dict[str, Any]) -> Outcome:
    """End every VM and remove its TAPs. Its processes have a number of VMs as their user, or are root's with the scope's name
    in their environment. A jailed VMM has no environment."""
    host = context.host
    marker = SCOPE_ENV + str(args["prefix"]).encode()
    found = [pid for pid in _pids(host) if _of_a_vm(host, pid, marker)]
    for pid in found:
        host.kill(pid, signal.SIGTERM)
    if not _wait_gone(host, found, GRACE_SECONDS):
        for pid in found:
            host.kill(pid, signal.SIGKILL)
        if not _wait_gone(host, found, GRACE_SECONDS):
            return Kept(f"some VM processes do not end ({', '.join(map(str, found[:5]))})")
    taps = _taps(host)
    if taps and host.which("ip") is None:
        return Kept(f"{', '.join(taps[:5])} go at the next boot: the program ip is gone")
    for name in taps:
        host.run(command("ip", "link", "delete", name, ok=(0, 1)))
    if _has_systemd(host):  # they hold only scopes of VMs, which have ended
        host.run(command("systemctl", "stop", *product.VM_SLICES, ok=(0, 1, 5)))
    return Reverted(f"{len(found)} processes ended" if found else "none running")


def _user(host: Host, pid: int) -> int:
    user = re.search(rb"^Uid:\s+(\d+)", _read(host, f"/proc/{pid}/status"), re.MULTILINE)
    return int(user[1]) if user else 0


def _of_a_vm(host: Host, pid: int, marker: bytes) -> bool:
    user = _user(host, pid)
    if user:
        return user in product.VM_USERS
    return any(entry.startswith(marker) for entry in _environ(host, pid).split(b"\0"))


def scopes(host: Host, prefix: str) -> list[str]:
    """Return scopes of the running VMs, by name."""
    marker = SCOPE_ENV + prefix.encode()
    # That of its launcher, which is root's: the others could claim anything, in memory that never answers.
    found = {v for pid in _pids(host) if not _user(host, pid) for v in _environ(host, pid).split(b"\0") if v.startswith(marker)}
    return sorted(v.removeprefix(SCOPE_ENV).decode(errors="replace") for v in found)


def _taps(host: Host) -> list[str]:
    """Return links whose alias marks them as a VM's (ip-link(8), alias); they outlive their VMM."""
    root = "/sys/class/net"
    return [name for name in host.listdir(root) if _read(host, f"{root}/{name}/ifalias").startswith(TAP_ALIAS)]


def _pids(host: Host) -> list[int]:
    """Return processes of this machine, without those of its containers (pid_namespaces(7))."""
    ours = _namespace(host, "self")
    return [int(name) for name in host.listdir("/proc") if name.isdigit() and _namespace(host, name) == ours]


def _namespace(host: Host, process: str) -> str:
    try:
        return host.readlink(f"/proc/{process}/ns/pid")
    except HostError:  # it ended meanwhile, or this kernel has no namespaces
        return ""


def _read(host: Host, path: str) -> bytes:
    try:
        return host.read_bytes(path, _LARGEST)
    except Exception:  # the process ended meanwhile; any host's error means the same here
        return b""


def _cmdline(host: Host, pid: int) -> bytes:
    return _read(host, f"/proc/{pid}/cmdline")


def _environ(host: Host, pid: int) -> bytes:
    return _read(host, f"/proc/{pid}/environ")


def _alive(host: Host, pid: int) -> bool:
    """Return whether the process exists and is no zombie (proc_pid_stat(5), third field)."""
    stat = _read(host, f"/proc/{pid}/stat")
    return bool(stat) and stat.rpartition(b")")[2].split()[:1] not in ([b"Z"], [b"X"])


def _wait_gone(host: Host, pids: list[int], seconds: float) -> bool:
    end = host.monotonic() + seconds
    while any(_alive(host, pid) for pid in pids):
        if host.monotonic() > end:
            return False
        host.sleep(0.1)
    return True
