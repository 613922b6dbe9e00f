"""supervisord, for machines whose PID 1 is not systemd: program files (supervisord.org/configuration.html) and supervisorctl.
It runs from the installer's virtual environment, with one program file a service."""

from __future__ import annotations

import json
import posixpath
import re
import shlex
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from nqrust.contract import paths
from nqrust.host.environment import scrubbed
from nqrust.host.errors import CommandFailed, HostError
from nqrust.host.port import Host, command
from nqrust.installer.supervisor.spec import Hardening, Restart, ServiceSpec, ServiceState

_UNKNOWN, _NOT_RUNNING = 4, 3  # exit codes of `supervisorctl status`
_ACT_SECONDS = 120


@dataclass(frozen=True)
class Supervisord:
    """A supervisord installation. `bin_dir`: holds supervisord, supervisorctl and a python that can import this package.
    `config`: the main file; program files are in `supervisord.d` beside it."""

    bin_dir: str = f"{paths.INSTALL_DIR}/installer/venv/bin"
    config: str = f"{paths.CONFIG_DIR}/supervisord.conf"
    run_dir: str = paths.RUN_DIR
    log_dir: str = paths.LOG_DIR
    name: str = "supervisord"
    seen: Mapping[str, ServiceState] = field(default_factory=dict, compare=False, repr=False)

    # --- paths
    @property
    def program(self) -> str:
        return f"{self.bin_dir}/supervisord"

    @property
    def programs_dir(self) -> str:
        return f"{posixpath.dirname(self.config)}/supervisord.d"

    @property
    def socket(self) -> str:
        return f"{self.run_dir}/supervisor.sock"

    @property
    def pid_file(self) -> str:
        return f"{self.run_dir}/supervisord.pid"

    @property
    def start_command(self) -> tuple[str, ...]:
        """Return the argv that starts it, env(1) first: its programs would inherit proxies, with their passwords."""
        plain = scrubbed({}, home="/root", user="root")
        return ("env", "-i", *(f"{name}={value}" for name, value in plain.items()), self.program, "-c", self.config)

    @property
    def control(self) -> tuple[str, ...]:
        """Return supervisorctl's argv prefix."""
        return (f"{self.bin_dir}/supervisorctl", "-c", self.config)

    def log_path(self, name: str) -> str:
        return f"{self.log_dir}/{self.unit_name(name)}.log"

    # --- Supervisor
    def detect(self, host: Host) -> bool:
        return not host.exists("/run/systemd/system")

    def unit_name(self, name: str) -> str:
        return name.removesuffix(".service")

    def unit_path(self, name: str) -> str:
        return f"{self.programs_dir}/{self.unit_name(name)}.conf"

    def render(self, spec: ServiceSpec) -> str:
        lines = [
            f"; {spec.description}",
            f"[program:{self.unit_name(spec.name)}]",
            f"command={shlex.join(self._wrapped(spec))}",
            f"priority={spec.order}",
            "autostart=true",
            f"autorestart={_AUTORESTART[Restart.never if spec.oneshot else spec.restart]}",
            "startsecs=1",
            "startretries=1000",
            f"stopsignal={spec.stop_signal}",
            f"stopwaitsecs={spec.stop_seconds}",
            # An agent's children (VMs in their own sessions) survive its stop.
            f"stopasgroup={'false' if spec.keeps_children else 'true'}",
            f"killasgroup={'false' if spec.keeps_children else 'true'}",
            "redirect_stderr=true",
            f"stdout_logfile={self.log_path(spec.name)}",
            "stdout_logfile_maxbytes=10MB",
            "stdout_logfile_backups=3",
        ]
        return "\n".join(lines[:2] + [line.replace("%", "%%") for line in lines[2:]]) + "\n"

    def _wrapped(self, spec: ServiceSpec) -> list[str]:
        argv = [f"{self.bin_dir}/python", "-I", "-m", "nqrust.installer.supervisor.env_exec"]
        argv += ["--user", spec.user, "--group", spec.group]
        if spec.env_file:
            argv += ["--env-file", spec.env_file]
        for name, value in spec.environment:
            argv += ["--setenv", f"{name}={value}"]
        if spec.working_directory != "/":
            argv += ["--directory", spec.working_directory]
        if spec.runtime_directory:
            argv += ["--runtime-directory", spec.runtime_directory]
        if spec.hardening is not Hardening.none:
            argv += ["--umask", "0027"]
        if spec.hardening is Hardening.strict:
            argv += ["--no-new-privileges", "--capabilities", ",".join(spec.capabilities)]
        if spec.memory_mib is not None and not spec.compiles:  # compilers of code reserve far more than they use
            argv += ["--memory", str(spec.memory_mib)]
        if spec.oneshot:
            argv += ["--hold-stop", json.dumps(list(spec.stop_argv))]
        return [*argv, "--", *spec.argv]

    def render_main(self) -> str:
        """Return the main configuration file."""
        return "\n".join((
            "; Runs the services of nqrust-microvm on a machine without systemd.",
            "[supervisord]",
            f"logfile={self.log_dir}/supervisord.log",
            "logfile_maxbytes=10MB",
            "logfile_backups=3",
            f"pidfile={self.pid_file}",
            "user=root",
            "umask=022",
            "identifier=nqrust-microvm",
            "",
            "[unix_http_server]",
            f"file={self.socket}",
            "chmod=0600",
            "chown=root:root",
            "",
            "[rpcinterface:supervisor]",
            "supervisor.rpcinterface_factory = supervisor.rpcinterface:make_main_rpcinterface",
            "",
            "[supervisorctl]",
            f"serverurl=unix://{self.socket}",
            "",
            "[include]",
            f"files = {self.programs_dir}/*.conf",
            "",
        ))  # fmt: skip

    def looked(self, host: Host, names: Iterable[str]) -> Supervisord:
        units = {self.unit_name(name): host.exists(self.unit_path(name)) for name in names}
        try:
            done = self._control(host, "status", *units, ok=(0, _NOT_RUNNING, _UNKNOWN)) if units else ""
        except HostError:
            return self
        now, lines = host.now(), done.splitlines()
        own = {unit: "\n".join(line for line in lines if re.match(rf"{re.escape(unit)}[\s:]", line)) for unit in units}
        return replace(self, seen={u: parse_status(own[u], u, enabled=there, now=now) for u, there in units.items()})

    def state(self, host: Host, name: str) -> ServiceState:
        if (seen := self.seen.get(self.unit_name(name))) is not None:
            return seen
        enabled = host.exists(self.unit_path(name))
        try:
            done = self._control(host, "status", self.unit_name(name), ok=(0, _NOT_RUNNING, _UNKNOWN))
        except HostError:
            return ServiceState(enabled=enabled, text="supervisord does not answer")
        return parse_status(done, self.unit_name(name), enabled=enabled, now=host.now())

    def reload(self, host: Host) -> None:
        self._control(host, "reread")

    def enable(self, host: Host, name: str) -> None:
        """Do nothing: supervisord starts every existing program file."""

    def disable(self, host: Host, name: str) -> None:
        """Do nothing: removing the program file disables it."""

    def start(self, host: Host, name: str) -> None:
        program = self.unit_name(name)
        if program not in self._control(host, "update", program, timeout=_ACT_SECONDS):
            self._act(host, "start", program)

    def restart(self, host: Host, name: str) -> None:
        """Restart a program. `update` already restarts one with a changed file."""
        program = self.unit_name(name)
        if program not in self._control(host, "update", program, timeout=_ACT_SECONDS):
            self._act(host, "restart", program)

    def stop(self, host: Host, name: str) -> None:
        self._act(host, "stop", self.unit_name(name))

    def log_tail(self, host: Host, name: str, lines: int = 10) -> list[str]:
        try:
            return host.read_text(self.log_path(name)).splitlines()[-lines:]
        except HostError:
            return []

    def log_hint(self, name: str) -> str:
        return f"tail -n 50 {self.log_path(name)}"

    def undo_arguments(self) -> dict[str, Any]:
        return {"control": list(self.control)}

    # ---
    def _control(self, host: Host, *words: str, ok: tuple[int, ...] = (0,), timeout: float = 30) -> str:
        return host.run(command(*self.control, *words, ok=ok, timeout=timeout)).stdout

    def _act(self, host: Host, verb: str, program: str) -> None:
        out = self._control(host, verb, program, ok=(0, 1, 7), timeout=_ACT_SECONDS)
        if "ERROR" in out and "already started" not in out and "not running" not in out:
            raise CommandFailed((*self.control, verb, program), 1, out)


