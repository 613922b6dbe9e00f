"""nqr's own dnsmasq, only for the VM bridge (dnsmasq(8))."""

from __future__ import annotations

import ipaddress

from nqrust.contract import paths
from nqrust.host.facts.model import ListeningPort
from nqrust.installer.settings.model import NetworkMode, NetworkSettings

QUERIES_AT_ONCE = 5000
"""That dnsmasq forwards for all guests. It waits 10 s for an answer. The firewall rules (verbs/firewall/bounds.py) keep 125 guests
from taking all. Its default of 150 would let one do so. dnsmasq goes through the list and its sockets for each query: with a list
that is full, a query takes 0.1 to 1 ms of a processor. A longer list would cost the guests more than it gives."""


def serves_dns(network: NetworkSettings, ports: tuple[ListeningPort, ...]) -> bool:
    """Return whether the gateway can serve DNS to guests: no if a program holds port 53 on every address."""
    if network.mode is not NetworkMode.nat:
        return False
    return not any(p.port == 53 and p.address in ("0.0.0.0", "::", "*") for p in ports)


def dnsmasq_conf(network: NetworkSettings, *, dns: bool, nameservers: tuple[str, ...] = (), reserved: bool = True) -> str:
    """Return the whole configuration; --conf-file makes dnsmasq ignore the host's own.

    `dns`: answer queries on the gateway; otherwise guests get `nameservers` (without loopback addresses).
    `reserved`: only guests with a reservation get an address, because the agent makes one for each VM.
    """
    netmask = ipaddress.IPv4Network(network.cidr).netmask
    lines = [
        "# Written by nqr: DHCP for the VM bridge only. The host's own port 53 and other interfaces are never touched.",
        f"interface={network.bridge_name}",
        "except-interface=lo",
        "bind-interfaces",
        "no-hosts",
        "keep-in-foreground",
        # Without a path no file is written. The default, /run/dnsmasq.pid, may be another dnsmasq's.
        "pid-file",
        "log-facility=-",
        f"port={53 if dns else 0}",
        *_who_gets_what(network, str(netmask), reserved),
        f"dhcp-leasefile={paths.DHCP_LEASES}",
        "dhcp-authoritative",
        "no-ping",
    ]
    if network.mode is NetworkMode.isolated:
        lines += ["dhcp-option=option:router", "dhcp-option=option:dns-server"]
    else:
        lines.append(f"dhcp-option=option:router,{network.gateway}")
        # Guests reach no link-local address, where clouds have name servers beside their metadata.
        reachable = [n for n in nameservers if not n.startswith(("127.", "169.254.")) and ":" not in n]
        if dns:
            lines += [f"dhcp-option=option:dns-server,{network.gateway}", "domain-needed", "bogus-priv"]
            lines.append(f"dns-forward-max={QUERIES_AT_ONCE}")
        elif reachable:
            lines.append(f"dhcp-option=option:dns-server,{','.join(reachable)}")
        else:
            lines.append("dhcp-option=option:dns-server")
    return "\n".join(lines) + "\n"


def _who_gets_what(network: NetworkSettings, netmask: str, reserved: bool) -> list[str]:
    if not reserved:
        return [f"dhcp-range={network.dhcp_first},{network.dhcp_last},{netmask},1h"]
    return [
        # Each VM has a reservation before it boots. Only a guest that keeps changing its identity would use up a pool.
        f"dhcp-range={network.dhcp_first},static,{netmask},1h",
        f"dhcp-hostsdir={paths.DHCP_HOSTS_DIR}",
    ]
