"""Hosts: join, heartbeats, cordon and drain. This layer is above VMs."""
