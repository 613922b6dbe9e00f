"""The complete package manager dnf, with rpm."""

from __future__ import annotations

from nqrust.installer.verbs.packages.dnf.database import Rpm
from nqrust.installer.verbs.packages.dnf.installing import Dnf
from nqrust.installer.verbs.packages.dnf.removing import REMOVER
from nqrust.installer.verbs.packages.dnf.shell import SHELL
from nqrust.installer.verbs.packages.manager import PackageManager

DNF = PackageManager("dnf", Dnf(), REMOVER, Rpm(), SHELL)
