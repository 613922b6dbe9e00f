"""Writes into the file system of a VM's disk by mounting it: the verb `disk-write` of the root-owned helper.

The process lives for one disk. The helper starts it in its own mount, PID, network and IPC namespaces, so that mounts,
children and loop devices always end with it. It reads one document from standard input (document.py) and answers with one
on standard output. The disk's path follows from the VM's id and the storage root.

    document   the request, with its limits
    locate     the disk below the storage root, and the check that nobody uses it
    loop       loop devices that detach automatically
    mounting   mount(2)
    confined   files of the mounted tree; no link leads out of it
    accounts   users, with the pure parts that ext4 disks use too
    network    the image's network configuration
    writer     all of it, in order
"""
