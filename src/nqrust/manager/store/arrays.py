"""Conditions over lists of any length.

`IN` sends one parameter per value. PostgreSQL takes at most 65,535 of them, and an agent chooses how many VMs it reports.
"""

from __future__ import annotations

from collections.abc import Collection

from sqlalchemy import ColumnElement, Text, any_, literal
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.orm import InstrumentedAttribute


def among(column: InstrumentedAttribute[str], values: Collection[str]) -> ColumnElement[bool]:
    """Return whether the column has one of the values. They are one parameter."""
    return column == any_(literal(sorted(values), ARRAY(Text)))
