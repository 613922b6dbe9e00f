"""systemd: unit files (systemd.unit(5), systemd.service(5), systemd.exec(5)) and systemctl(1)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from nqrust.host.errors import HostError
from nqrust.host.port import Host, command
from nqrust.installer.supervisor.spec import Hardening, ServiceSpec, ServiceState

UNIT_DIR = "/etc/systemd/system"
_SUFFIXES = (".service", ".socket", ".target", ".timer", ".scope", ".slice", ".mount", ".path")
_PROPERTIES = (
    "LoadState", "ActiveState", "SubState", "UnitFileState", "NeedDaemonReload", "Result",
    "ActiveEnterTimestampMonotonic", "MainPID",
)  # fmt: skip
_SHOW = ("systemctl", "show", "-p", ",".join(_PROPERTIES))
_START_SECONDS = 180


@dataclass(frozen=True)
class Systemd:
    """`seen`: states that `looked` has asked for."""

    name: str = "systemd"
    seen: Mapping[str, ServiceState] = field(default_factory=dict, compare=False, repr=False)

    def detect(self, host: Host) -> bool:
        return host.exists("/run/systemd/system")  # sd_booted(3)

    def unit_name(self, name: str) -> str:
        return name if name.endswith(_SUFFIXES) else f"{name}.service"

    def unit_path(self, name: str) -> str:
        return f"{UNIT_DIR}/{self.unit_name(name)}"

    def render(self, spec: ServiceSpec) -> str:
        return "\n".join((*_unit_section(spec, self), "", *_service_section(spec), "", *_INSTALL, ""))

    def looked(self, host: Host, names: Iterable[str]) -> Systemd:
        units = [self.unit_name(name) for name in names]
        try:
            out = host.run(command(*_SHOW, *units)).stdout if units else ""
        except HostError:
            return self
        now, monotonic = host.now(), host.monotonic()
        blocks = [parse_show(block, now=now, monotonic=monotonic) for block in out.strip("\n").split("\n\n")]
        return replace(self, seen=dict(zip(units, blocks, strict=True))) if len(blocks) == len(units) else self

    def state(self, host: Host, name: str) -> ServiceState:
        if (seen := self.seen.get(self.unit_name(name))) is not None:
            return seen
        argv = (*_SHOW, self.unit_name(name))
        try:
            out = host.run(command(*argv)).stdout
        except HostError:
            return ServiceState(text="systemd does not answer")
        return parse_show(out, now=host.now(), monotonic=host.monotonic())

    def reload(self, host: Host) -> None:
        host.run(command("systemctl", "daemon-reload"))

    def enable(self, host: Host, name: str) -> None:
        host.run(command("systemctl", "enable", "--quiet", self.unit_name(name)))

    def disable(self, host: Host, name: str) -> None:
        host.run(command("systemctl", "disable", "--quiet", self.unit_name(name)))

    def start(self, host: Host, name: str) -> None:
        host.run(command("systemctl", "start", self.unit_name(name), timeout=_START_SECONDS))

    def restart(self, host: Host, name: str) -> None:
        host.run(command("systemctl", "restart", self.unit_name(name), timeout=_START_SECONDS))

    def stop(self, host: Host, name: str) -> None:
        host.run(command("systemctl", "stop", self.unit_name(name), timeout=_START_SECONDS))

    def log_tail(self, host: Host, name: str, lines: int = 10) -> list[str]:
        argv = ("journalctl", "-u", self.unit_name(name), "-n", str(lines), "--no-pager", "-o", "cat", "-q")
        try:
            return host.run(command(*argv)).stdout.splitlines()[-lines:]
        except HostError:
            return []

    def log_hint(self, name: str) -> str:
        return f"journalctl -u {self.unit_name(name)}"

    def undo_arguments(self) -> dict[str, Any]:
        return {}


SYSTEMD = Systemd()
_INSTALL = ("[Install]", "WantedBy=multi-user.target")


def parse_show(text: str, *, now: float, monotonic: float) -> ServiceState:
    """Return the state from `systemctl show`. `now` and `monotonic` are the host's clocks. systemd reports the start on the
    latter, in microseconds, which does not change with the wall clock."""
    found = dict(line.split("=", 1) for line in text.splitlines() if "=" in line)
    load, active = found.get("LoadState", ""), found.get("ActiveState", "")
    micro = found.get("ActiveEnterTimestampMonotonic", "0")
    entered = int(micro) / 1e6 if micro.isdigit() else 0.0
    result = found.get("Result", "")
    return ServiceState(
        known=load in ("loaded", "masked"),
        enabled=found.get("UnitFileState", "") in ("enabled", "enabled-runtime", "static", "generated", "alias"),
        active=active == "active",
        failed=active == "failed",
        since=now - (monotonic - entered) if active == "active" and entered else None,
        stale_file=found.get("NeedDaemonReload") == "yes",
        blocked=load == "masked",
        pid=int(main) if (main := found.get("MainPID", "")).isdigit() else 0,
        text=f"{active or 'unknown'} ({found.get('SubState', '')}{'' if result in ('', 'success') else ', ' + result})",
    )


def quoted(argument: str) -> str:
    """Quote one word of an Exec line or an assignment, without expansion of specifiers and variables (systemd.service(5),
    COMMAND LINES)."""
    text = argument.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%").replace("\n", "\\n")
    plain = text == argument and argument and not set(argument) & set(" \t;'$")
    return text if plain else f'"{text}"'


def exec_line(argv: tuple[str, ...]) -> str:
    return " ".join([quoted(argv[0]), *(quoted(word.replace("$", "$$")) for word in argv[1:])])


def _unit_section(spec: ServiceSpec, systemd: Systemd) -> list[str]:
    lines = ["[Unit]", f"Description={spec.description}"]
    for key, names in (("After", spec.after), ("Wants", spec.wants), ("Requires", spec.requires)):
        if names:
            lines.append(f"{key}={' '.join(systemd.unit_name(name) for name in names)}")
    if spec.folders:  # fstab mounts a file system with `nofail` or `_netdev` at any time of the boot
        lines.append(f"RequiresMountsFor={' '.join(map(quoted, spec.folders))}")
    if spec.restart.value != "no":
        lines.append("StartLimitIntervalSec=0")
    return lines


def _service_section(spec: ServiceSpec) -> list[str]:
    lines = ["[Service]"]
    # Type=exec would report more, but RHEL 8's systemd 239 does not know it.
    lines += ["Type=oneshot", "RemainAfterExit=yes"] if spec.oneshot else ["Type=simple"]
    lines += [f"User={spec.user}", f"Group={spec.group}"] if spec.user != "root" else []
    if spec.supplementary_groups:
        lines.append(f"SupplementaryGroups={' '.join(spec.supplementary_groups)}")
    if spec.env_file:
        lines.append(f"EnvironmentFile={spec.env_file}")
    lines += [f"Environment={quoted(f'{name}={value}')}" for name, value in spec.environment]
    if spec.working_directory != "/":
        lines.append(f"WorkingDirectory={spec.working_directory}")
    lines.append(f"ExecStart={exec_line(spec.argv)}")
    if spec.stop_argv:
        lines.append(f"ExecStop={exec_line(spec.stop_argv)}")
    if not spec.oneshot:
        lines += [f"Restart={spec.restart.value}", "RestartSec=2"] if spec.restart.value != "no" else []
        lines += [f"KillSignal=SIG{spec.stop_signal}"] if spec.stop_signal != "TERM" else []
        lines.append(f"TimeoutStopSec={spec.stop_seconds}")
        # A program that reads a hostile image may run out of memory. systemd stops the whole service for that by default, since 243.
        # An older one does neither, and ignores the line.
        lines.append("OOMPolicy=continue")
    if spec.keeps_children:
        lines.append("KillMode=process")
    if spec.runtime_directory:
        lines.append(f"RuntimeDirectory={spec.runtime_directory}")
    lines.append("LimitNOFILE=65536")
    if spec.memory_mib is not None:
        lines.append(f"MemoryMax={spec.memory_mib}M")
    return lines + _hardening(spec)


_NAMESPACES = ("ProtectSystem=strict", "ProtectHome=yes", "PrivateTmp=yes")
_NO_PRIVILEGES = (
    "NoNewPrivileges=yes",
    "PrivateDevices=yes",
    "ProtectKernelTunables=yes",
    "ProtectKernelModules=yes",
    "ProtectKernelLogs=yes",
    "ProtectControlGroups=yes",
    "ProtectClock=yes",
    "ProtectHostname=yes",
    "ProtectProc=invisible",
    "RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX AF_NETLINK",
    "RestrictNamespaces=yes",
    "RestrictRealtime=yes",
    "RestrictSUIDSGID=yes",
    "LockPersonality=yes",
    "MemoryDenyWriteExecute=yes",
    "SystemCallArchitectures=native",
    "SystemCallFilter=@system-service",
)
# VMs run in scopes that inherit the agent's limits. So nothing here needs a mount namespace (Protect*, Private*) or a
# device list (ProtectClock=), and QEMU may map memory that is writable and executable, which emulation needs.
_HOST = (
    "CapabilityBoundingSet=~CAP_AUDIT_CONTROL CAP_AUDIT_READ CAP_AUDIT_WRITE CAP_BLOCK_SUSPEND CAP_LEASE "
    "CAP_LINUX_IMMUTABLE CAP_MAC_ADMIN CAP_MAC_OVERRIDE CAP_SYSLOG CAP_SYS_BOOT CAP_SYS_PACCT CAP_SYS_RAWIO "
    "CAP_SYS_TIME CAP_WAKE_ALARM",
    "ProtectHostname=yes",
    "RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX AF_NETLINK AF_PACKET AF_VSOCK",
    "RestrictRealtime=yes",
    "RestrictSUIDSGID=yes",
    "LockPersonality=yes",
    "SystemCallArchitectures=native",
    "SystemCallFilter=~@clock @cpu-emulation @debug @obsolete @raw-io @reboot @swap",
    "SystemCallErrorNumber=EPERM",
)


def _hardening(spec: ServiceSpec) -> list[str]:
    """For a service of a user other than root every line of _NO_PRIVILEGES implies NoNewPrivileges=, with
    which sudo cannot work (systemd.exec(5)). A sudo service gets the mount namespace's lines only."""
    if spec.hardening is Hardening.none:
        return []
    if spec.hardening is Hardening.host:
        return ["UMask=0027", *_HOST]
    lines = ["UMask=0027", *_NAMESPACES]
    if spec.read_write:
        lines.append(f"ReadWritePaths={' '.join(spec.read_write)}")
    if spec.hardening is Hardening.strict:
        without = {"MemoryDenyWriteExecute=yes"} if spec.compiles else set()
        lines += [f"CapabilityBoundingSet={' '.join(spec.capabilities)}", *(x for x in _NO_PRIVILEGES if x not in without)]
        # A service that gives up root itself needs setuid(2) and capset(2), which are @privileged.
        lines += [] if spec.capabilities else ["SystemCallFilter=~@privileged @resources"]
        lines.append("SystemCallErrorNumber=EPERM")
    return lines
