"""Chooses the image's configurator: the first in this list that recognizes the image. A new one is a new entry."""

from __future__ import annotations

from nqrust.agent.disks.guest_paths import parents
from nqrust.agent.disks.netconf.cloud_init import USER_DATA, CloudInit
from nqrust.agent.disks.netconf.configurator import Configurator, Nic, Plan
from nqrust.agent.disks.netconf.ifcfg import Ifcfg
from nqrust.agent.disks.netconf.ifupdown import Ifupdown
from nqrust.agent.disks.netconf.image import Image, Wanted
from nqrust.agent.disks.netconf.netplan import Netplan
from nqrust.agent.disks.netconf.network_manager import NetworkManager
from nqrust.agent.disks.netconf.networkd import IdleNetworkd, Networkd
from nqrust.agent.disks.netconf.others import Others
from nqrust.agent.errors import Failed

CONFIGURATORS: tuple[Configurator, ...] = (
    CloudInit(),  # it writes the configuration of those below
    Netplan(),  # so does it
    NetworkManager(),
    Networkd(),
    Ifupdown(),
    Ifcfg(),
    Others(),
    IdleNetworkd(),  # systemd packages install it, but nothing starts it
)


def wanted() -> Wanted:
    """Return every path of an image that the decision needs."""
    found = Wanted()
    for configurator in CONFIGURATORS:
        paths = {path for written in configurator.writes for path in (written, *parents(written))}
        found |= configurator.wanted | Wanted(paths=frozenset(paths))
    return found


def decide(image: Image, nic: Nic) -> Plan:
    """Return the files to write for `nic`. Pure. Empty if a write would replace a folder or pass through a link.

    Raises Failed NQR-IMG-062: there is user data, and the image has no cloud-init that reads it.
    """
    plan = _decided(image, nic)
    if nic.user_data and USER_DATA not in plan.files:
        raise Failed(
            "NQR-IMG-062",
            f"The image cannot use the VM's user data: {plan.why or 'cloud-init does not start in it'}.",
            "Use an image with cloud-init, or create the VM without --user-data.",
            status=422,
        )
    return plan


def _decided(image: Image, nic: Nic) -> Plan:
    for configurator in CONFIGURATORS:
        plan = configurator.plan(image, nic)
        if plan is None:
            continue
        odd = next((path for written in plan.files for path in _in_the_way(image, written)), None)
        return plan if odd is None else Plan(plan.configurator, why=f"{odd} of the image is in the way")
    return Plan("", why="it has no network configurator that nqr knows")


def _in_the_way(image: Image, path: str) -> list[str]:
    found = [parent for parent in parents(path) if image.kinds.get(parent, "directory") != "directory"]
    if image.kinds.get(path, "regular") not in ("regular", "symlink"):
        found.append(path)
    return found
