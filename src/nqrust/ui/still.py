"""Looks again after a dialog: a thing of the same name may be another one by then."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from typing import Protocol, TypeVar

from nicegui import ui

from nqrust.client.manager import ClientError
from nqrust.ui import parts

Thing = TypeVar("Thing", covariant=True)


class Things(Protocol[Thing]):
    @property
    def items(self) -> Iterable[Thing]: ...


async def still(name: str, fetched: Awaitable[Things[Thing]], same: Callable[[Thing], bool]) -> bool:
    """Return whether one of the things that are fetched is the `same` as before the dialog. Tell the user if none is."""
    try:
        found = await fetched
    except ClientError as error:
        parts.failed(error)
        return False
    if any(same(one) for one in found.items):
        return True
    ui.notify(f"{name} changed while the dialog was open. Nothing was done: look at it, then try again.", type="warning")
    return False
