"""Disks of VMs: copied from images, prepared before the first boot, grown, kept.

The process `diskwrite` writes into a guest's file system. `netconf` knows how guests configure their network.
"""
