"""All facts of a machine at once."""

from __future__ import annotations

from nqrust.host.facts import (
    clock,
    container,
    cpu,
    filesystems,
    kernel,
    kvm,
    memory,
    network,
    os,
    ports,
    postgres,
    processes,
    proxy,
    selinux,
)
from nqrust.host.facts.model import Facts
from nqrust.host.facts.reading import text
from nqrust.host.port import Host


def gather(host: Host, *, paths_for_disk: tuple[str, ...] = ("/",), packages: frozenset[str] = frozenset()) -> Facts:
    """Gather all facts, read-only. `paths_for_disk`: their present or future file systems are measured. `packages`: the names
    of the installed packages, which a package manager knows. Raises HostError."""
    running = processes.probe(host)
    processor = cpu.probe(host)
    return Facts(
        os=os.probe(host),
        kernel=kernel.probe(host),
        cpu=processor,
        kvm=kvm.probe(host, processor),
        memory=memory.probe(host),
        hostname=text(host, "/proc/sys/kernel/hostname").strip() or text(host, "/etc/hostname").strip(),
        euid=host.euid(),
        supervisor=container.supervisor(host),
        container=container.probe(host),
        file_systems=filesystems.probe(host, paths_for_disk),
        ports=ports.probe(host, running),
        network=network.probe(host, running),
        packages=packages,
        postgres=postgres.probe(host),
        clock_utc=host.now(),
        clock_synchronised=clock.probe(host, running),
        proxy=proxy.probe(host),
        selinux=selinux.probe(host),
    )
