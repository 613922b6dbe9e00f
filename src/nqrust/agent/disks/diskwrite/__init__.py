"""Writing into the file system of a VM's disk by mounting it: the verb `disk-write` of the root-owned helper.

A process of its own, which lives for one disk. The helper starts it in mount, PID, network and IPC namespaces of its own,
so that a mount, a child and a loop device end with it however it ends. It takes one document on standard input
(document.py) and answers with one on standard output; the disk's path follows from the VM's id and the storage root.

    document   what is asked, with its limits
    locate     the disk below the storage root, and that nobody uses it
    loop       loop devices that detach themselves
    mounting   mount(2)
    confined   files of the mounted tree; no link leads out of it
    accounts   users, with the pure parts that ext4 disks use too
    network    what the image configures its network with
    writer     all of it, in order
"""
