"""Every promise of the documentation names the tests that prove it (tests/tables/claims.yaml). These tests exist."""

from __future__ import annotations

import ast
import re

import pytest
from tests.documentation import claims, pages
from tests.documentation.claims import Row
from tests.documentation.pages import ROOT

from nqrust.agent.disks import tools
from nqrust.agent.scopes import limits
from nqrust.agent.users import limited
from nqrust.agent.vms import upkeep
from nqrust.contract.names import VM_USERS
from nqrust.installer.rehearsal import operation
from nqrust.installer.supervisor.spec import ServiceSpec
from nqrust.installer.supervisor.supervisord import Supervisord
from nqrust.installer.verbs.firewall import lan
from nqrust.manager.access import rights
from nqrust.manager.api import gate
from nqrust.manager.core import callers, counts, keys
from nqrust.manager.store import database
from nqrust.manager.templates import service as templates
from nqrust.manager.vms import console, processes
from nqrust.serving import server
from nqrust.ui import pace, session

ALL = re.compile("")
STRONG = re.compile(
    r"\b(never|always|every|cannot|nothing|none|whatever|refused?|stays?|kept|resumes|comes back|gone back|as it was)\b"
    r"|\bno (\w+ ){1,3}(can|is|are)\b",
    re.IGNORECASE,
)
IN_FULL = ("README.md", "docs/understand/security.md", "docs/reference/known-issues.md")
NOT_COVERED = ("docs/README.md", "docs/reference/cli.md", "docs/reference/error-codes.md", "docs/understand/benchmarks.md")
"""A list of links; two that other tests compare with the code; figures of one day."""
COVERED = {page: ALL if page in IN_FULL else STRONG for page in pages.pages() if page not in NOT_COVERED}
"""Pages, and which of their claims (tests/documentation/pages.py) need a row."""
PROMISES = re.compile(r"\b(works|is refused|refuses|never|always|every)\b", re.IGNORECASE)
BY_THE_WAY = re.compile(r"^(Tests:|Licence:|Apache-2\.0\.|`\./scripts/test\.sh`\.)$")


@pytest.mark.parametrize("page", COVERED)
def test_every_claim_has_a_row(page: str) -> None:
    wanted = tuple(claim for claim in pages.claims(page) if COVERED[page].search(claim) and not BY_THE_WAY.match(claim))
    assert len(wanted) > 3 or page not in IN_FULL
    assert claims.uncovered(page, wanted) == []


@pytest.mark.parametrize("page", COVERED)
def test_a_row_repeats_its_page_word_for_word(page: str) -> None:
    """An edited sentence needs a new look at its tests."""
    rows = [row for row in claims.rows() if row.page == page]
    assert [row.says for row in rows if not any(row.says in claim for claim in pages.claims(page))] == []
    assert len({row.says for row in rows}) == len(rows)


def test_a_row_names_tests_or_says_why_not() -> None:
    assert {row.page for row in claims.rows()} <= set(COVERED)
    assert [row.name for row in claims.rows() if bool(row.tests) == bool(row.none)] == []
    assert [row.name for row in claims.rows() if row.none and PROMISES.search(row.says)] == [], "a promise has a test"


@pytest.mark.parametrize("row", [row for row in claims.rows() if row.tests], ids=lambda row: row.name)
def test_tests_of_each_claim_exist_and_run(row: Row) -> None:
    assert [why for test in row.tests if (why := claims.missing(test))] == []


