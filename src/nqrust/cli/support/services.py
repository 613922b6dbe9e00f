"""Names that people use for our services, and their units."""

from __future__ import annotations

UNITS = {
    "manager": "nqrust-manager.service",
    "agent": "nqrust-agent.service",
    "ui": "nqrust-ui.service",
    "dhcp": "nqrust-dhcp.service",
    "network": "nqrust-network.service",
}
