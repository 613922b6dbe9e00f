"""With real programs: probes on machines in memory that were furnished as real ones are, and on the machine the tests run on."""

from __future__ import annotations

import os
import socket

from nqrust.host.facts.gather import gather
from nqrust.host.local import LocalHost


def test_on_this_machine_a_listener_is_named_with_its_process() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        facts = gather(LocalHost())
        (mine,) = [port for port in facts.ports if port.port == listener.getsockname()[1] and port.protocol == "tcp"]
    assert mine.pid == os.getpid() and mine.process
    assert facts.kernel.machine == os.uname().machine
    assert facts.kernel.release == os.uname().release
    assert facts.memory.total_mib > 100 and facts.cpu.count >= 1
