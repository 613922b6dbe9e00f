"""The package managers whose packages can be taken away again, by the name in undo records."""

from __future__ import annotations

from nqrust.installer.verbs.packages.apt.removing import APT
from nqrust.installer.verbs.packages.dnf.removing import DNF

REMOVERS = {"apt": APT, "dnf": DNF}
