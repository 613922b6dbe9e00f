"""Connections for a release. Without a release key, nothing of it comes over plain HTTP, where others can change it.

The server of this machine is the exception: nobody is between it and nqr. Only its addresses count, because a name such as
`localhost` can have another address.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from nqrust.installer.engine.errors import ReleaseError

if TYPE_CHECKING:
    import httpx

LOOPBACK = ("127.0.0.1", "::1")


def objection(address: str, *, signed: bool) -> ReleaseError | None:
    """Return the error NQR-REL-027 for an address over plain HTTP, unless a key checks the release or the server is this
    machine. Other texts than addresses are no concern of this check."""
    import httpx

    try:
        url = httpx.URL(address)
    except httpx.InvalidURL:
        return None
    if signed or url.scheme != "http" or url.host in LOOPBACK:
        return None
    return ReleaseError(
        "NQR-REL-027",
        f"{address} is plain HTTP, and no key checks the release: anyone on the network path could replace it.",
        "Use an https:// address, or give the publisher's key with --release-key.",
    )


def client(*, signed: bool) -> httpx.Client:
    """Return a client that follows redirects. Each request, redirected ones included, raises `objection` before it is sent.
    Proxies come from the environment, but loopback addresses use none: a proxy is on the way too."""

    import httpx

    from nqrust.tls.patience import patient

    def check(request: httpx.Request) -> None:
        error = objection(str(request.url), signed=signed)
        if error is not None:
            raise error

    direct: dict[str, httpx.BaseTransport | None] = {f"all://{_host(address)}": None for address in LOOPBACK}
    timeout = httpx.Timeout(30.0, connect=15.0)
    return patient(httpx.Client(follow_redirects=True, timeout=timeout, event_hooks={"request": [check]}, mounts=direct))


def _host(address: str) -> str:
    return f"[{address}]" if ":" in address else address
