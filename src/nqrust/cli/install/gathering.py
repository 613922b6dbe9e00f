"""One Request from flags, environment, configuration file and the last install."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from nqrust.cli.install.flags import run_value, settings_given

if TYPE_CHECKING:
    from nqrust.installer.request import PlanPreview, Request
    from nqrust.installer.settings.sources import Gathered


def gathered(
    flags: Mapping[str, Any],
    *,
    use_record: bool = True,
    above: Mapping[str, object] | None = None,
    environ: Mapping[str, str] | None = None,
) -> Gathered:
    """Return the settings from all sources. `use_record`: include the settings that the last install recorded. `above`: settings
    by dotted name that win over the flags. Raises UsageError."""
    from nqrust.installer.settings.sources import gather
    from nqrust.installer.settings.yaml_file import load

    if use_record:
        recall()
    path = run_value(flags, "config")
    config = load(os.path.abspath(os.path.expanduser(path))) if path else None
    return gather(
        flags={**settings_given(flags), **(above or {})},
        environ=os.environ if environ is None else environ,
        config=config,
        recorded=recorded() if use_record else None,
        cwd=os.getcwd(),
    )


def recall() -> None:
    """Put remembered proxies, mirrors and certificates into this program's environment. A variable that is set, also to
    nothing, stays as it is. Another user's file, or one that others can read, counts as none."""
    from nqrust.contract.paths import REACH_ENV
    from nqrust.host.environment import parse, reach

    try:
        with open(REACH_ENV, encoding="utf-8") as file:
            status = os.fstat(file.fileno())
            found = parse(file.read()) if status.st_uid == os.geteuid() and not status.st_mode & 0o077 else {}
    except (OSError, ValueError):
        return
    for name, value in reach(found).items():
        if not {name.lower(), name.upper()} & os.environ.keys():
            os.environ[name] = value


def recorded() -> dict[str, object]:
    """Return the settings that the last install recorded, by dotted name. Empty without a record, or if this user may not
    read it."""
    if os.geteuid() != 0:
        return {}
    from nqrust.contract.paths import JOURNAL, NQR_LINK

    if not os.path.exists(JOURNAL):
        return {}
    from pydantic import ValidationError

    from nqrust.host.local import LocalHost
    from nqrust.installer.engine.errors import UsageError
    from nqrust.installer.engine.journal import Journal
    from nqrust.installer.engine.journal_file import ReadOnlyJournalStore
    from nqrust.installer.engine.receipt import Receipt
    from nqrust.installer.settings.model import Settings
    from nqrust.installer.settings.record import remembered

    receipt = Receipt.of(Journal(ReadOnlyJournalStore(JOURNAL), LocalHost().now, program=NQR_LINK))
    if not receipt.installed or not receipt.last_settings:
        return {}
    try:
        return remembered(Settings.model_validate(receipt.last_settings))
    except ValidationError as error:
        raise UsageError(
            "NQR-CFG-011",
            "This nqr does not know the settings of the last install.",
            "Use the installed nqr (/usr/local/bin/nqr), or a newer one.",
        ) from error


def request(
    flags: Mapping[str, Any],
    found: Gathered,
    *,
    log_path: str = "",
    confirm: Callable[[PlanPreview], bool] | None = None,
) -> Request:
    """Return the request for operations. Flags that the verb does not have count as absent."""
    from nqrust.installer.request import Environment, Request, RunOptions

    def value(name: str) -> Any:
        return run_value(flags, name) if name in flags else None

    run = RunOptions(
        dry_run=bool(value("dry_run")),
        on_failure=value("on_failure") or "rollback",
        ignore_preflight=tuple(value("ignore_preflight") or ()),
        allow_downgrade=bool(value("allow_downgrade")),
        purge_data=bool(value("purge_data")),
        drop_database=bool(value("drop_database")),
        keep_packages=bool(value("keep_packages")),
        confirm=confirm,
        log_path=log_path,
    )
    checkout = os.environ.get("NQR_SOURCE_CHECKOUT", "")
    environment = Environment(found.db_password, found.admin_password, found.join_token, found.proxy, checkout)
    return Request(found.settings, run, environment, found.explicit)


def as_installed(
    flags: Mapping[str, Any], *, log_path: str = "", confirm: Callable[[PlanPreview], bool] | None = None
) -> Request:
    """Return the request for commands on an existing installation. It uses the recorded settings, so that no environment
    variable can prevent a verify or an uninstall."""
    from nqrust.installer.engine.errors import NqrError
    from nqrust.installer.settings.sources import gather

    recall()
    try:
        found = gather(flags={}, environ=_proxies(), recorded=recorded())
    except NqrError:
        found = gather(flags={}, environ=_proxies())
    return request(flags, found, log_path=log_path, confirm=confirm)


def _proxies() -> dict[str, str]:
    from nqrust.installer.settings.sources import PROXY_VARIABLES

    return {name: os.environ[name] for name in PROXY_VARIABLES if name in os.environ}
