"""The releases of Firecracker that nqr installs, each with the sha256 of its published archive for x86_64.

Each digest stands in at least two pin files of independent projects (v1.13.1: tracee and meta-aws).
"""

from __future__ import annotations

DIGESTS = {
    "1.13.1": "59450b9171ff2ebdf2f9a25be3a248a7ba79fb6371aec51a9d6d8eefca7b4faf",
    "1.14.1": "ea66dc1fbdb2473bbb95a1e822ae7884cd575a891a8f801258723258d36b7c7c",
    "1.15.1": "d4a32ab2322d887ca1bc4a4e7afa9cc35393e6362dfc2b3becb389d362e4275a",
    "1.16.1": "382a02a869e4d6d5cb14c40577f9545e8458021ea8b0b2d3fc10ec14d9c242e6",
    "1.16.2": "32e3cdcd4081f91fe2b024a266f57dcb3b4e5fec5033e0cb22467ad7f7820bda",
    "1.17.0": "06094a1108ae9e82aa4c23a775aa92758f53f1175d422270d9d6162cb9ade558",
}
VERSION = "1.13.1"
"""The one that is installed unless another is chosen: the one that the platform was written for."""
