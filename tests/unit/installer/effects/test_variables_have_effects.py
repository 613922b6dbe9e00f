"""Every environment variable of the installer, its client commands and its scripts has an effect. It belongs to a setting or a
flag, or has a row here with the effect and its proof."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
from tests.places import ROOT
from tests.unit.installer.effects.a_bench import Bench, bench
from tests.unit.installer.effects.observing import observed
from tests.unit.installer.effects.test_client_options_have_effects import ran

from nqrust.cli import connection
from nqrust.installer import operations, planner
from nqrust.installer.engine.errors import UsageError
from nqrust.installer.request import Summary
from nqrust.installer.settings.options import OPTIONS, RUN_FLAGS

__all__ = ["bench", "ran"]
WHOLE_PLAN = planner.plan
READ = re.compile(r"""environ(?:\.get\(|\[)\s*["']([A-Za-z_]+)["']|\b(NQR_[A-Z0-9_]*[A-Z0-9])\b""")
NO_VARIABLES = {"NQR_LINK", "NQR_CRASH"}
"""A constant of contract/paths.py, and how two names below begin."""


def database_password(name: str) -> Callable[[Bench], None]:
    def proof(it: Bench) -> None:
        it.patch.setattr(planner, "plan", WHOLE_PLAN)
        assert any("database-password: in-the-environment" in line for line in observed({}, {name: "in-the-environment"}))
        assert not any("database-password: in-the-environment" in line for line in observed({}))

    return proof


def admin_password(it: Bench) -> None:
    it.patch.setattr(planner, "plan", WHOLE_PLAN)
    found = observed({}, {"NQR_ADMIN_PASSWORD": "a long password of mine"})
    assert any(line.endswith("/admin-password: a long password of mine") for line in found)
    with pytest.raises(UsageError, match="12 to 256"):
        observed({}, {"NQR_ADMIN_PASSWORD": "short"})


def join_token(it: Bench) -> None:
    it.patch.setattr(planner, "plan", WHOLE_PLAN)
    agent = {"NQR_MODE": "agent", "NQR_MANAGER_URL": "https://m:18080"}
    assert any(line.endswith("/join-token: nqr_pasted") for line in observed({}, {**agent, "NQR_JOIN_TOKEN": "nqr_pasted"}))
    assert not any("nqr_pasted" in line for line in observed({}, {"NQR_JOIN_TOKEN": "nqr_pasted"})), "this host has a manager"


def checkout(it: Bench) -> None:
    seen: list[str] = []
    it.patch.setattr(operations, "install", lambda request, _: seen.append(request.environment.checkout) or Summary("ok", 0))
    it.patch.setenv("NQR_SOURCE_CHECKOUT", "/a/checkout")
    assert it.nqr("install") == 0
    it.patch.delenv("NQR_SOURCE_CHECKOUT")
    assert it.nqr("install") == 0 and seen == ["/a/checkout", ""]


def debug(it: Bench) -> None:
    def broken(request: object, _: object) -> Summary:
        raise RuntimeError("inside")

    it.patch.setattr(operations, "install", broken)
    assert it.nqr("install") == 1 and "Traceback" not in it.err
    it.patch.setenv("NQR_DEBUG", "1")
    assert it.nqr("install") == 1 and "Traceback" in it.err and "RuntimeError: inside" in it.err


def terminal(it: Bench) -> None:
    from nqrust.cli import session

    it.patch.setattr("sys.stdout.isatty", lambda: True)
    it.patch.setenv("TERM", "xterm")
    assert type(session._display("text")[0]).__name__ == "TerminalReporter"
    it.patch.setenv("TERM", "dumb")
    assert type(session._display("text")[0]).__name__ == "PlainReporter"


def config_dir(it: Bench) -> None:
    folder = it.logs.parent
    (folder / "cli-token").write_text("of-that-folder\n")
    it.patch.setenv("CONFIG_DIR", str(folder))
    assert connection.address("http://127.0.0.1:18080") == ("http://127.0.0.1:18080", "of-that-folder")


ROWS: dict[str, tuple[str, Callable[[Bench], None] | str]] = {
    "NQR_DB_PASSWORD": ("the database password in its file", database_password("NQR_DB_PASSWORD")),
    "DB_PASSWORD": ("the database password in its file", database_password("DB_PASSWORD")),
    "NQR_ADMIN_PASSWORD": ("the administrator's first password", admin_password),
    "NQR_JOIN_TOKEN": ("the token with which an agent joins", join_token),
    "NQR_SOURCE_CHECKOUT": ("the source tree that is built", checkout),
    "NQR_DEBUG": ("the traceback of an unexpected error on standard error", debug),
    "TERM": ("plain lines on a dumb terminal", terminal),
    "CONFIG_DIR": ("where the client commands look for their token", config_dir),
    "NQR_TOKEN": (
        "the token that the manager is sent",
        "tests/unit/installer/effects/test_client_options_have_effects.py::test_the_token_of_the_environment_is_sent",
    ),
    "NQR_MANAGER_URL": (
        "the manager that is asked",
        "tests/unit/installer/effects/test_client_options_have_effects.py::test_manager_option_selects_the_manager",
    ),
    "NO_COLOR": ("no colours", "tests/unit/installer/reporting/test_reporters.py::test_the_terminal_obeys_no_color"),
    "https_proxy": (
        "downloads go through it",
        "tests/unit/installer/release/test_download.py::test_a_proxy_of_the_environment_is_used",
    ),
    "NQR_FIRECRACKER_ARCHIVE": (
        "the archive that is installed",
        "tests/live/installer/platform/test_firecracker.py::test_where_it_comes_from",
    ),
    "NQR_FIRECRACKER_SHA256": (
        "the digest that it must have",
        "tests/live/installer/platform/test_firecracker.py::test_where_it_comes_from",
    ),
    "NQR_FIRECRACKER_MIRROR": (
        "the address in the publisher's place",
        "tests/live/installer/platform/test_firecracker.py::test_where_it_comes_from",
    ),
    "NQR_NODE_ARCHIVE": (
        "the Node.js that runs a web UI",
        "tests/unit/installer/platform/test_node.py::test_an_archive_takes_the_place_of_an_older_node",
    ),
    "PIP_CACHE_DIR": (
        "pip keeps its cache there",
        "tests/unit/installer/effects/test_variables_have_effects.py::test_pip_cache_variable_overrides_the_default_cache",
    ),
    "NQR_VERB": (
        "install.sh hands over to that command",
        "tests/unit/installer/effects/test_variables_have_effects.py::test_scripts_pass_their_verb_to_the_bootstrap",
    ),
    "NQR_CACHE_DIR": (
        "where install.sh makes its environment",
        "tests/live/scripts/test_install_sh.py::test_a_ready_environment_is_used_at_once_with_every_argument_as_given",
    ),
    "NQR_WHEELS": (
        "the folder whose wheels fill the installer's environment",
        "tests/live/scripts/test_packages.py::test_pyz_makes_its_environment_without_a_network",
    ),
    "NQR_PYTHON_ARCHIVE": (
        "the Python that a host with an older one gets",
        "tests/hosts/test_old_python.py::test_python_in_a_file_is_used_only_with_its_digest",
    ),
    "NQR_PYTHON_SHA256": (
        "the digest that it must have",
        "tests/hosts/test_old_python.py::test_python_in_a_file_is_used_only_with_its_digest",
    ),
    "NQR_CRASH_AFTER_APPEND": ("the test suite's power cut", "tests/hosts/test_kill_rollback.py::NQR_CRASH_"),
    "NQR_CRASH_BEFORE_APPEND": ("the test suite's power cut", "tests/hosts/test_kill_rollback.py::NQR_CRASH_"),
}


def names_in_the_sources() -> set[str]:
    files = [
        *(ROOT / "src/nqrust/installer").rglob("*.py"), *(ROOT / "src/nqrust/host").rglob("*.py"),
        *(ROOT / "scripts/install").iterdir(),
    ]  # fmt: skip
    return {first or second for file in files for first, second in READ.findall(file.read_text())}


def test_every_variable_that_is_read_has_a_row() -> None:
    of_options = {variable for option in OPTIONS for variable in option.variables} | {flag.variable for flag in RUN_FLAGS}
    known = of_options | ROWS.keys()
    assert names_in_the_sources() - known - NO_VARIABLES == set()
    documented = set(re.findall(r"\bNQR_[A-Z0-9_]*[A-Z0-9]\b", (ROOT / "docs/reference/settings.md").read_text()))
    assert documented <= known


@pytest.mark.parametrize("name", [name for name, (_, proof) in ROWS.items() if callable(proof)])
def test_a_variable_has_the_effect_that_its_row_names(name: str, bench: Bench) -> None:
    effect, proof = ROWS[name]
    assert effect and callable(proof)
    proof(bench)


@pytest.mark.parametrize("name", [name for name, (_, proof) in ROWS.items() if isinstance(proof, str)])
def test_an_effect_that_is_proven_elsewhere_is(name: str) -> None:
    effect, proof = ROWS[name]
    assert effect and isinstance(proof, str)
    file, _, test = proof.partition("::")
    text = (ROOT / file).read_text()
    assert f"def {test}(" in text or (test.startswith("NQR_") and test in text)


def test_pip_cache_variable_overrides_the_default_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    from nqrust.installer.release.wheelhouse import _cache

    monkeypatch.delenv("PIP_CACHE_DIR", raising=False)
    assert _cache("/var/cache/nqrust-microvm/wheelhouse") == {"PIP_CACHE_DIR": "/var/cache/nqrust-microvm/pip"}
    monkeypatch.setenv("PIP_CACHE_DIR", "/elsewhere")
    assert _cache("/var/cache/nqrust-microvm/wheelhouse") == {}, "the caller's own reaches pip: the host passes PIP_* on"


def test_scripts_pass_their_verb_to_the_bootstrap() -> None:
    install = (ROOT / "scripts/install/install.sh").read_text()
    assert "VERB=${NQR_VERB:-install}" in install and '"$checkout/src" "$VERB" "$@"' in install
    for script, verb in (("uninstall.sh", "uninstall"), ("verify-clean.sh", "verify-clean")):
        assert f"NQR_VERB={verb} " in (ROOT / "scripts/install" / script).read_text()
