"""The LZ4 decoder agrees with the lz4 program."""

from __future__ import annotations

import random
import shutil
import subprocess

import pytest

from nqrust.image import lz4

needs_lz4 = pytest.mark.skipif(shutil.which("lz4") is None, reason="the program lz4 is not installed")


def compressed(data: bytes) -> bytes:
    return subprocess.run(["lz4", "-l", "-9", "-c"], input=data, capture_output=True, check=True).stdout


@needs_lz4
@pytest.mark.parametrize("size", [0, 1, 5, 70_000, 9 * 1024 * 1024])
def test_output_of_the_lz4_program_is_decompressed(size: int) -> None:
    chosen = random.Random(size)
    words = [chosen.randbytes(chosen.randint(1, 40)) for _ in range(50)]
    data = b"".join(chosen.choice(words) for _ in range(size // 15 + 1))[:size]
    packed = compressed(data)
    assert b"".join(lz4.decompress_legacy(packed, 1 << 30)) == data
    # Linux appends the unpacked size; it is not part of the frame.
    assert b"".join(lz4.decompress_legacy(packed + (53_000_000).to_bytes(4, "little"), 1 << 30)) == data


@needs_lz4
def test_decompression_above_the_size_limit_is_refused() -> None:
    with pytest.raises(ValueError, match="larger"):
        list(lz4.decompress_legacy(compressed(b"a" * 100_000), 1000))
    with pytest.raises(ValueError, match="larger"):
        list(lz4.decompress_legacy(compressed(b"a" * (9 << 20)), 8 << 20))
