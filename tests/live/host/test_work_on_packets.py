"""A link that finishes no packet itself. tests/live/agent/test_network.py sees what the kernel does then."""

from __future__ import annotations

import pytest
from tests.fakes.host import FakeHost

from nqrust.host.errors import PathError
from nqrust.host.local import LocalHost
from nqrust.host.port import Host


@pytest.mark.parametrize("host", [FakeHost.debian12(), LocalHost()], ids=["fake", "local"])
@pytest.mark.parametrize("name", ["surelynotthere", "x" * 20, ""])
def test_a_link_that_is_not_there_is_a_failed_operation(host: Host, name: str) -> None:
    with pytest.raises(PathError):
        host.leave_no_work(name)
