"""A package manager's part for the verb for packages."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from nqrust.host.port import Host
from nqrust.installer.verbs.packages import traces


@dataclass(frozen=True)
class Remover:
    """One package manager. `plain` converts a recorded name for the other functions; `installed` returns names; `config_only`
    those removed with configuration left. `would_go` returns everything that purging some names would remove; `foresee` the
    same if `would_go` may repair. `needs` returns the direct dependencies of every installed package; `scripts` the text of
    maintainer scripts; `listed` the paths of packages. `purge` removes packages, also half-installed ones, and leaves the
    configuration of its second names. `leftovers` returns unpacked files of packages unknown to the
    manager. `mend` ends an interrupted transaction and runs its package scripts, so that the purge runs none that create
    anything. `asides`: suffixes for configuration files, the original's first. `clusters`: PostgreSQL server packages among
    some names -> pattern of data folders that go with them or are useless without them. Its second argument: paths from
    before the packages."""

    plain: Callable[[Host], Callable[[str], str]]
    installed: Callable[[Host], set[str]]
    config_only: Callable[[Host], set[str]]
    would_go: Callable[[Host, list[str]], set[str]]
    needs: Callable[[Host], dict[str, set[str]]]
    purge: Callable[[Host, set[str], set[str]], None]
    scripts: Callable[[Host, set[str]], str]
    listed: Callable[[Host, set[str]], frozenset[str]]
    leftovers: Callable[[Host, set[str]], dict[str, Any]] = lambda host, names: traces.NOTHING
    asides: tuple[str, ...] = ()
    mend: Callable[[Host, set[str]], None] = lambda host, names: None
    foresee: Callable[[Host, list[str]], set[str]] | None = None
    clusters: Callable[[set[str], set[str]], dict[str, str]] = lambda names, before: {}
