"""Settings of the process that ran nqr, where nqr works with others."""

from __future__ import annotations


class Given:
    """`umask`: nqr makes the files of an installation under 022, as their readers are services and other users."""

    umask = 0o022