def test_a_test_that_is_missing_or_skipped_is_found(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path_factory.mktemp("tests")
    (folder / "one.py").write_text(
        "import pytest\ndef test_good():\n    assert 1\n@pytest.mark.skip(reason='x')\ndef test_marked():\n    assert 1\n"
        "def test_leaves():\n    'why'\n    pytest.skip('x')\ndef test_empty():\n    pass\n"
        "@pytest.mark.skipif(True, reason='x')\ndef test_sometimes():\n    assert 1\n"
    )
    (folder / "all.py").write_text("import pytest\npytestmark = [pytest.mark.skip]\ndef test_good():\n    assert 1\n")
    monkeypatch.setattr(claims, "TESTS", folder)
    told = {test: claims.missing(test).rpartition(": ")[2] for test in (
        "one.py::test_good", "one.py::test_sometimes", "one.py::test_marked", "one.py::test_leaves", "one.py::test_empty",
        "one.py::test_none", "all.py::test_good", "two.py::test_good",
    )}  # fmt: skip
    assert list(told.values()) == [
        "", "", "it is always skipped", "it is always skipped", "it asserts nothing", "there is no such test",
        "there is no such test", "there is no such file",
    ]  # fmt: skip


# --- claims that are about the code itself


def test_figures_of_the_security_page() -> None:
    page = pages.text("docs/understand/security.md")
    assert f"Open consoles close within {console.CHECK_SECONDS:g} seconds" in page
    assert f"Downloads of images end within {gate.CHECK_SECONDS:g} seconds, too" in page
    assert (
        f"compares each port with its VM every {upkeep.EVERY:g} seconds" in page
        and f"checks them every {upkeep.EVERY:g} seconds" in page
    )
    assert f"waits {rights.LOCK_TIMEOUT.removesuffix('s')} seconds for another one" in page
    assert f"looks every {upkeep.EVERY:g} seconds for new addresses" in page
    assert f"begin {lan.LED_ON} connections per second, burst {lan.LED_AT_ONCE}, through it" in page
    assert f"have {lan.LED_OPEN} open" in page
    last, spare = VM_USERS[-1], len(VM_USERS)
    assert f"from {VM_USERS[0]} to {last}" in page and f"from {last + 1} to {last + spare}" in page
    assert limited(limits.TASKS) == ("prlimit", "--core=1", "--nofile=2048", "--nproc=320"), "as the page says"
    assert f"at most {tools.LARGEST_OUTPUT >> 20} MiB of its output" in page
    assert f"It looks every {upkeep.LOGS_EVERY:g} seconds" in page
    assert f"above {upkeep.LARGEST >> 20} MiB to its last {upkeep.KEPT >> 10} KiB" in page


def test_figures_of_lists_on_the_page_of_the_api() -> None:
    page = pages.text("docs/reference/api.md")
    assert (templates.PAGE, templates.PAGE_CHARACTERS) == (1000, 1 << 20)
    assert f"at most {counts.TEMPLATES:,} templates, and at most {counts.IMAGES} images" in page
    assert keys.LARGEST == processes.LARGEST_COMMAND and f"at most {keys.LARGEST:,} characters together" in page


def test_figures_of_one_client_on_the_security_page() -> None:
    page = pages.text("docs/understand/security.md")
    assert f"makes {server.HANDSHAKES} connections with TLS at once, then {1 / server.HANDSHAKE_SECONDS:g} a second" in page
    assert f"up to {server.IN_TURN * server.HANDSHAKE_SECONDS:.1f} seconds. If {server.IN_TURN} of a" in page
    assert f"works on {callers.WORKING} requests of a user" in page
    assert (
        (callers.CONNECTIONS, callers.CHECKING) == (4, 4) and "share four connections" in page and "of their tokens four" in page
    )
    assert f"works {database.LIST_SECONDS:g} seconds on a list" in page
    assert f"gets {callers.AT_ONCE} such requests at once, then {1 / callers.SECONDS:g} a second" in page
    assert (callers.LOOKUPS, callers.LOOKUPS // 2) == (4, 2) and "four unknown tokens at a time, two of one source" in page
    assert f"If {callers.WAITING} requests of a sender wait" in page
    assert (gate.BODY_LIMIT, gate.STRANGERS_BODY_LIMIT) == (1 << 20, 16 << 10)
    assert f"a session {session.KEPT / 3600:g} hours after its last change" in page
    assert (
        f"at most {session.OF_A_SESSION} requests of a session to the manager under way, and {session.OF_SIGN_INS} of all" in page
    )
    files = f"{pace.FILES_AT_ONCE >> 20} MiB of the files of pages at once, then {pace.FILES_A_SECOND >> 20} MiB a second"
    assert files in page


def test_sizes_of_logs_on_the_monitoring_page() -> None:
    page = pages.text("docs/operate/monitoring.md")
    unit = Supervisord(bin_dir="/v/bin", config="/c").render(ServiceSpec("m", "M", ("/m",)))
    assert "stdout_logfile_maxbytes=10MB" in unit and "stdout_logfile_backups=3" in unit
    assert "40 MiB each" in page and "four files of 10 MiB" in page
    assert f"{upkeep.LARGEST >> 20} MiB; the agent cuts it to its last {upkeep.KEPT >> 10} KiB" in page
    assert upkeep.LOGS_EVERY == 2 and "for up to two seconds" in page


def test_a_rehearsal_says_what_it_cannot_measure() -> None:
    said = " ".join(operation._ALWAYS_UNMEASURED)
    for word in ("kernel", "modules", "parameters", "DHCP", "IPv6", "firewall rules", "services"):
        assert word in said


def test_nothing_below_the_command_line_prints() -> None:
    printers = ("print", "sys.stdout.write", "sys.stderr.write", "input", "sys.exit", "typer.echo")
    allowed = (
        "cli/",
        "reporting/",
        "rehearsal/inside.py",
        "rehearsal/clone.py",
        "supervisor/env_exec.py",
    )  # the last three: programs of their own
    installer = ROOT / "src/nqrust/installer"
    found = [
        f"{path.relative_to(installer)}: {ast.unparse(node.func)}"
        for path in sorted(installer.rglob("*.py"))
        if not str(path.relative_to(installer)).startswith(allowed) and any(name in path.read_text() for name in printers)
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and ast.unparse(node.func) in printers
    ]
    assert found == []
