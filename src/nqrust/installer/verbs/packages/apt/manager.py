"""The complete package manager apt, with dpkg."""

from __future__ import annotations

from nqrust.installer.verbs.packages.apt.collecting import Collector
from nqrust.installer.verbs.packages.apt.database import Dpkg
from nqrust.installer.verbs.packages.apt.installing import Apt
from nqrust.installer.verbs.packages.apt.removing import REMOVER
from nqrust.installer.verbs.packages.apt.shell import SHELL
from nqrust.installer.verbs.packages.manager import PackageManager

APT = PackageManager("apt", Apt(), REMOVER, Dpkg(), SHELL, Collector())
