"""Phase 4: the network of the VMs, configured now and by a oneshot unit at every boot."""

from __future__ import annotations

from nqrust.contract import names, paths
from nqrust.installer.context import Context
from nqrust.installer.engine.plan import PhasePlan
from nqrust.installer.engine.step import Step
from nqrust.installer.resources.dnsmasq import dnsmasq_conf, serves_dns
from nqrust.installer.resources.network_script import lan_script, network_script
from nqrust.installer.settings.model import NetworkMode, NetworkSettings
from nqrust.installer.supervisor.registry import alarms_of
from nqrust.installer.uplink import registry
from nqrust.installer.verbs.file.directory import Directory
from nqrust.installer.verbs.file.file import File
from nqrust.installer.verbs.firewall.bridge_table import BridgeTable
from nqrust.installer.verbs.firewall.firewalld import POLICIES, ZONES, FirewalldZone
from nqrust.installer.verbs.firewall.lan import lan_guests, lan_guests_ipv6
from nqrust.installer.verbs.firewall.rules import FirewallSpec, IptablesRules
from nqrust.installer.verbs.firewall.vm_network import vm_network, vm_network_ipv6
from nqrust.installer.verbs.kernel import forwarding
from nqrust.installer.verbs.kernel.forwarding import FORWARDING
from nqrust.installer.verbs.kernel.sysctl import Sysctl
from nqrust.installer.verbs.network.link import Bridge, BridgeMakesWay
from nqrust.installer.verbs.network.makes_way import MakesWay
from nqrust.installer.verbs.network.network_manager import FOLDER, UnmanagedLinks
from nqrust.installer.verbs.network.own_card import OwnCard
from nqrust.installer.verbs.network.ready import ReadyBridge

SYSCTL_FILE = forwarding.OWN_FILE
NETWORK_MANAGER = {"network-manager", "NetworkManager"}
"""Package names on Debian and Red Hat."""


DOCKER = {"docker.io", "docker-ce", "moby-engine"}
FORWARDERS = {"podman", "incus", "incus-base", "lxd", "kubelet"}
"""Packages of programs that have the host forward for their containers, by nftables tables of their own: an ACCEPT in there does
not undo a DROP of nqr."""


def has_docker(context: Context) -> bool:
    """Whether Docker is installed, running or not. It sets its policy DROP for forwarded packets only if it is the one that
    turns forwarding on. So nqr turns it on after Docker at boot, in the network's script; else the host would become a router."""
    return bool(DOCKER & context.facts.packages)


def script_path(context: Context) -> str:
    return f"{context.layout.libexec_dir}/nqrust-network"


def firewall(context: Context) -> tuple[FirewallSpec, FirewallSpec]:
    """The rules of this network, for IPv4 and for IPv6, from which the steps and the boot script are made."""
    network = context.settings.network
    if network.mode is NetworkMode.bridged:
        # The manager of upstream's form is no relay: the LAN reaches it, as in nqr's own form.
        relay = names.GUEST_RELAY_PORT if context.speaks_our_api else None
        return lan_guests(network.bridge_name, relay), lan_guests_ipv6(network.bridge_name)
    nat = network.mode is NetworkMode.nat
    rules = vm_network(
        network.bridge_name,
        network.cidr,
        network.gateway,
        outside=nat,
        masquerade=nat,
        dns=serves_dns(network, context.facts.ports),
        tcp_ports=guest_ports(context),
        anybody=not context.speaks_our_api,
        apart=context.speaks_our_api,
        routes=context.routed or has_docker(context) or bool(FORWARDERS & context.facts.packages or _others(context)),
    )
    return rules, vm_network_ipv6(network.bridge_name, apart=context.speaks_our_api)


def guest_ports(context: Context) -> tuple[int, ...]:
    """Return the ports that guests reach on their gateway: the agent's relay. Upstream has none; its guest agent reports to the
    manager itself, on a host that has one."""
    if context.speaks_our_api:
        return (names.GUEST_RELAY_PORT,)
    return (int(context.settings.manager.bind.rpartition(":")[2]),) if context.settings.has_manager else ()


def dhcp_server(context: Context) -> str:
    """Return the configuration of the DHCP server. Upstream's agent makes no reservations."""
    network = context.settings.network
    return dnsmasq_conf(
        network,
        dns=serves_dns(network, context.facts.ports),
        nameservers=context.facts.network.nameservers,
        reserved=context.speaks_our_api,
    )


def boot_script(context: Context) -> str:
    """Return the script that the network's unit runs at boot, and the agent when rules are missing."""
    network = context.settings.network
    render = lan_script if network.mode is NetworkMode.bridged else network_script
    return render(network, *firewall(context))


