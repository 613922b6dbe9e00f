"""The LZ4 decoder agrees with the lz4 program and refuses damaged data."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nqrust.image import lz4


@given(st.binary(max_size=300))
def test_invalid_lz4_data_raises_only_value_error(data: bytes) -> None:
    try:
        list(lz4.decompress_legacy(lz4.MAGIC + len(data).to_bytes(4, "little") + data, 1 << 16))
    except ValueError:
        pass


def test_another_format_is_named() -> None:
    with pytest.raises(ValueError, match="not an LZ4 legacy frame"):
        list(lz4.decompress_legacy(b"\x1f\x8b", 10))
