"""Which recipe a distribution gets."""

from __future__ import annotations

import pytest
from tests.fakes.host import FakeHost

from nqrust.image import kernel_debian, kernel_sources
from nqrust.image.errors import ImageError


@pytest.mark.parametrize("text", ["ID=debian\n", 'ID="ubuntu"\nID_LIKE=debian\n', 'ID=linuxmint\nID_LIKE="ubuntu debian"\n'])
def test_the_debian_family_has_one(text: str) -> None:
    host = FakeHost.debian12()
    host.put("/etc/os-release", text)
    assert kernel_sources.source_for(host) is kernel_debian.fetch


@pytest.mark.parametrize("text", ["ID=plan9\n", ""])
def test_others_are_told(text: str) -> None:
    host = FakeHost.debian12()
    host.put("/etc/os-release", text)
    with pytest.raises(ImageError) as caught:
        kernel_sources.source_for(host)
    assert caught.value.code == "NQR-IMG-001" and caught.value.cure
