"""Options that describe a VM or a template; None for an absent option."""

from __future__ import annotations

import os
import re
from typing import Annotated, Any

import typer

from nqrust.cli import output
from nqrust.cli.failures import choice
from nqrust.contract import ssh_keys
from nqrust.installer.engine.errors import UsageError


def timed(context: typer.Context, parameter: typer.CallbackParam, value: Any) -> Any:
    """Check --timeout, which needs --wait. Whichever the parser reads second sees the other. Raises UsageError NQR-USE-003."""
    source = context.get_parameter_source("timeout")
    waits = value if parameter.name == "wait" else context.params.get("wait", True)  # None: until it runs
    if source is not None and source.name == "COMMANDLINE" and waits is False:
        raise UsageError("NQR-USE-003", "--timeout has no effect without --wait.", "Add --wait, or leave --timeout out.")
    return value


Texts = list[str] | None
Vcpus = Annotated[int | None, typer.Option("--vcpus", metavar="N", help="Number of virtual CPUs (default: 1).")]
Memory = Annotated[str | None, typer.Option("--memory", metavar="SIZE", help="Memory in MiB, or as 512M or 2G (default: 256M).")]
Disk = Annotated[
    str | None,
    typer.Option("--disk", metavar="SIZE", help="Disk size in MiB, or as 512M or 2G (default: the size of the image)."),
]
SshKeys = Annotated[Texts, typer.Option("--ssh-key", metavar="KEY|FILE", help="SSH public key. Repeatable.")]
UserData = Annotated[
    str | None, typer.Option("--user-data", metavar="FILE", help="File for cloud-init in the guest, such as #cloud-config.")
]
Tags = Annotated[Texts, typer.Option("--tag", metavar="TAG", help="Tag. Repeatable.")]
GuestExec = Annotated[
    bool | None, typer.Option("--guest-exec/--no-guest-exec", help="Allow commands from the host, as root (default: yes).")
]
Autostart = Annotated[bool | None, typer.Option("--autostart/--no-autostart", help="Start the VM with its host (default: yes).")]
Restart = Annotated[
    str | None,
    typer.Option("--restart", metavar="never|on-failure|always", help="Restart policy (default: on-failure)."),
]
NetworkConfig = Annotated[
    str | None,
    typer.Option("--network-config", metavar="dhcp|image", help="Network configuration: DHCP (default), or the image's own."),
]
NetRx = Annotated[
    str | None,
    typer.Option("--net-rx", metavar="BITS", help="Limit for traffic to the guest, in bits per second: 512k, 100M, 1G."),
]
NetTx = Annotated[
    str | None, typer.Option("--net-tx", metavar="BITS", help="Limit for traffic from the guest, in bits per second.")
]
DiskRate = Annotated[
    str | None,
    typer.Option("--disk-rate", metavar="BYTES", help="Limit for each disk, in bytes per second: 512K, 50M, 1G."),
]
DiskIops = Annotated[int | None, typer.Option("--disk-iops", metavar="N", help="Limit for each disk, in operations per second.")]

Wait = Annotated[bool, typer.Option("--wait/--no-wait", help="Wait until the change is complete.", callback=timed)]
Timeout = Annotated[float, typer.Option("--timeout", metavar="SECONDS", help="Maximum wait in seconds.", callback=timed)]
Force = Annotated[bool, typer.Option("-f", "--force", help="Stop the VM without asking the guest.")]

_NUMBER = re.compile(r"(\d{1,9})([a-zA-Z]*)")
_KILOBITS = {"k": 1, "m": 1000, "g": 1_000_000}
_KIBIBYTES = {"k": 1, "": 1 << 10, "m": 1 << 10, "g": 1 << 20}


def one_name(command: str, name: str | None, named: str | None) -> str:
    """Return the name of the argument NAME or of the option --name. Raises UsageError NQR-USE-004 or NQR-USE-003."""
    if name is None and named is None:
        raise UsageError("NQR-USE-004", f"`nqr {command}` needs NAME.", f"See: nqr {command} --help")
    if name is not None and named is not None and name != named:
        raise UsageError("NQR-USE-003", f"NAME is {name}, and --name is {named}.", "Give one of them.")
    return name or named or ""


