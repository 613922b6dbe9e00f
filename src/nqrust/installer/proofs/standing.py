"""The hops that need no VM: programs, services, database, bridge, DHCP server."""

from __future__ import annotations

import json
from collections.abc import Iterator

from nqrust.host.errors import NotTrusted
from nqrust.host.port import Host, Tls, command
from nqrust.installer.context import Context
from nqrust.installer.proofs.frames import finished
from nqrust.installer.proofs.hops import Failed, Hop, Unproven, local_address
from nqrust.installer.proofs.lan import lan
from nqrust.installer.resources.env import database_host, database_port, manager_base
from nqrust.installer.settings.model import NetworkMode
from nqrust.installer.verbs.firewall.kernel import BOUNDS, NO_IPV6, why_no_ipv6
from nqrust.installer.verbs.firewall.rules import INPUT
from nqrust.tls import pinning
from nqrust.tls.contexts import MANAGER_NAME


def standing(context: Context, host: Host) -> Iterator[Hop]:
    """Yield the hops that need no VM: binaries, services' health, database, bridge, DHCP server."""
    settings, layout, release = context.settings, context.layout, context.release

    def binaries() -> str:
        wanted = [
            name
            for name, there in (
                ("manager", settings.has_manager),
                ("agent", settings.has_agent),
                ("guest-agent", settings.has_agent),
            )
            if there and release.component(name) is not None
        ]
        missing = [name for name in wanted if host.stat(f"{layout.bin_dir}/{name}") is None]
        if missing:
            raise Failed(f"missing in {layout.bin_dir}: {', '.join(missing)}")
        link = host.readlink(layout.current_link)
        if not link.endswith(release.version):
            raise Failed(f"{layout.current_link} points to {link}")
        return f"release {release.version}"

    yield Hop("binaries", "NQR-VER-001", "Run `nqr install` again.", binaries)
    for name, wanted, bind in (
        ("manager", settings.has_manager, settings.manager.bind),
        ("agent", settings.has_agent, settings.agent.bind),
        ("ui", settings.has_ui, settings.ui.bind),
    ):
        component = release.component(name)
        if wanted and component is not None:
            yield _health_hop(host, name, bind, component.health)
    if settings.has_manager:
        yield Hop(
            "tls",
            "NQR-VER-013",
            "Look at `nqr logs manager`. `nqr install` writes the certificate authority again.",
            lambda: _tls(context, host),
        )
        yield Hop(
            "database",
            "NQR-VER-003",
            "Look at `nqr logs manager` and at PostgreSQL's own log.",
            lambda: _database(context, host),
        )
    if settings.has_agent and settings.network.mode is NetworkMode.bridged:
        yield from lan(context, host)
    elif settings.has_agent:
        yield Hop(
            "bridge",
            "NQR-VER-004",
            "Run `nqr install` again; it puts the bridge back.",
            lambda: _bridge(context, host),
        )
        yield Hop(
            "firewall",
            "NQR-VER-012",
            "Run `nqr install` again; it puts the rules back.",
            lambda: _firewall(context, host),
        )
        yield Hop("dhcp", "NQR-VER-005", "Look at `nqr logs dhcp`.", lambda: _dhcp(context, host))


def _health_hop(host: Host, name: str, bind: str, path: str | None) -> Hop:
    def healthy() -> str:
        if path is None:
            raise Unproven(f"the release gives {name} no health address")
        status, body = host.http_get(f"http://{local_address(bind)}{path}", timeout=5.0)
        if status != 200:
            raise Failed(f"HTTP {status} from {path}")
        try:
            version = json.loads(body).get("version", "")
        except (ValueError, AttributeError):
            version = ""
        return f"answers on {bind}" + (f", version {version}" if version else "")

    return Hop(name, "NQR-VER-002", f"Look at `nqr logs {name}`.", healthy)


def _tls(context: Context, host: Host) -> str:
    """Check that the manager answers TLS with a certificate of this installation's authority."""
    if context.release.form != "bundled":
        raise Unproven("the manager of this release speaks plain HTTP only")
    authority = host.read_text(context.layout.ca_file)
    url = f"https://{local_address(context.settings.manager.bind)}/health"
    try:
        status, _ = host.http_get(url, timeout=5.0, tls=Tls(authority, MANAGER_NAME))
    except NotTrusted as error:
        raise Failed("the manager shows a certificate of another authority") from error
    if status != 200:
        raise Failed(f"HTTP {status} from /health over TLS")
    return f"the manager proves the authority {pinning.fingerprint(authority)[:16]}…"


def _database(context: Context, host: Host) -> str:
    """Check the database's port and the manager's /health, which answers 200 only while its database works."""
    db = context.settings.database
    if not host.connect(database_host(context), database_port(context), timeout=5.0):
        raise Failed(f"nothing accepts connections on {database_host(context)}:{database_port(context)}")
    status, _ = host.http_get(f"{manager_base(context)}/health", timeout=5.0)
    if status != 200:
        raise Failed(f"the manager cannot use it (HTTP {status})")
    return f"{db.name} on {database_host(context)}:{database_port(context)}"


def _bridge(context: Context, host: Host) -> str:
    network = context.settings.network
    shown = host.run(command("ip", "-j", "address", "show", "dev", network.bridge_name, ok=(0, 1))).stdout
    wanted = f"{network.gateway}/{network.prefix_length}"
    try:
        found = [f"{a['local']}/{a['prefixlen']}" for link in json.loads(shown or "[]") for a in link.get("addr_info", [])]
    except (ValueError, KeyError):
        found = []
    if wanted not in found:
        raise Failed(f"{network.bridge_name} does not have {wanted}")
    return f"{network.bridge_name} has {wanted}"


def _firewall(context: Context, host: Host) -> str:
    """Fails where the network script misses a rule. A kernel that lacks something is no reason to fail, but is told."""
    script = f"{context.layout.libexec_dir}/nqrust-network"
    code = host.run(command(script, "check", ok=(0, 1, 2))).code
    if code == 1:
        raise Failed("rules that keep guests from the host are missing")
    if code:
        raise Unproven(f"{script} is of an earlier version; run `nqr install` again")
    there = host.run(command("iptables", "-w", "-t", "filter", "-S", INPUT)).stdout.split()
    reason, lacking = why_no_ipv6(host), [match for match in BOUNDS if match not in there]
    if lacking:
        raise Unproven(f"this kernel lacks the match {lacking[0]} of iptables, so one guest can use up the host's connections")
    if reason and reason != NO_IPV6:
        raise Unproven(f"{reason}, so nothing keeps guests from the host over IPv6 if somebody turns it on for the bridge")
    finished(host)
    return "guests reach what they may over IPv4, and nothing over IPv6" if not reason else f"the rules are there; {reason}"


def _dhcp(context: Context, host: Host) -> str:
    """Check for a UDP socket on port 67 (proc_net_udp); dnsmasq binds 0.0.0.0:67 to the bridge with SO_BINDTODEVICE."""
    lines = host.read_text("/proc/net/udp").splitlines()[1:]
    if not any(line.split()[1].endswith(":0043") for line in lines if line.strip()):
        raise Failed("no DHCP server listens")
    return f"dnsmasq on {context.settings.network.bridge_name}"
