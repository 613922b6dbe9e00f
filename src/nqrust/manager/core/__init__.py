"""Shared by every part of the running manager. Knows no resource."""
