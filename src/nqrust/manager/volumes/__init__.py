"""Kept volumes, attached or not."""
