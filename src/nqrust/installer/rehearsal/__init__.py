"""`nqr install --rehearse`: the real install on a copy of this host that is thrown away, and what it changed there.

    operation    checks, starts the clone, makes the report            (on the host, through the Host port)
    clone        a process of its own: namespaces, overlays, PID 1     (between both)
    outlet       carries the clone's connections out, by plain sockets (on the host's network)
    inside       fingerprint, install, fingerprint                     (in the clone)

Every mount, the network card and all processes live in namespaces that the kernel takes away with the clone's last
process; the clone ends with `nqr`, however that ends. What can be left is one folder, which the next run removes.
"""
