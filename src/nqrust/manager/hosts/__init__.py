"""Hosts: join, heartbeats, cordon and drain. Above VMs, which a host carries."""
