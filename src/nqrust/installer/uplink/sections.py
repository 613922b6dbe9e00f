"""Files of sections and assignments: systemd.syntax(7) and NetworkManager's keyfiles. Order and repetition are kept."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class Section:
    """A section. `entries`: name and value in their order; a name may come more than once."""

    name: str
    entries: list[tuple[str, str]] = field(default_factory=list)

    def values(self, name: str) -> list[str]:
        return [value for key, value in self.entries if key == name]

    def last(self, name: str) -> str:
        """Return the last value, which counts where a name takes one, or ""."""
        return next(iter(reversed(self.values(name))), "")


def parse(content: str) -> list[Section]:
    """Parse the sections. Comments and unknown lines are skipped. A backslash at the end of a line joins the next one."""
    found: list[Section] = []
    for line in content.replace("\\\n", " ").splitlines():
        line = line.strip()
        if not line or line[0] in "#;":
            continue
        if line.startswith("[") and line.endswith("]"):
            found.append(Section(line[1:-1]))
        elif "=" in line and found:
            name, _, value = line.partition("=")
            found[-1].entries.append((name.strip(), value.strip()))
    return found


def render(sections: list[Section], *, head: str = "") -> str:
    """Return the text; empty sections go."""
    blocks = ["\n".join([f"[{s.name}]", *(f"{k}={v}" for k, v in s.entries)]) for s in sections if s.entries]
    return (f"{head}\n" if head else "") + "\n\n".join(blocks) + "\n"
