"""All sources, in the order in which they are asked. The last one takes every reference."""

from __future__ import annotations

from nqrust.contract.images import ImagePull
from nqrust.manager.images.sources.oci import Oci
from nqrust.manager.images.sources.port import Planned, Source

SOURCES: tuple[Source, ...] = (Oci(),)


def choose(wanted: ImagePull) -> tuple[Source, Planned]:
    """Return the source of a reference and what it means there. Raises ImageError."""
    for source in SOURCES:
        planned = source.plan(wanted)
        if planned is not None:
            return source, planned
    raise AssertionError("the last source takes every reference")
