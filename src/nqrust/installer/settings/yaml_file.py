"""The `--config` file, read strictly: a mapping of plain values, never executed.

YAML 1.1 (yaml.org/spec/1.1) can name program objects by tag and grow without bound through aliases. A settings file needs
neither, so nqr refuses both. It also refuses duplicate keys, which PyYAML resolves silently.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import yaml

from nqrust.installer.engine.errors import UsageError

MAX_BYTES = 1 << 20


@dataclass(frozen=True)
class Leaf:
    """A value and its line number (from 1)."""

    value: object
    line: int


@dataclass(frozen=True)
class ConfigFile:
    """A parsed file. `leaves`: dotted key -> value. Keys include their sections; lists and empty sections are values."""

    path: str
    leaves: dict[str, Leaf] = field(default_factory=dict)


def load(path: str) -> ConfigFile:
    """Read and parse a file. Raises UsageError NQR-CFG-001 if it is unreadable, else as `parse`."""
    try:
        with open(path, "rb") as file:
            data = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise UsageError(
            "NQR-CFG-001",
            f"The configuration file {path} cannot be read: {error.strerror or error}.",
            "Give --config the path of a readable YAML file.",
        ) from error
    return parse(data, path)


def parse(data: bytes, path: str) -> ConfigFile:
    """Parse the content of `path` (used only in messages). An empty file is valid.

    Raises UsageError: NQR-CFG-002 malformed, NQR-CFG-003 duplicate key, NQR-CFG-004 tag or alias, NQR-CFG-006
    not a mapping.
    """
    if len(data) > MAX_BYTES:
        raise UsageError("NQR-CFG-002", f"{path} is larger than 1 MiB.", "Give --config a settings file, not a data file.")
    try:
        text = data.decode("utf-8-sig")
        _refuse_tags(text, path)
        loader = yaml.SafeLoader(text)
        try:
            node = loader.get_single_node()
            leaves = dict(_leaves(loader, node, path))
        finally:
            loader.dispose()
    except UnicodeDecodeError as error:
        raise UsageError(
            "NQR-CFG-002",
            f"{path} is not UTF-8 text (byte {error.start}).",
            "Save it as UTF-8; see docs/reference/settings.md for an example.",
        ) from error
    except yaml.YAMLError as error:
        raise UsageError(
            "NQR-CFG-002",
            f"{path} is not valid YAML{_where(error)}: {_problem(error)}.",
            "Correct that line, then check the file with: nqr config validate --config " + path,
        ) from error
    return ConfigFile(path, leaves)


def _refuse_tags(text: str, path: str) -> None:
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        line = event.start_mark.line + 1 if event.start_mark else 1
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None):
            raise UsageError(
                "NQR-CFG-004",
                f"{path}, line {line}: YAML anchors and aliases are not allowed.",
                "Write the value out in each place.",
            )
        tag = getattr(event, "tag", None)
        if tag:
            raise UsageError(
                "NQR-CFG-004",
                f"{path}, line {line}: the YAML tag {_short_tag(tag)} is not allowed.",
                "Remove the tag: the file holds plain values and is never executed.",
            )


def _short_tag(tag: str) -> str:
    return tag.replace("tag:yaml.org,2002:", "!!", 1)


def _leaves(loader: yaml.SafeLoader, root: yaml.Node | None, path: str) -> Iterator[tuple[str, Leaf]]:
    if root is None or (isinstance(root, yaml.ScalarNode) and root.tag == "tag:yaml.org,2002:null"):
        return
    if not isinstance(root, yaml.MappingNode):
        raise UsageError(
            "NQR-CFG-006",
            f"{path}, line {root.start_mark.line + 1}: expected `key: value` lines, found {_kind(root)}.",
            "Start from the example in docs/reference/settings.md.",
        )
    yield from _section(loader, root, "", path)


def _section(loader: yaml.SafeLoader, node: yaml.MappingNode, prefix: str, path: str) -> Iterator[tuple[str, Leaf]]:
    seen: dict[str, int] = {}
    for key_node, value_node in node.value:
        line = key_node.start_mark.line + 1
        if not isinstance(key_node, yaml.ScalarNode):
            raise UsageError(
                "NQR-CFG-006",
                f"{path}, line {line}: a key must be a word.",
                "Write `key: value`, one a line.",
            )
        key = str(key_node.value)
        dotted = f"{prefix}{key}"
        if key in seen:
            raise UsageError(
                "NQR-CFG-003",
                f"{path}, line {line}: the key {dotted} is already on line {seen[key]}.",
                "Keep one of the two.",
            )
        seen[key] = line
        if isinstance(value_node, yaml.MappingNode) and value_node.value:
            yield from _section(loader, value_node, f"{dotted}.", path)
        else:
            value: Any = loader.construct_object(value_node, deep=True)
            yield dotted, Leaf(value, line)


def _kind(node: yaml.Node) -> str:
    return "a list" if isinstance(node, yaml.SequenceNode) else "a single value"


def _where(error: yaml.YAMLError) -> str:
    mark = getattr(error, "problem_mark", None)
    return f" (line {mark.line + 1}, column {mark.column + 1})" if mark else ""


def _problem(error: yaml.YAMLError) -> str:
    problem = getattr(error, "problem", None) or getattr(error, "reason", None) or str(error).splitlines()[0]
    context = getattr(error, "context", None)
    return f"{problem} {context}" if context else str(problem)
