"""Parses what /proc tells about a process. proc(5). Pure."""

from __future__ import annotations


def parse_stat(text: str) -> tuple[str, bool, int]:
    """Parse /proc/PID/stat: comm, whether the process lives, and its start time (clock ticks since boot).

    The comm may contain anything. A program whose first thread has ended looks like a zombie while its other threads run.
    """
    head, _, tail = text.rpartition(")")
    fields = tail.split()
    return head.partition("(")[2], fields[0] not in "ZX" or int(fields[17]) > 1, int(fields[19])
