"""The type of a hop, and the function that runs one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from nqrust.client.errors import AgentClientError, ClientError
from nqrust.host.errors import HostError
from nqrust.host.port import Host
from nqrust.installer.engine.events import Proof
from nqrust.installer.supervisor.holding import split_bind


@dataclass(frozen=True)
class Hop:
    """A named proof: `prove` returns the detail, or raises Unproven or Failed."""

    name: str
    code: str
    cure: str
    prove: Callable[[], str]


class Failed(Exception):
    """The hop failed; the text describes the observation."""


class Unproven(Exception):
    """The hop cannot be tested here; the text gives the reason."""


def run_hop(hop: Hop, host: Host) -> Proof:
    """Run one hop. Never raises."""
    began = host.monotonic()
    try:
        verdict, detail = "passed", hop.prove()
    except Unproven as reason:
        verdict, detail = "unproven", str(reason)
    except (Failed, HostError, ClientError, AgentClientError) as reason:
        verdict, detail = "failed", str(reason)
    seconds = host.monotonic() - began
    if verdict == "passed":
        return Proof(hop.name, verdict, detail, seconds=seconds)
    return Proof(hop.name, verdict, detail, hop.code, hop.cure, seconds)


def local_address(bind: str) -> str:
    """Return the ADDRESS:PORT by which this host reaches a service bound to `bind`: each listens on loopback, too."""
    return f"127.0.0.1:{split_bind(bind)[1]}"
