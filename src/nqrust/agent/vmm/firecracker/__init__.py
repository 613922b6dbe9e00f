"""Firecracker, under KVM only."""
