"""User data: a text for cloud-init in the guest."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, Field

LARGEST_USER_DATA = 48 << 10


def _user_data(text: str) -> str:
    if "\0" in text or (text and not text.startswith(("#", "Content-Type:"))):
        raise ValueError("it begins with #cloud-config, #! or another header that cloud-init knows")
    if len(text.encode()) > LARGEST_USER_DATA:
        raise ValueError(f"it is longer than {LARGEST_USER_DATA >> 10} KiB")
    return text


UserData = Annotated[str, Field(max_length=LARGEST_USER_DATA), AfterValidator(_user_data)]
"""For cloud-init in the guest. It may contain passwords, so no answer of the manager shows it."""
