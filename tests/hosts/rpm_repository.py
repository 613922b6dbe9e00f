"""Test RPMs for dnf in a local repository, with RHEL's dnf settings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

REPOSITORY = "/srv/repository"
POST_REACHED, POST_HELD = "/run/post-reached", "/run/post-held"
LONG = "a-package-whose-name-is-longer-than-any-column-of-the-table-that-dnf-prints"


@dataclass(frozen=True)
class Rpm:
    name: str
    requires: Sequence[str] = ()
    provides: Sequence[str] = ()
    files: Sequence[str] = ()
    configs: Sequence[str] = ()  # the attribute, then the path
    folders: Sequence[str] = ()
    post: str = ""
    many: str = field(default="")  # a folder with a thousand files

    def spec(self) -> str:
        head = [f"Name: {self.name}", "Version: 1.2", "Release: 3", "Summary: made up", "License: none", "BuildArch: noarch"]
        head += [f"Requires: {what}" for what in self.requires] + [f"Provides: {what}" for what in self.provides]
        paths = [*self.files, *(line.split()[-1] for line in self.configs)]
        build = [f"mkdir -p $(dirname %{{buildroot}}{path}); echo shipped > %{{buildroot}}{path}" for path in paths]
        build += [f"mkdir -p %{{buildroot}}{folder}" for folder in self.folders]
        listed = [*self.files, *self.configs, *(f"%dir {path}" for path in self.folders)]
        if self.many:
            build.append(
                f"mkdir -p %{{buildroot}}{self.many}; for n in $(seq 1000); do echo $n > %{{buildroot}}{self.many}/$n; done"
            )
            listed.append(self.many)
        post = ["%post", self.post] if self.post else []
        return "\n".join([*head, "%description", "made up", "%install", *build, *post, "%files", *listed, ""])


RPMS = (
    Rpm("shell", provides=["/bin/sh"]),
    Rpm("old-library"),
    Rpm("old-friend", requires=["old-library"]),
    Rpm("library", provides=["library-api(two) = 2"], files=["/usr/share/library/x"]),
    Rpm(
        "server", requires=["library-api(two) >= 2"], files=["/usr/share/server/tool"], folders=["/etc/server"],
        configs=["%config /etc/server/plain.conf", "%config(noreplace) /etc/server/kept.conf", "%config /etc/server/same.conf"],
        post="useradd --system serverd\nmkdir -p /var/lib/server\necho made > /var/lib/server/id\n"
             "echo made > /etc/server-made.conf\nchown -R serverd: /var/lib/server",
    ),
    Rpm("client", requires=["/usr/share/library/x", "library-api(two)", "old-library"], folders=["/usr/share/client"], many="/usr/share/client"),
    Rpm("stranger", requires=["/usr/share/library/x"]),
    Rpm("guest", requires=["(library-api(two) if old-friend)", "library"]),
    Rpm("boolean", requires=["(library-api(two) if old-friend)"]),
    Rpm("slow", requires=["library", "client"], files=["/usr/share/slow/x"],
        post=f"touch {POST_REACHED}\nwhile [ -e {POST_HELD} ]; do sleep 0.1; done\necho made > /etc/slow-made.conf"),
    Rpm("shipped", files=["/etc/dnf/protected.d/shipped.conf"]),  # names itself, as sudo of RHEL does
    Rpm("postgresql-server", requires=["library"], folders=["/var/lib/pgsql", "/var/lib/pgsql/data"]),
    Rpm(LONG, files=["/usr/share/long/x"]),
    Rpm("python3.11", requires=[LONG, "client", "old-library"], files=["/usr/share/python3.11/x"]),
)  # fmt: skip

SETTINGS = {
    "/etc/rpm/macros": "%_dbpath /var/lib/rpm\n",  # Debian's is in the home directory
    "/etc/dnf/dnf.conf": "[main]\ngpgcheck=1\ninstallonly_limit=3\nclean_requirements_on_remove=True\nbest=True\nskip_if_unavailable=False\n",
    "/etc/dnf/vars/releasever": "9\n",
    "/etc/yum.repos.d/made-up.repo": "[made-up]\nname=Made up\nbaseurl=http://127.0.0.1:8099/\nenabled=1\ngpgcheck=0\n",
    "/etc/systemd/system/repository.service": "[Service]\nExecStart=/usr/bin/python3 -m http.server --bind 127.0.0.1 8099\n"
    f"WorkingDirectory={REPOSITORY}\n[Install]\nWantedBy=multi-user.target\n",
}
