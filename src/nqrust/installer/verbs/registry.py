"""The closed set of undo verbs. A name's meaning never changes; a new meaning is a new name."""

from __future__ import annotations

from nqrust.installer.engine.verb import Verbs
from nqrust.installer.verbs.account import verbs as account
from nqrust.installer.verbs.file import verbs as file
from nqrust.installer.verbs.firewall import verbs as firewall
from nqrust.installer.verbs.kernel import verbs as kernel
from nqrust.installer.verbs.network import verbs as network
from nqrust.installer.verbs.packages import verbs as packages
from nqrust.installer.verbs.postgres import verbs as postgres
from nqrust.installer.verbs.resource import verbs as resource
from nqrust.installer.verbs.selinux import verbs as selinux
from nqrust.installer.verbs.service import verbs as service

FOLDERS = (file, account, packages, network, kernel, firewall, service, postgres, resource, selinux)

VERBS = Verbs(*(verb for folder in FOLDERS for verb in folder.VERBS))
revert = VERBS.revert
