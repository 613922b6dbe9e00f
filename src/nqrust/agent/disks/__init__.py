"""Disks of VMs: made from images, prepared before the first boot, grown, kept.

`diskwrite` is the process that writes into a guest's file system; `netconf` knows how guests configure their network.
"""
