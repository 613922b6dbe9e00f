"""Firecracker and its jailer, from an archive whose digest is known."""
