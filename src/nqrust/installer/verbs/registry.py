"""The closed set of undo verbs. A name's meaning never changes; a new meaning is a new name."""

from __future__ import annotations

from typing import Any

from nqrust.installer.engine.verb import Settling, Verb, Verbs
from nqrust.installer.verbs.account import undo as accounts
from nqrust.installer.verbs.file import undo as files
from nqrust.installer.verbs.file.capturing import capture as capture_file
from nqrust.installer.verbs.firewall import undo as firewall
from nqrust.installer.verbs.forecasts import TELLERS
from nqrust.installer.verbs.kernel import undo as kernel
from nqrust.installer.verbs.network import undo as network
from nqrust.installer.verbs.packages import undo as packages
from nqrust.installer.verbs.postgres import undo as postgres
from nqrust.installer.verbs.resource import undo as resources
from nqrust.installer.verbs.service import undo as services
from nqrust.installer.verbs.words import WORDS


def _shared(args: dict[str, Any]) -> str:
    return "" if args.get("tree") else str(args["path"])


_UNITS = Settling(
    needed=lambda args: bool(args["active"]),
    always=lambda args: args.get("supervisor") == "systemd",
    settle=services.settle,
)

VERBS = Verbs(
    Verb("file", files.file, WORDS["file"], forecast=TELLERS["file"], capture=capture_file, replaces=True),
    Verb("block", files.block, WORDS["block"]),
    Verb("block_text", files.block_text, WORDS["block_text"]),
    Verb("directory", files.directory, WORDS["directory"], shared_folder=_shared),
    Verb("contents", files.contents, WORDS["contents"]),
    Verb("mode", files.mode, WORDS["mode"]),
    Verb("symlink", files.symlink, WORDS["symlink"], forecast=TELLERS["symlink"], replaces=True),
    Verb("user", accounts.user, WORDS["user"]),
    Verb("group", accounts.group, WORDS["group"]),
    Verb("member", accounts.member, WORDS["member"]),
    Verb("packages", packages.packages, WORDS["packages"], forecast=TELLERS["packages"], capture=packages.capture, conclude=packages.conclude, brings_programs=True),
    Verb("link", network.link, WORDS["link"], needs_programs=True),
    Verb("sysctl", kernel.sysctl, WORDS["sysctl"]),
    Verb("module", kernel.module, WORDS["module"], needs_programs=True),
    Verb("rules", firewall.rules, WORDS["rules"], needs_programs=True),
    Verb("ruleset", firewall.ruleset, WORDS["ruleset"], needs_programs=True),
    Verb("bridge", network.bridge, WORDS["bridge"], needs_programs=True),
    Verb("addresses", network.addresses, WORDS["addresses"], needs_programs=True),
    Verb("unit", services.unit, WORDS["unit"], settling=_UNITS),
    Verb("supervisord", services.supervisord, WORDS["supervisord"]),
    Verb("vms", services.vms, WORDS["vms"], forecast=TELLERS["vms"], needs_programs=True),
    Verb("role", postgres.role, WORDS["role"], needs_programs=True),
    Verb("database", postgres.database, WORDS["database"], needs_programs=True),
    Verb("resource", resources.resource, WORDS["resource"]),
)  # fmt: skip
revert = VERBS.revert
