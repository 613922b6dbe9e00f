"""The guest agent as a service of a foreign image, which knows nothing of it. Pure.

systemd.unit(5); openrc-run(8). An image with neither stays without it.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from nqrust.contract.paths import GUEST_AGENT_CONF
from nqrust.image.cloud.filesystems import Reader

PROGRAM = "/usr/sbin/nqr-guest-agent"
_UNIT = "nqr-guest-agent.service"
_SYSTEMD, _WANTS = "/etc/systemd/system", "/etc/systemd/system/multi-user.target.wants"
_INIT, _RUNLEVEL = "/etc/init.d", "/etc/runlevels/default"
_SERVICE = f"""\
[Unit]
Description=Guest agent of NQRust-MicroVM
ConditionPathExists={GUEST_AGENT_CONF}

[Service]
ExecStart={PROGRAM}
Restart=always
RestartSec=5

[Install]
WantedBy=multi-user.target
"""
_OPENRC = f"""\
#!/sbin/openrc-run
description="Guest agent of NQRust-MicroVM"
supervisor=supervise-daemon
command={PROGRAM}
required_files={GUEST_AGENT_CONF}
"""


@dataclass(frozen=True)
class Additions:
    """Files (path, content, mode) and links (path, target) for the image."""

    files: tuple[tuple[str, bytes, int], ...] = ()
    links: tuple[tuple[str, str], ...] = field(default=())


def additions(reader: Reader, program: bytes) -> Additions:
    """Return what makes the guest agent start in the image. Raises HostError."""
    if reader.names(_WANTS):
        files = ((PROGRAM, program, 0o755), (f"{_SYSTEMD}/{_UNIT}", _SERVICE.encode(), 0o644))
        return Additions(files, ((f"{_WANTS}/{_UNIT}", f"{_SYSTEMD}/{_UNIT}"),))
    if reader.names(_RUNLEVEL) and reader.names(_INIT):
        files = ((PROGRAM, program, 0o755), (f"{_INIT}/nqr-guest-agent", _OPENRC.encode(), 0o755))
        return Additions(files, ((f"{_RUNLEVEL}/nqr-guest-agent", f"{_INIT}/nqr-guest-agent"),))
    return Additions()