_AUTORESTART = {Restart.always: "true", Restart.on_failure: "unexpected", Restart.never: "false"}
_STATUS = re.compile(r"^(\S+)\s+([A-Z]+)\s*(.*)$")
_PID = re.compile(r"pid (\d+)")
_UPTIME = re.compile(r"uptime (?:(\d+) days?, )?(\d+):(\d\d):(\d\d)")


def parse_status(text: str, program: str, *, enabled: bool, now: float) -> ServiceState:
    """Return the state from a line of `supervisorctl status`. Its uptime is in whole seconds, and so is `since`."""
    for line in text.splitlines():
        match = _STATUS.match(line.strip())
        if match is None or match[1] != program:
            continue
        state, detail = match[2], match[3]
        uptime, pid = _UPTIME.search(detail), _PID.search(detail)
        since = None
        if uptime is not None:
            days, hours, minutes, seconds = (int(part or 0) for part in uptime.groups())
            since = now - (((days * 24 + hours) * 60 + minutes) * 60 + seconds)
        return ServiceState(
            known=True,
            enabled=enabled,
            active=state == "RUNNING",
            failed=state == "FATAL",
            since=since,
            since_error=1.5,
            text=f"{state} {detail}".strip(),
            pid=int(pid[1]) if pid else 0,
        )
    return ServiceState(enabled=enabled, text=text.strip() or "not known to supervisord")
