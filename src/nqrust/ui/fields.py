"""Form fields, and their parsers."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Generic, TypeVar

from nicegui import ui
from nicegui.element import Element
from nicegui.elements.mixins.value_element import ValueElement
from passlib.hash import sha512_crypt

from nqrust.contract.vms import EmptyVolume, GuestAccount, GuestUser, PortForward, RateLimits, VolumeCreate
from nqrust.ui import format as fmt
from nqrust.ui import parts

T = TypeVar("T")


LONGEST_PASSWORD = 256
"""Characters. 4096 take 0.2 s, in which this server does nothing else."""


class Wrong(Exception):
    """A field has an invalid value. The text is a sentence for the user."""


def new_password(label: str = "New password", told: bool = True) -> ui.input:
    """`told`: whether to show the required length."""
    hint = 'hint="At least 12 characters"' if told else ""
    return ui.input(label, password=True, password_toggle_button=True).props(f"autocomplete=new-password {hint}")


def crypt(password: str, salt: str | None = None) -> str:
    """`$6$SALT$…`, SHA-512 crypt as /etc/shadow holds it: the password itself must not leave this server.

    `salt`: up to 16 of the characters ./0-9A-Za-z, random by default. Raises Wrong."""
    try:
        if len(password) > LONGEST_PASSWORD:
            raise ValueError
        return str(sha512_crypt.using(rounds=5000, salt=salt).hash(password))
    except ValueError as error:
        raise Wrong(f"A password has at most {LONGEST_PASSWORD} characters, and no NUL among them.") from error


def _is_size(value: str | None) -> bool:
    try:
        return not (value or "").strip() or fmt.to_mib(value or "") >= 16
    except ValueError:
        return False


class Size(ui.input):
    """A size in people's notation, `512 MiB` or `10 GiB`. Empty: none."""

    def __init__(self, label: str, value: str = "", placeholder: str = "") -> None:
        super().__init__(label, value=value, placeholder=placeholder, validation={"Such as 512 MiB or 10 GiB": _is_size})
        self.props("outlined dense hide-bottom-space autocomplete=off")

    def mib(self) -> int | None:
        """Return MiB. Raises Wrong."""
        written = (self.value or "").strip()
        if not written:
            return None
        if not _is_size(written):
            raise Wrong(f"{self.props['label']}: write a size of at least 16 MiB, such as 512 MiB or 10 GiB.")
        return fmt.to_mib(written)


class Repeated(Generic[T]):
    """Rows of fields that users add and remove.

    `make(*initial)` creates a row's fields; it returns the first field and a reader (which raises Wrong or ValidationError).
    `noun`: the name of a row.
    """

    def __init__(self, noun: str, make: Callable[..., tuple[ValueElement[Any], Callable[[], T]]], most: int) -> None:
        self._noun, self._make, self._most = noun, make, most
        self._rows: dict[Element, Callable[[], T]] = {}
        self._place = parts.box("repeated")
        self._more = parts.quiet(f"Add {noun}", self._add_one, icon="add")

    def add(self, *initial: object) -> ValueElement[Any]:
        with self._place, parts.box("repeat") as row:
            with parts.box("fields"):
                field, self._rows[row] = self._make(*initial)
            parts.icon_button("close", f"Remove {self._noun}", partial(self._remove, row))
        self._more.set_enabled(len(self._rows) < self._most)
        return field

    def _add_one(self) -> None:
        self.add().run_method("focus")

    def _remove(self, row: Element) -> None:
        del self._rows[row]
        row.delete()
        self._more.set_enabled(True)
        ui.run_javascript(f"getHtmlElement({self._more.id}).focus()")

    def clear(self) -> None:
        self._rows.clear()
        self._place.clear()
        self._more.set_enabled(True)

    def read(self) -> list[T]:
        """All rows, from the top. Raises Wrong or ValidationError."""
        return [read() for read in self._rows.values()]


