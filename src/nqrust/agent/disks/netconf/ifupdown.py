"""ifupdown and its variants. Debian's matches a NIC by its MAC: interfaces(5), "pattern matching interfaces".

BusyBox and ifupdown-ng (Alpine) cannot match a MAC. Their images have no predictable names either: the NIC is eth0.
nqr adds its file only if the image's own files name no NIC except `lo`, and does not change them.
"""

from __future__ import annotations

import re

from nqrust.agent.disks.netconf.configurator import MARK, NOTE, Nic, Plan
from nqrust.agent.disks.netconf.image import Image, Wanted, unit_paths

MAIN = "/etc/network/interfaces"
FOLDER = "/etc/network/interfaces.d"
OURS = f"{FOLDER}/90-nqrust"
_NAME = "ifupdown"
_PROGRAM = "/sbin/ifup"
_UNIT = "networking.service"
_STARTED = ("/etc/runlevels/boot/networking", "/etc/runlevels/default/networking", "/etc/init.d/S40network")  # OpenRC, Buildroot
_SYSV = ("/etc/rcS.d", "/etc/init.d/networking")
_SOURCES = re.compile(r"^\s*source(-directory)?\s+(/etc/network/)?interfaces\.d(/\*?)?\s*$", re.MULTILINE)
_NAMED = re.compile(r"^\s*(?:auto|allow-\S+|iface|mapping|rename)\s+(.*?)\s*$", re.MULTILINE)
_LOOPBACK = "auto lo\niface lo inet loopback\n\n"


class Ifupdown:
    wanted = Wanted(paths=unit_paths(_UNIT) | {_PROGRAM, *_STARTED, *_SYSV}, texts=frozenset({MAIN}), folders=frozenset({FOLDER}))
    writes = (MAIN, OURS)

    def plan(self, image: Image, nic: Nic) -> Plan | None:
        if not image.has(_PROGRAM) or not _started(image):
            return None
        own_matching = image.kinds[_PROGRAM] == "regular"  # BusyBox, ifupdown-ng and ifupdown2 are links
        if image.systemd and not own_matching:
            return Plan(_NAME, why="its ifup cannot match a NIC by its MAC")
        stanza = by_mac(nic.mac) if own_matching else by_name()
        main = image.texts.get(MAIN)
        if not image.has(MAIN) or MARK in (main or ""):
            return Plan(_NAME, {MAIN: (0o644, NOTE + _LOOPBACK + stanza)})
        if main is None:
            return Plan(_NAME, why=f"its {MAIN} cannot be read")
        if others := named(main):
            return Plan(_NAME, why=f"its {MAIN} configures {', '.join(others)}")
        if not _SOURCES.search(main):
            return Plan(_NAME, why=f"its {MAIN} reads no {FOLDER}")
        return self._beside(image, stanza)

    def _beside(self, image: Image, stanza: str) -> Plan:
        names = image.names.get(FOLDER, ())
        if names is None:
            return Plan(_NAME, why=f"its {FOLDER} cannot be read")
        for name in names:
            path = f"{FOLDER}/{name}"
            text = image.texts.get(path)
            if path == OURS:
                continue
            if text is None:
                return Plan(_NAME, why=f"something in its {FOLDER} cannot be read")
            if others := named(text):
                return Plan(_NAME, why=f"its {path} configures {', '.join(others)}")
        return Plan(_NAME, {OURS: (0o644, NOTE + stanza)})


def _started(image: Image) -> bool:
    if image.systemd:
        return image.enabled(_UNIT)
    return image.has(*_STARTED) or all(image.has(path) for path in _SYSV)


def by_mac(mac: str) -> str:
    return f"auto mac/{mac}=nqrust\niface nqrust inet dhcp\n"


def by_name() -> str:
    return "auto eth0\niface eth0 inet dhcp\n"


def named(text: str) -> list[str]:
    """Return the NICs other than `lo` in an interfaces(5) file, at most three. Pure."""
    text = text.replace("\\\n", " ")
    found = []
    for line in _NAMED.finditer(text):
        words = line[1].split()
        if line[0].split()[0] == "iface":
            words = words[:1]
        found += [word[:40] for word in words if word != "lo" and word.isprintable()]
    return list(dict.fromkeys(found))[:3]
