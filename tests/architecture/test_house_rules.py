"""Rules of the house that no linter knows: who may import whom, file sizes, names, the one door to programs."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

from tests.architecture.tree import ROOT, below, files, name_of, text_of

LINES = 400
FORBIDDEN_NAMES = {"utils", "util", "common", "helpers", "misc"}
DOOR = "src/nqrust/host/local.py"
PROGRAM_STARTERS = {
    "os.system", "os.popen", "os.fork", "os.forkpty", "os.posix_spawn", "os.posix_spawnp", "pty.spawn", "pty.fork",
    "asyncio.create_subprocess_exec", "asyncio.create_subprocess_shell",
    *(f"os.{family}{ending}" for family in ("exec", "spawn") for ending in ("l", "le", "lp", "lpe", "v", "ve", "vp", "vpe")),
}  # fmt: skip
EXCEPTIONS = {
    DOOR: "the door itself",
    "src/nqrust/agent/vms/terminal.py": "a console lives as long as its viewer; the port runs programs to their end",
    "src/nqrust/installer/rehearsal/clone.py": "namespaces are entered by the process itself",
    "src/nqrust/installer/rehearsal/carrier.py": "becomes slirp4netns in namespaces that only this process has",
    "src/nqrust/installer/rehearsal/boot.py": "the clone's first process, which becomes systemd the way init(1) does",
    "src/nqrust/cli/vm/ssh.py": "becomes ssh(1), which has the user's terminal and exit code",
    "src/nqrust/host/confinement.py": "becomes a program under a filter of system calls, the way env(1) does",
    "src/nqrust/installer/supervisor/env_exec.py": "a launcher that becomes the service, the way env(1) does",
    "src/nqrust/cli/install/commands.py": "uninstall's last act removes the environment that it runs from",
}


def test_imports_follow_the_layers() -> None:
    linter = Path(sys.executable).with_name("lint-imports")
    done = subprocess.run([str(linter), "--no-cache"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]


def test_files_are_short_enough_to_read() -> None:
    sources = [path for path in files() if path.suffix in (".py", ".rs", ".sh", ".j2")]
    long = {name_of(path): lines for path in sources if (lines := text_of(path).count("\n")) > LINES}
    assert long == {}, f"over {LINES} lines: split them by what they are about"


def test_no_module_has_a_catch_all_name() -> None:
    named = [name_of(path) for path in files() if FORBIDDEN_NAMES & {part.split(".")[0] for part in path.relative_to(ROOT).parts}]
    assert named == [], "name the module after what it does"


def test_only_the_local_host_starts_programs() -> None:
    found: list[str] = []
    for path in below("src", suffix=".py"):
        if name_of(path) not in EXCEPTIONS:
            found += [f"{name_of(path)}:{line} {what}" for line, what in _starters(ast.parse(text_of(path)))]
    assert found == [], "programs are run through the Host port"


def _starters(tree: ast.Module) -> list[tuple[int, str]]:
    found: list[tuple[int, str]] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [(node.lineno, alias.name) for alias in node.names if alias.name.split(".")[0] == "subprocess"]
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            if node.module == "subprocess":
                found.append((node.lineno, "subprocess"))
            found += [
                (node.lineno, f"{node.module}.{alias.name}")
                for alias in node.names
                if f"{node.module}.{alias.name}" in PROGRAM_STARTERS
            ]
        elif (
            isinstance(node, ast.Attribute)
            and isinstance(node.value, ast.Name)
            and f"{node.value.id}.{node.attr}" in PROGRAM_STARTERS
        ):
            found.append((node.lineno, f"{node.value.id}.{node.attr}"))
    return found


def test_the_search_for_program_starters_finds_them() -> None:
    sample = "import subprocess\nfrom os import system\nimport os\nos.execv('/bin/sh', [])\nfrom subprocess import run\nos.path.join('a')\n"
    assert sorted(line for line, _ in _starters(ast.parse(sample))) == [1, 2, 4, 5]


def test_no_trailing_whitespace_and_a_newline_at_the_end() -> None:
    found: list[str] = []
    for path in files():
        text = text_of(path)
        if not text or name_of(path) == "LICENSE" or name_of(path).startswith("tests/tables/"):
            continue  # captured output of other programs is kept as it came
        found += [f"{name_of(path)}:{number}" for number, line in enumerate(text.split("\n"), 1) if re.search(r"[ \t\r]$", line)]
        if not text.endswith("\n"):
            found.append(f"{name_of(path)}: no newline at the end")
    assert found == []


def test_python_sources_run_on_the_oldest_supported_python() -> None:
    broken: list[str] = []
    for path in below("src", "scripts", "benchmarks", suffix=".py"):
        try:
            ast.parse(text_of(path), feature_version=(3, 10))
        except SyntaxError as error:
            broken.append(f"{name_of(path)}:{error.lineno} {error.msg}")
        newer = re.search(
            r"^\s*(?:import tomllib|from enum import .*\bStrEnum\b|from typing import .*\bSelf\b|from datetime import .*\bUTC\b)",
            text_of(path),
            re.MULTILINE,
        )
        if newer:
            broken.append(f"{name_of(path)}: {newer[0].strip()} needs Python 3.11")
    assert broken == []


def test_nobody_shows_the_prefix_of_a_message_of_pydantic() -> None:
    shown = re.compile(r"(?<!fault\()\b\w+(\.errors\(\)\[0\])?\[['\"]msg['\"]\]")
    found = [f"{name_of(path)}: {one[0]}" for path in below("src", suffix=".py") for one in shown.finditer(text_of(path))]
    assert found == []
