"""Runs beside guests_behind_rules.py: dnsmasq with nqr's own configuration on fcbr0, its files in /run/dhcp."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from nqrust.contract.paths import DHCP_STATE_DIR
from nqrust.installer.resources.dnsmasq import dnsmasq_conf
from nqrust.installer.settings.model import NetworkSettings

_FOLDER = "/run/dhcp"
LOG = f"{_FOLDER}/log"


def serve(records: Iterable[Any]) -> subprocess.Popen[bytes]:
    """Start dnsmasq with a reservation for each record. It says what it does in LOG."""
    os.makedirs(f"{_FOLDER}/hosts.d")
    Path(_FOLDER, "conf").write_text(dnsmasq_conf(NetworkSettings(), dns=False).replace(DHCP_STATE_DIR, _FOLDER))
    for record in records:
        Path(_FOLDER, "hosts.d", record.id).write_text(f"{record.mac},{record.ip},{record.id}\n")
    with open(LOG, "wb") as log:
        started = subprocess.Popen(["dnsmasq", f"--conf-file={_FOLDER}/conf"], stderr=log)
    for _ in range(100):
        if f"read {_FOLDER}/hosts.d/" in Path(LOG).read_text():
            return started
        time.sleep(0.1)
    started.kill()
    raise AssertionError(Path(LOG).read_text())
