"""cloud-init: a seed for its data source NoCloud, with the network configuration.

cloud-init then configures the image's network service, sets the guest's name and creates its SSH host keys. See NoCloud in
cloud-init's reference of data sources. The other injected files stay: the name is the VM's, and cloud-init keeps the keys in
root's authorized_keys. If an account has a password, the default account's password is not locked.
"""

from __future__ import annotations

import re

from nqrust.agent.disks.netconf.configurator import MARK, NOTE, Nic, Plan
from nqrust.agent.disks.netconf.image import Image, Wanted, unit_paths

SEED = "/var/lib/cloud/seed/nocloud"
USER_DATA = f"{SEED}/user-data"
SETTINGS = "/etc/cloud/cloud.cfg.d/99_nqrust.cfg"
_NAME = "cloud-init"
_CONFIG, _FOLDER, _POLICY = "/etc/cloud/cloud.cfg", "/etc/cloud/cloud.cfg.d", "/etc/cloud/ds-identify.cfg"
_DISABLED = "/etc/cloud/cloud-init.disabled"
_PROGRAMS = ("/usr/bin/cloud-init", "/usr/local/bin/cloud-init")
_UNIT = "cloud-init-local.service"
_RUNLEVELS = ("/etc/runlevels/boot/cloud-init-local", "/etc/runlevels/default/cloud-init-local")
_FILES = tuple(f"{SEED}/{name}" for name in ("meta-data", "user-data", "network-config"))
_LEAVES_NETWORK = re.compile(r"^network:\s*\{?\s*config:\s*[\"']?disabled", re.MULTILINE)
_OFF = re.compile(r"^\s*policy:\s*[\"']?disabled", re.MULTILINE)


class CloudInit:
    wanted = Wanted(
        paths=unit_paths(_UNIT) | {_DISABLED, *_PROGRAMS, *_RUNLEVELS},
        texts=frozenset({_CONFIG, _POLICY, *_FILES}),
        folders=frozenset({_FOLDER}),
    )
    writes = (*_FILES, SETTINGS)

    def plan(self, image: Image, nic: Nic) -> Plan | None:
        started = image.enabled(_UNIT) if image.systemd else image.has(*_RUNLEVELS)
        if not started or not image.has(_CONFIG) or not image.has(*_PROGRAMS) or image.has(_DISABLED):
            return None
        texts = [
            image.text(_CONFIG),
            *(image.text(f"{_FOLDER}/{name}") for name in image.names.get(_FOLDER) or () if name.endswith(".cfg")),
        ]
        if _OFF.search(image.text(_POLICY)) or any(_LEAVES_NETWORK.search(text) for text in texts):
            return None  # the tool that cloud-init writes for configures the network
        ours = MARK in image.text(_FILES[0])  # the user's own user-data has no mark
        if not ours and any(image.has(path) and MARK not in image.text(path) for path in _FILES):
            return Plan(_NAME, why="its cloud-init has a seed of its own")
        return Plan(
            _NAME,
            {
                _FILES[0]: (0o644, f"{NOTE}instance-id: {nic.vm_id}\nlocal-hostname: {nic.hostname}\n"),
                USER_DATA: (0o600, nic.user_data) if nic.user_data else (0o644, f"#cloud-config\n{NOTE}{{}}\n"),
                _FILES[2]: (0o644, network(nic.mac)),
                SETTINGS: (0o644, settings(passwords=nic.passwords)),
            },
        )


def network(mac: str) -> str:
    """Return the network configuration, version 2. It has name and MAC: some targets of cloud-init cannot match a MAC."""
    return f'{NOTE}version: 2\nethernets:\n  eth0:\n    match:\n      macaddress: "{mac}"\n    set-name: eth0\n    dhcp4: true\n'


def settings(*, passwords: bool) -> str:
    """Return settings that stop the search for other sources, which takes minutes without one.

    An account without a password stays locked.
    """
    text = f"{NOTE}datasource_list: [ NoCloud, None ]\n"
    return text + "system_info:\n  default_user:\n    lock_passwd: false\n" if passwords else text
