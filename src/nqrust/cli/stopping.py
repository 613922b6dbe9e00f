"""A signal that arrives where nothing needs to be undone."""

from __future__ import annotations


class Stopped(BaseException):
    """A signal arrived before the first change, or during a wait. Operations install their own handlers."""
