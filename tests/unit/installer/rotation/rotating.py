"""A manager in memory that takes part in rotations, and the bench of `nqr` around it."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from tests.fakes.host import FakeHost

URL = "http://127.0.0.1:18080"


@dataclass
class FakeManager:
    """`slow`: answers until the hosts have followed. `offline`, `stuck`: names of hosts. `begun`: what it was asked for."""

    host: FakeHost
    slow: int = 0
    offline: tuple[str, ...] = ()
    stuck: tuple[str, ...] = ()
    begun: list[str] = field(default_factory=list)
    answers: int = 200

    def __post_init__(self) -> None:
        self.host.pages[f"{URL}/health"] = lambda _: (self.answers, "{}")
        self.host.pages[f"{URL}/v1/rotation"] = self._state
        self.host.pages[f"POST {URL}/v1/rotation/certificates"] = lambda headers: self._begin(headers, "certificates")

    def _begin(self, headers: dict[str, Any], what: str) -> tuple[int, str]:
        self.begun.append(what)
        return self._state(headers)

    def _state(self, headers: dict[str, Any]) -> tuple[int, str]:
        assert headers["Authorization"].reveal().startswith("Bearer nqr_")
        if self.answers != 200:
            return self.answers, "{}"
        ready = self.slow <= 0
        self.slow -= 1
        hosts = []
        for name in ("kvm1", *self.stuck, *self.offline):
            has = ready and name not in (*self.stuck, *self.offline)
            state = "offline" if name in self.offline else "online"
            hosts.append({"name": name, "state": state, "authority": has, "certificate": has, "tokens": has})
        return 200, json.dumps({"trusted": "", "signer": "", "hosts": hosts})