def plan(context: Context) -> PhasePlan:
    settings = context.settings
    network = settings.network
    title = "Network of the VMs"
    if not settings.has_agent:
        return PhasePlan("network", title, skipped="no VM runs on a manager", keeps=_keeps(context))
    if network.mode is NetworkMode.bridged:
        return PhasePlan("network", title, (to_the_lan(context), *_on_the_lan(context)), keeps=_keeps(context))
    dns = serves_dns(network, context.facts.ports)
    rules = firewall(context)
    nat = network.mode is NetworkMode.nat
    steps: list[Step] = _making_way(context)
    if nat and not has_docker(context):
        steps += [
            Directory("/etc/sysctl.d"),
            File(
                SYSCTL_FILE,
                f"# Written by nqr: VMs reach the world through this host.\n{FORWARDING} = 1\n",
                what="forwarding at boot",
            ),
        ]
    if nat:
        steps.append(Sysctl(FORWARDING, "1"))
    if NETWORK_MANAGER & context.facts.packages:
        steps += [Directory(FOLDER, adopt_modes=True), UnmanagedLinks(network.bridge_name)]
    steps += [
        Bridge(
            network.bridge_name,
            _address(network),
            former=_former_addresses(context),
            instead_of=_former_bridges(context),
        ),
        # An existing bridge may have IPv6; nqr's own bridge never does.
        Sysctl(f"net.ipv6.conf.{network.bridge_name.replace('.', '/')}.disable_ipv6", "1", optional=True),
        # An answer to an ARP request enters the asker into the host's table of neighbours, which has room for 1024. A guest that
        # asks under any address would fill it, and the host would reach no new neighbour in any network.
        Sysctl(f"net.ipv4.conf.{network.bridge_name.replace('.', '/')}.arp_filter", "1"),
        *(IptablesRules(spec, script_path(context)) for spec in rules),
        *([BridgeTable(optional=True)] if context.speaks_our_api else []),
        *(_firewalld(context, dns) if "firewalld" in context.facts.packages else ()),
        Directory(context.layout.libexec_dir, adopt_modes=True),
        File(script_path(context), boot_script(context), mode=0o755, what="the same at every boot"),
        Directory(paths.STATE_DIR, mode=0o711, adopt_modes=True),
        Directory(paths.DHCP_STATE_DIR, tree=True, adopt_modes=True),
        Directory(paths.DHCP_HOSTS_DIR, tree=True, adopt_modes=True),
        File(
            context.layout.dnsmasq_conf,
            dhcp_server(context),
        ),
    ]
    return PhasePlan("network", title, tuple(steps), keeps=() if nat else _keeps(context))


def _firewalld(context: Context, dns: bool) -> tuple[Step, ...]:
    """Return steps for a host with firewalld, running or not: somebody may start it later."""
    network = context.settings.network
    zone = FirewalldZone(network.bridge_name, guest_ports(context), dns=dns, outside=network.mode is NetworkMode.nat)
    return (Directory(ZONES, adopt_modes=True), Directory(POLICIES, adopt_modes=True), zone)


def to_the_lan(context: Context) -> Step:
    """Return the step for the bridge itself: nqr's own, an administrator's that is there, or a new one with this host's card."""
    network, ours = context.settings.network, context.own_bridge
    if ours is None and any(link.name == network.bridge_name and link.kind == "bridge" for link in context.facts.network.links):
        return ReadyBridge(network.bridge_name)
    return OwnCard(
        ours.link if ours else network.uplink or context.facts.network.uplink or "",
        network.bridge_name,
        registry.planned,
        alarms_of(context.facts.supervisor, f"{context.layout.config_dir}/supervisord.d"),
        window=network.window,
        held=ours is not None,
        tell=context.tell,
        interruption=context.interruption,
    )


def _on_the_lan(context: Context) -> list[Step]:
    """Return what concerns VMs on a LAN's bridge, whoever made it. The LAN has its own addresses, DHCP and routers."""
    return [
        *(IptablesRules(spec, script_path(context)) for spec in firewall(context)),
        BridgeTable(),
        Directory(context.layout.libexec_dir, adopt_modes=True),
        File(script_path(context), boot_script(context), mode=0o755, what="the same at every boot"),
    ]


def _keeps(context: Context) -> tuple[str, ...]:
    """Return forwarding if others found it on and rely on it. Its record stays, so an uninstall looks again."""
    return (f"sysctl:{FORWARDING}",) if context.forwards() else ()


def _others(context: Context) -> set[str]:
    """Return the programs here that will have the host forward, and keep strangers out themselves."""
    return {"docker", "libvirt"} & set(context.facts.network.firewall_managers)


def _address(network: NetworkSettings) -> str:
    return f"{network.gateway}/{network.prefix_length}"


def _former(context: Context) -> list[NetworkSettings]:
    """Return the networks that earlier runs may have created here, newest first."""
    found = [s.network for s in reversed(context.former) if s.has_agent and s.network.mode is not NetworkMode.bridged]
    return list(dict.fromkeys(found))


def _former_addresses(context: Context) -> tuple[str, ...]:
    now = context.settings.network
    found = (_address(n) for n in _former(context) if n.bridge_name == now.bridge_name)
    return tuple(dict.fromkeys(address for address in found if address != _address(now)))


def _former_bridges(context: Context) -> tuple[str, ...]:
    now = context.settings.network.bridge_name
    return tuple(dict.fromkeys(n.bridge_name for n in _former(context) if n.bridge_name != now))


def _making_way(context: Context) -> list[Step]:
    """Return steps that remove earlier bridges and stop their DHCP server, because two bridges cannot share a subnet."""
    now, old = context.settings.network, _former_bridges(context)
    if not old:
        return []
    dhcp = MakesWay(names.DHCP_UNIT.removesuffix(".service"), context.supervisor, links=old)
    return [dhcp, *(BridgeMakesWay(name, now.bridge_name) for name in old)]