def fields(
    *,
    vcpus: int | None = None,
    memory: str | None = None,
    disk: str | None = None,
    tags: Texts = None,
    volumes: Texts = None,
    autostart: bool | None = None,
    restart: str | None = None,
    limits: dict[str, int] | None = None,
    network: str | None = None,
    guest_exec: bool | None = None,
) -> dict[str, Any]:
    """Return the API's field names and the given values, None for an absent option. Raises UsageError NQR-USE-003."""
    if restart is not None:
        choice("--restart", restart, ("never", "on-failure", "always"))
    if network is not None:
        choice("--network-config", network, ("dhcp", "image"))
    return {
        "vcpus": vcpus, "memory_mib": output.mebibytes("--memory", memory), "disk_mib": output.mebibytes("--disk", disk),
        "tags": tags or None, "volumes": [volume(text) for text in volumes] if volumes else None, "autostart": autostart,
        "restart_policy": restart, "rate_limits": limits, "network_config": network, "guest_exec": guest_exec,
    }  # fmt: skip


def rates(rx: str | None, tx: str | None, disk: str | None, iops: int | None) -> dict[str, int] | None:
    """Return the given rate limits; None without any."""
    found = {
        "net_rx_kbit": _amount("--net-rx", rx, _KILOBITS, "512k, 100M, 1G (bits)"),
        "net_tx_kbit": _amount("--net-tx", tx, _KILOBITS, "512k, 100M, 1G (bits)"),
        "disk_kib": _amount("--disk-rate", disk, _KIBIBYTES, "512K, 50M, 1G (bytes)"),
        "disk_iops": iops,
    }
    return {name: value for name, value in found.items() if value is not None} or None


def volume(text: str) -> dict[str, Any]:
    """Parse a volume: `512M` and `2G:keep` are empty disks; a text that begins with a letter names a kept volume."""
    if text[:1].isalpha():
        return {"name": text}
    size, _, keep = text.partition(":")
    if keep not in ("", "keep"):
        raise UsageError("NQR-USE-003", f"--volume “{text}” ends in “{keep}”.", "Give a size, or a size with :keep: 2G:keep.")
    return {"size_mib": output.mebibytes("--volume", size), "keep": bool(keep)}


def user_data(path: str | None) -> str | None:
    """Return the text of a file for cloud-init, None without one. Raises UsageError NQR-USE-003."""
    if path is None:
        return None
    from nqrust.contract.user_data import LARGEST_USER_DATA

    try:
        with open(os.path.expanduser(path), encoding="utf-8") as file:
            return file.read(LARGEST_USER_DATA + 1)
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(
            "NQR-USE-003", f"--user-data “{path}” is no readable text file.", "Give the path of a text file."
        ) from error


def keys(given: list[str]) -> list[str]:
    """Return the public keys. Each argument is a key, or a file with keys."""
    found: list[str] = []
    for item in given:
        if item.startswith(("ssh-", "ecdsa-", "sk-")):
            found.append(item.strip())
            continue
        try:
            with open(os.path.expanduser(item), encoding="utf-8") as file:
                lines = [line.strip() for line in file if line.strip() and not line.startswith("#")]
        except (OSError, UnicodeDecodeError) as error:
            raise UsageError(
                "NQR-USE-003",
                f"--ssh-key “{item}” is neither a public key nor a readable file.",
                "Give the path of a .pub file, or the key itself in quotes.",
            ) from error
        if any("PRIVATE KEY" in line for line in lines):
            raise UsageError("NQR-USE-003", f"--ssh-key {item} is a private key.", f"Use the public key: {item}.pub")
        found += lines
    for key in found:
        reason = ssh_keys.wrong(key)
        if reason:
            raise UsageError("NQR-USE-003", f"--ssh-key “{ssh_keys.shortened(key)}” {reason}.", ssh_keys.CURE)
    return found


def _amount(flag: str, text: str | None, units: dict[str, int], examples: str) -> int | None:
    if text is None:
        return None
    match = _NUMBER.fullmatch(text.strip())
    unit = match[2].lower() if match else "?"
    if match is None or unit not in units or int(match[1]) == 0:
        raise UsageError("NQR-USE-003", f"{flag} cannot be “{text}”.", f"Write a whole number with a unit: {examples}.")
    return int(match[1]) * units[unit]
