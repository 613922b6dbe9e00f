"""What the verb for packages asks of a package manager."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from nqrust.host.port import Command, Host
from nqrust.installer.verbs.packages import traces


@dataclass(frozen=True)
class Remover:
    """One package manager. `plain` turns a recorded name into the one that the other functions use; `installed` gives
    names, those in `config_only` were removed and left their configuration; `would_go` what purging some names would
    remove in all, and `foresee` the same where `would_go` may mend what is torn; `needs` the direct dependencies of every
    installed package; `scripts` the text of maintainer scripts and `listed` the paths of packages; `purge` removes, also
    what a transaction that was cut off left half there, and of its second names leaves the configuration; `mark` gives
    commands; `leftovers` is what was unpacked of packages that the package manager does not know of; `mend` ends a
    transaction that was cut off, which runs scripts of packages, so that their purge needs to run none that make anything;
    `asides`: ends of names that it gives to configuration files, first that of the file from before; `clusters`: server
    packages of PostgreSQL among some names -> pattern of the data folders that go with them or are of no use without them. Its second argument: paths that
    were there before the packages."""

    plain: Callable[[Host], Callable[[str], str]]
    installed: Callable[[Host], set[str]]
    config_only: Callable[[Host], set[str]]
    would_go: Callable[[Host, list[str]], set[str]]
    needs: Callable[[Host], dict[str, set[str]]]
    purge: Callable[[Host, set[str], set[str]], None]
    mark: Callable[[Host, set[str], set[str]], list[Command]]
    scripts: Callable[[Host, set[str]], str]
    listed: Callable[[Host, set[str]], frozenset[str]]
    leftovers: Callable[[Host, set[str]], dict[str, Any]] = lambda host, names: traces.NOTHING
    asides: tuple[str, ...] = ()
    mend: Callable[[Host, set[str]], None] = lambda host, names: None
    foresee: Callable[[Host, list[str]], set[str]] | None = None
    clusters: Callable[[set[str], set[str]], dict[str, str]] = lambda names, before: {}
