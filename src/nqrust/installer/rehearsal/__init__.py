"""`nqr install --rehearse`: the real install on a disposable copy of this host, and a report of its changes.

operation    checks, starts the clone, makes the report            (on the host, through the Host port)
clone        a separate process: namespaces, overlays, PID 1       (between both)
carrier      carries the clone's connections out, by plain sockets (on the host's network)
inside       fingerprint, install, fingerprint                     (in the clone)

All mounts, the network card and all processes are in namespaces, which the kernel removes with the clone's last process. The
clone ends when `nqr` ends, for any reason. Only one folder can be left, and the next run removes it.
"""
