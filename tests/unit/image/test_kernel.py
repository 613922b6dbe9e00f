"""The kernel recipe of each distribution."""

from __future__ import annotations

import pytest
from tests.fakes.host import FakeHost

from nqrust.image.errors import ImageError
from nqrust.image.kernel_sources import deb, registry


@pytest.mark.parametrize("text", ["ID=debian\n", 'ID="ubuntu"\nID_LIKE=debian\n', 'ID=linuxmint\nID_LIKE="ubuntu debian"\n'])
def test_debian_family_has_a_kernel_source(text: str) -> None:
    host = FakeHost.debian12()
    host.put("/etc/os-release", text)
    assert registry.source_for(host) is deb.fetch


@pytest.mark.parametrize("text", ["ID=plan9\n", ""])
def test_unsupported_distribution_has_no_kernel_source(text: str) -> None:
    host = FakeHost.debian12()
    host.put("/etc/os-release", text)
    with pytest.raises(ImageError) as caught:
        registry.source_for(host)
    assert caught.value.code == "NQR-IMG-001" and caught.value.cure
