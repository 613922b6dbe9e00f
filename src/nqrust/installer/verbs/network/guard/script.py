"""The script `restore`: POSIX sh with coreutils and ip(8) alone. It is safe to kill and to repeat at any point.

The text has no content of files: these stand beside it, readable by root only.
"""

from __future__ import annotations

import posixpath
from shlex import join, quote

from nqrust.host.facts.nic import via
from nqrust.installer.verbs.network.guard.change import Address, FileChange, LiveState, NetworkChange, Route
from nqrust.installer.verbs.network.guard.folder import BEFORE, FOLDER
from nqrust.installer.verbs.network.guard.script_text import FOOT, HEAD

_PATIENCE = 5
"""Seconds that a network manager gets for the addresses, after its commands ended."""

COMMANDS_SECONDS = 14
"""Seconds for all commands of a network manager together; each gets two at least. With _PATIENCE they fit into the end of the
window (arming.py)."""


def spare_name(path: str) -> str:
    """Return the path of a second name of the file before, in its own folder. Its rename needs no space on the disk.

    No network manager reads hidden files with this ending.
    """
    folder, name = posixpath.split(path)
    return f"{folder}/.{name}.nqr-old"


def spares(files: tuple[FileChange, ...]) -> tuple[str, ...]:
    """Return the second names of all files that were there before."""
    return tuple(spare_name(one.path) for one in files if one.before is not None)


def restore_script(change: NetworkChange, *, bridge_was_there: bool, folders: tuple[str, ...], tidy: tuple[str, ...]) -> str:
    """Return the script. `folders`: folders that the change makes, parents first. `tidy`: commands that remove the alarm."""
    parts = [
        HEAD,
        f"here={quote(FOLDER)}\nlink={quote(change.link)}\nbridge={quote(change.bridge)}\ndevice={quote(change.live.device)}\n"
        f"budget={COMMANDS_SECONDS}\npatience={_PATIENCE if change.restore else 0}\n",
        _function("files", _files(change.files, folders)),
        _function("early_commands", _commands(change.early)),
        _function("commands", _commands(change.restore)),
        _function("links", _links(change, bridge_was_there=bridge_was_there)),
        _function("check", _check(change.live)),
        _function("by_hand", _by_hand(change.live)),
        _function("tidy", [*(f"rm -f {quote(path)}" for path in spares(change.files)), 'rm -rf "$here/before"', *tidy]),
        FOOT,
    ]
    return "\n".join(parts)


def _function(name: str, body: list[str]) -> str:
    return "\n".join([f"{name}() {{", *(f"    {line}" for line in body or [":"]), "}", ""])


def _files(files: tuple[FileChange, ...], folders: tuple[str, ...]) -> list[str]:
    """New files go first: on a full disk they make room."""
    lines = [f"gone {quote(one.path)}" for one in files if one.before is None]
    lines += [
        f"back {quote(f'{BEFORE}/{number}')} {quote(one.path)} {quote(spare_name(one.path))} {one.mode:o} {one.uid}:{one.gid}"
        for number, one in enumerate(files)
        if one.before is not None
    ]
    return lines + [f"rmdir {quote(folder)} 2>/dev/null || :" for folder in reversed(folders)]


def _commands(commands: tuple[tuple[str, ...], ...]) -> list[str]:
    return [f"limited {join(argv)}" for argv in commands]


def _links(change: NetworkChange, *, bridge_was_there: bool) -> list[str]:
    live = change.live
    lines = []
    if live.port_of:
        port_of = quote(live.port_of)
        mac = f" address {quote(live.mac)}" if live.device == live.port_of and live.mac else ""
        lines += [
            # The network manager comes first. NetworkManager takes a bridge of ip(8) for another program's.
            f'[ -e /sys/class/net/{port_of} ] || [ -n "${{1-}}" ] || return 0',
            f"[ -e /sys/class/net/{port_of} ] || try ip link add name {port_of}{mac} type bridge",
            # A new bridge would take a route from the kernel, beside that of a manager that reads the advertisements itself.
            *([f"advertisements {live.accept_ra}"] if live.accept_ra.isdigit() else []),
            f"try ip link set dev {port_of} up",
            f'[ "$(master)" = {port_of} ] || try ip link set dev "$link" master {port_of}',
        ]
        if live.device != change.link:
            # The same address on the port and on its bridge would leave two routes to one network.
            lines += [f'ip address del {join(one.words)} dev "$link" 2>/dev/null || :' for one in live.addresses]
    else:
        lines.append('[ "$(master)" != "$bridge" ] || try ip link set dev "$link" nomaster')
        if bridge_was_there:
            lines += [f'ip address del {join(one.words)} dev "$bridge" 2>/dev/null || :' for one in live.addresses]
        else:
            lines.append('[ ! -e "/sys/class/net/$bridge/bridge" ] || try ip link delete dev "$bridge"')
    if live.mtu:
        lines.append(f'[ "$(of mtu)" = {live.mtu} ] || try ip link set dev "$device" mtu {live.mtu}')
    if live.mac:
        lines.append(f'[ "$(of address)" = {quote(live.mac)} ] || try ip link set dev "$device" address {quote(live.mac)}')
    return [*lines, 'try ip link set dev "$link" up', 'try ip link set dev "$device" up']


def _check(live: LiveState) -> list[str]:
    lines = [
        f'[ "$(master)" = {quote(live.port_of)} ] || return 1' if live.port_of else '[ "$(master)" != "$bridge" ] || return 1'
    ]
    lines += [f"has_address {quote(' '.join(one.words))} || return 1" for one in live.addresses]
    lines += [
        f"has_route {route.family} {quote(route.table)} {quote(route.destination)} {quote(route.gateway)} || return 1"
        for route in live.routes
        if route.gateway and (":" in route.gateway) == (route.family == "-6")  # ip(8) looks for no others
    ]
    return [*lines, "return 0"]


def _by_hand(live: LiveState) -> list[str]:
    lines = [f"has_address {quote(' '.join(one.words))} || try ip {_address(one, live.device)}" for one in live.addresses]
    lines += [f"try ip {_route(route)}" for route in live.routes]
    return lines + [f"ip {rule.family} rule add {join(rule.words)} 2>/dev/null || :" for rule in live.rules]


def _address(one: Address, device: str) -> str:
    broadcast = f" broadcast {quote(one.broadcast)}" if one.broadcast else ""
    # An address that was learnt ends as it would have ended: its server may give it to another machine then.
    known = [left for left in (one.valid, one.preferred) if left is not None]
    ends = f" valid_lft {'forever' if one.valid is None else one.valid} preferred_lft {min(known)}" if known else ""
    extras = "".join(f" {quote(word)}" for word in one.extras.words(device))
    return f'{one.family} address replace {join(one.words)}{broadcast} dev "$device"{extras}{ends}'


def _route(route: Route) -> str:
    words = [route.family, "route", "replace", quote(route.destination)]
    words += map(quote, via(route.gateway, ipv6=route.family == "-6"))
    words += ["dev", '"$device"', "table", quote(route.table)]
    words += ["proto", quote(route.protocol)] if route.protocol else []
    words += ["metric", quote(route.metric)] if route.metric else []
    words += ["src", quote(route.source)] if route.source else []
    words += ["scope", quote(route.scope)] if route.scope else []
    words += ["onlink"] if route.onlink else []
    words += ["expires", str(route.expires)] if route.expires is not None and route.family == "-6" else []
    return " ".join(words)
