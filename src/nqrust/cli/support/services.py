"""Names that people use for our services, and their units."""

from __future__ import annotations

from nqrust.contract import names

UNITS = {
    "manager": names.MANAGER_UNIT,
    "agent": names.AGENT_UNIT,
    "ui": names.UI_UNIT,
    "dhcp": names.DHCP_UNIT,
    "network": names.NETWORK_UNIT,
}
