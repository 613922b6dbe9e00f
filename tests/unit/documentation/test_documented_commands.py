"""Commands in the documentation and in messages exist, with the options, choices and arguments shown."""

from __future__ import annotations

import ast
import re

import pytest
from tests.documentation import commands, pages
from tests.documentation.pages import ROOT, Block, Marker

HOST_TEST = ROOT / "tests" / "hosts" / "test_documented.py"
LANGUAGES = frozenset({*pages.SHELL, "yaml", "json", "nginx", ""})
BLOCKS = [block for page in pages.pages() for block in pages.blocks(page) if block.language in pages.SHELL]
MARKED = [(block, marker) for block in BLOCKS for marker in block.markers]
NOT_IN_THIS_VERSION = frozenset({"upgrade", "fleet"})
TEST_NAME = re.compile(r"(tests/\S+\.py)::(\w+)")


def place(value: Block | Marker | str) -> str:
    if isinstance(value, Block):
        return f"{value.page}:{value.line}"
    return value.command or "all of it" if isinstance(value, Marker) else value


@pytest.mark.parametrize("block", BLOCKS, ids=place)
def test_a_block_of_commands_can_be_typed_as_it_is(block: Block) -> None:
    known = [words for line in block.lines if (words := commands.words_of(line)) is not None]
    assert [f"nqr {' '.join(words)}: {found}" for words in known if (found := commands.problem(words, complete=True))] == []


@pytest.mark.parametrize("page", pages.pages(records=True))
def test_commands_within_sentences_exist(page: str) -> None:
    quoted = [words for code in pages.inline(page) if (words := commands.words_of(commands.plain(code))) is not None]
    named = list(commands.mentions(commands.plain(pages.prose(page))))
    absent = NOT_IN_THIS_VERSION if page == "docs/reference/known-issues.md" else frozenset()
    assert [f"nqr {' '.join(words)}: {wrong}" for words in quoted
            if (wrong := commands.problem(words, complete=False)) and " ".join(words) not in absent] == []  # fmt: skip
    assert [f"nqr {' '.join(words)}: {wrong}" for words in named
            if (wrong := commands.problem(words, complete=False, prose=True))] == []  # fmt: skip


def test_commands_documented_as_missing_do_not_exist() -> None:
    for words in NOT_IN_THIS_VERSION:
        assert f"no `nqr {words}`" in pages.text("docs/reference/known-issues.md")
        assert commands.problem([words], complete=False)


def test_commands_in_messages_exist() -> None:
    wrong, seen = [], 0
    for source in sorted((ROOT / "src").rglob("*.py")):
        for message in commands.messages(source):
            quoted = [words for code in re.findall(r"`([^`\n]+)`", message) if (words := commands.words_of(code)) is not None]
            named = list(commands.mentions(re.sub(r"`[^`]*`", "", message)))
            seen += len(quoted) + len(named)
            said = [(words, commands.problem(words, complete=False)) for words in quoted]
            said += [(words, commands.problem(words, complete=False, prose=True)) for words in named]
            wrong += [f"{source.relative_to(ROOT)}: nqr {' '.join(words)}: {what}" for words, what in said if what]
    assert wrong == []
    assert seen > 60, "the search finds what it looks for"


@pytest.mark.parametrize("script", ["install.sh", "uninstall.sh"])
def test_scripts_name_only_existing_options(script: str) -> None:
    """The scripts' own help, for use before nqr can run."""
    text = (ROOT / "scripts" / "install" / script).read_text()
    usage = (
        text.partition("<<EOF\n")[2].partition("\nEOF")[0]
        if script == "install.sh"
        else "\n".join(re.findall(r'echo "(.*)"', text))
    )
    options = re.findall(r"(--[a-z-]+)(?: ([a-z]+(?:\|[a-z]+)+))?", usage)
    assert len(options) > 7
    for option, choices in options:
        words = [commands.SCRIPTS[script], option, *([choices] if choices else [])]
        assert option == "--help" or commands.problem(words, complete=False) == "", words


def test_every_code_block_has_a_language() -> None:
    assert [place(block) for page in pages.pages() for block in pages.blocks(page) if block.language not in LANGUAGES] == []


def test_every_block_is_run_on_a_host_or_says_why_not() -> None:
    """tests/hosts/test_documented.py names a block by page and heading, and runs all of it that has no marker."""
    calls = [node for node in ast.walk(ast.parse(HOST_TEST.read_text())) if isinstance(node, ast.Call)]
    named = {
        (*(ast.literal_eval(argument) for argument in call.args), 1)[:3]
        for call in calls
        if getattr(call.func, "attr", "") == "block" and all(isinstance(a, ast.Constant) for a in call.args)
    }
    wanted = set()
    for block in BLOCKS:
        under = [one for one in BLOCKS if (one.page, one.heading) == (block.page, block.heading)]
        if block.to_run:
            wanted.add((block.page, block.heading, under.index(block) + 1))
    assert wanted == named


@pytest.mark.parametrize(("block", "marker"), MARKED, ids=place)
def test_a_marker_fits_its_block(block: Block, marker: Marker) -> None:
    """Each marker excludes something, and the test that it names exists."""
    assert any(line.startswith(marker.command) for line in block.lines)
    assert len(marker.why) > 10
    for file, name in TEST_NAME.findall(marker.why):
        assert re.search(rf"^\s*(async )?def {name}\(", (ROOT / file).read_text(), re.M), marker.why


def test_a_wrong_command_is_found() -> None:
    """Tests of the check: one wrong word each."""
    for line, complete in (
        ("nqr vm craete --name a --image b", True),
        ("nqr vm create --name a --image b --strat", True),
        ("nqr vm snapshot create web1", True),
        ("nqr vm rm", True),
        ("nqr vm console a b", True),
        ("./scripts/install/install.sh --mode develop", True),
        ("sudo ./scripts/install/uninstall.sh --with-ui", True),
        ("NQR_TOKEN=… nqr vms ls", False),
        ("nqr vm ls --all", False),
    ):
        words = commands.words_of(line)
        assert words is not None and commands.problem(words, complete=complete), line
