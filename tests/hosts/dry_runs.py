"""Shared checks of dry runs: each verb with --dry-run shows its plan and changes nothing."""

from __future__ import annotations

from nqrust.installer.phases.order import PHASES
from nqrust.installer.settings.options import RUN_FLAGS
from tests.hosts import product
from tests.hosts.machine import Machine, Result
from tests.hosts.product import nqr

LINES: dict[str, tuple[tuple[str, ...], ...]] = {
    "install": (("install", "--no-ui", "--agent-name", "other", "--with-container-runtime"),),
    "uninstall": (("uninstall",), ("uninstall", "--purge-data", "--drop-database"), ("uninstall", "--keep-packages")),
    "rollback": (("rollback",),),
    "rotate": (("rotate",), ("rotate", "database")),
    "phase": tuple(("phase", "run", name, "--no-ui") for name in PHASES),
}
"""Command lines of every verb that takes --dry-run."""


def before_any_install(host: Machine) -> None:
    """The bootstrap makes its cache; a dry uninstall names it and leaves it."""
    plan, mark = product.bootstrap(host, "--dry-run"), host.mark()
    assert "install packages (" in plan.stdout, plan.describe()
    shown = _uninstall_sh(host, "--purge-data")
    assert "nqr has installed nothing on this host." in shown.stdout and f"remove {product.CACHE}" in shown.stdout, (
        shown.describe()
    )
    assert host.exists(product.CACHE) and product.touched(host, mark) == []


def on_an_installed_host(host: Machine) -> None:
    """Each verb with the flag and with its variable, the scripts, and what a dry run refuses. A VM is on the host."""
    assert LINES.keys() == next(flag.verbs for flag in RUN_FLAGS if flag.flag == "--dry-run")
    before, logs = host.fingerprint(), host.run("ls /var/log/nqrust-install").stdout
    for words in (line for verb in sorted(LINES) for line in LINES[verb]):
        for flag, environ in ((["--dry-run"], {}), (["--non-interactive"], {"NQR_DRY_RUN": "1"})):
            mark = host.mark()
            done = nqr(host, *words, *flag, env=environ, check=False)
            refused = words == ("rollback",) and "NQR-USE-030" in done.describe()  # the host has a VM, which that would remove
            assert done.code == (2 if words == ("rollback",) else 0) and refused is (words == ("rollback",)), done.describe()
            assert product.rewritten(host, mark) == [], done.describe()
    _tells_what_goes_and_what_stays(host)
    product.bootstrap(host, "--dry-run", "--mode", "minimal", timeout=200)
    other = host.run(["su", "-s", "/bin/sh", "nobody", "-c", "nqr uninstall --dry-run"], check=False)
    assert other.code == 2 and "NQR-USE-001" in other.stderr, other.describe()
    for pair in (("--script", "/root/undo.sh"), ("--save-fingerprint", "/root/before")):
        assert nqr(host, "uninstall", *pair, "--dry-run", check=False).code == 2 and not host.exists(pair[1])
    assert host.run("ls /var/log/nqrust-install").stdout == logs
    found = before.diff(host.fingerprint(), ignore=_lives)
    if found:
        raise AssertionError("\n".join(found))


def _lives(category: str, thing: str) -> bool:
    """What running services write, and processes that come and go with their work; callers compare the services' own."""
    return category == "processes" or (category == "files" and product.LIVING.search(thing) is not None)


def _tells_what_goes_and_what_stays(host: Machine) -> None:
    purge = _uninstall_sh(host, "--purge-data", "--drop-database")
    for said in (
        "Taking everything back, newest first",
        "postgresql",
        "/srv/fc",
        f"remove {product.CACHE}",
        "things to undo",
    ):
        assert said in purge.stdout, purge.describe()
    plan = next(line for line in product.lines(_uninstall_sh(host, "--output", "json")) if line["type"] == "plan")
    whys = [stay["why"] for stay in plan["stays"]]
    assert plan["changes"] > 20 and any("--purge-data" in why for why in whys) and any("--drop-database" in why for why in whys)
    assert any("packages stay for the data" in why and "postgresql" in why for why in whys), whys


def _uninstall_sh(host: Machine, *more: str) -> Result:
    return host.run([f"{product.CLONE}/scripts/install/uninstall.sh", "--dry-run", *more], timeout=300)
