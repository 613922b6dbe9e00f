"""interfaces(5) of ifupdown: stanzas of all files that /etc/network/interfaces names. Pure but for reading the files."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from nqrust.host.facts.reading import text
from nqrust.host.port import Host

MAIN = "/etc/network/interfaces"
_HOOKS = ("pre-up", "up", "post-up", "down", "pre-down", "post-down")
_STARTS = ("auto", "iface", "mapping", "source", "source-directory", "rename", "no-auto-down", "no-scripts", "template")


@dataclass
class Stanza:
    """A stanza. `word`: iface, auto, mapping ...; `rest`: what follows on its line; `options`: name and value, in order."""

    word: str
    rest: list[str]
    path: str
    options: list[tuple[str, str]] = field(default_factory=list)

    def values(self, *names: str) -> list[str]:
        return [value for name, value in self.options if name in names]


def read(host: Host, path: str = MAIN, depth: int = 0) -> list[Stanza]:
    """Return the stanzas of a file and of those that it sources, in their order. A missing file has none."""
    found: list[Stanza] = []
    for stanza in parse(text(host, path), path):
        if stanza.word not in ("source", "source-directory") or depth > 5:
            found.append(stanza)
            continue
        for pattern in stanza.rest:
            pattern = pattern if pattern.startswith("/") else f"{path.rpartition('/')[0]}/{pattern}"
            if stanza.word == "source":
                named = host.glob(pattern)
            else:
                named = [one for one in host.glob(f"{pattern.rstrip('/')}/*") if re.fullmatch(r"[\w-]+", one.rpartition("/")[2])]
            for one in named:
                found += read(host, one, depth + 1)
    return found


def parse(content: str, path: str = MAIN) -> list[Stanza]:
    """Return the stanzas of one file. A comment is a whole line. A backslash at the end of a line joins the next one."""
    found: list[Stanza] = []
    for line in content.replace("\\\n", " ").splitlines():
        words = line.split()
        if not words or words[0].startswith("#"):
            continue
        if words[0] in _STARTS or words[0].startswith("allow-"):
            found.append(Stanza(words[0], words[1:], path))
        elif found and found[-1].word in ("iface", "mapping", "template"):
            found[-1].options.append((words[0], line.strip()[len(words[0]) :].strip()))
    return found


def sourced(host: Host, path: str) -> bool:
    """Return whether ifupdown would read a new file at `path`, from the `source` lines of the main file."""
    folder, _, name = path.rpartition("/")
    for stanza in parse(text(host, MAIN)):
        for pattern in stanza.rest if stanza.word in ("source", "source-directory") else ():
            whole = pattern if pattern.startswith("/") else f"{MAIN.rpartition('/')[0]}/{pattern}"
            if stanza.word == "source-directory" and whole.rstrip("/") == folder and re.fullmatch(r"[\w-]+", name):
                return True
            if stanza.word == "source" and whole in (f"{folder}/*", path):
                return True
    return False


def is_hook(name: str) -> bool:
    return name in _HOOKS