def forward_row(forward: PortForward | None = None) -> tuple[ValueElement[Any], Callable[[], PortForward]]:
    """A port of the host and the VM's port."""
    host_port = ui.number("Host port", value=forward.host_port if forward else None, min=1, max=65535, precision=0)
    guest_port = ui.number("VM port", value=forward.guest_port if forward else None, min=1, max=65535, precision=0)
    protocol = ui.select({"tcp": "TCP", "udp": "UDP"}, label="Protocol", value=forward.protocol if forward else "tcp")

    def read() -> PortForward:
        if not host_port.value or not guest_port.value:
            raise Wrong("A port forward needs both ports.")
        return PortForward(protocol=protocol.value, host_port=int(host_port.value), guest_port=int(guest_port.value))

    return host_port, read


def volume_row(
    kept: dict[str, str] | None = None, volume: EmptyVolume | None = None
) -> tuple[ValueElement[Any], Callable[[], VolumeCreate]]:
    """A new disk, or a kept one of `kept` (name -> label)."""
    which = ui.select({"": "new and empty", **(kept or {})}, label="Volume", value="").classes("wide")
    which.set_visibility(bool(kept))
    size = Size("Size", value=fmt.mib(volume.size_mib) if volume else "", placeholder="1 GiB")
    keep = ui.switch("Keep when the VM is deleted", value=volume.keep if volume else False)
    for field in (size, keep):
        field.bind_visibility_from(which, "value", value="")

    def read() -> VolumeCreate:
        if which.value:
            return VolumeCreate(name=which.value, keep=True)
        mib = size.mib()
        if mib is None:
            raise Wrong("A volume needs a size.")
        return VolumeCreate(size_mib=mib, keep=bool(keep.value))

    return which if kept else size, read


def account_row(passwords: bool = True, account: GuestAccount | None = None) -> tuple[ValueElement[Any], Callable[[], GuestUser]]:
    """An account in the guest. Only a hash of the password leaves this server. `passwords`: whether the row has one."""
    name = ui.input("User name", value=account.name if account else "", placeholder="ann")
    name.props("autocomplete=off autocapitalize=none")
    password = ui.input("Password", password=True, password_toggle_button=True).props("autocomplete=new-password")
    password.set_visibility(passwords)
    keys = ui.textarea("SSH keys, one per line", value="\n".join(account.ssh_keys) if account else "")
    keys.props("autogrow rows=1").classes("wide mono")

    def read() -> GuestUser:
        if not (name.value or "").strip():
            raise Wrong("An account needs a user name.")
        found = GuestUser(
            name=name.value.strip(), ssh_keys=lines(keys.value), password_hash=crypt(password.value) if password.value else None
        )
        if passwords and not found.ssh_keys and not found.password_hash:
            raise Wrong(f"Account {found.name} needs a password or an SSH key.")
        return found

    return name, read


class Rates:
    """Rate limits in megabits and MiB a second. Empty: not limited."""

    def __init__(self) -> None:
        with parts.box("form full"):
            self._rx = ui.number("Network in (Mbit/s)", min=0.064)
            self._tx = ui.number("Network out (Mbit/s)", min=0.064)
            self._disk = ui.number("Each disk (MiB/s)", min=0.0625)
            self._iops = ui.number("Each disk (operations/s)", min=10, precision=0)

    def fill(self, limits: RateLimits) -> None:
        self._rx.value = limits.net_rx_kbit / 1000 if limits.net_rx_kbit else None
        self._tx.value = limits.net_tx_kbit / 1000 if limits.net_tx_kbit else None
        self._disk.value = limits.disk_kib / 1024 if limits.disk_kib else None
        self._iops.value = limits.disk_iops

    def read(self) -> RateLimits:
        """Raises ValidationError."""
        return RateLimits(
            net_rx_kbit=_times(self._rx.value, 1000),
            net_tx_kbit=_times(self._tx.value, 1000),
            disk_kib=_times(self._disk.value, 1024),
            disk_iops=_times(self._iops.value, 1),
        )


def _times(value: float | None, factor: int) -> int | None:
    return round(value * factor) if value is not None else None


def lines(text: str | None) -> list[str]:
    """Return non-empty lines, without blanks around them."""
    return [line.strip() for line in (text or "").splitlines() if line.strip()]


def words(text: str | None) -> list[str]:
    """Return the values between commas."""
    return [word.strip() for word in (text or "").split(",") if word.strip()]
