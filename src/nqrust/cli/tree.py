"""Groups of commands: other names of commands, shortcuts, and groups that load when they are needed.

An alias replaces a word by the command's own name before the parser looks it up, so help and messages show one name only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, MutableMapping
from typing import Any

import typer
from typer.core import TyperGroup

from nqrust.cli import pages

CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": 100}
ALIASES = {"list": "ls", "ps": "ls", "delete": "rm", "remove": "rm", "inspect": "show", "info": "show"}
"""Other names in every group that has the command. docs/operate/command-line.md lists them."""
_OF_VMS = (
    "ls",
    "show",
    "create",
    "run",
    "start",
    "stop",
    "restart",
    "pause",
    "resume",
    "rm",
    "exec",
    "shell",
    "cp",
    "ssh",
    "console",
    "snapshot",
)
SHORTCUTS = {
    **{name: ("vm", name) for name in _OF_VMS},
    **{other: ("vm", name) for other, name in ALIASES.items()},
    "images": ("image", "ls"),
    "pull": ("image", "pull"),
    "rmi": ("image", "rm"),
}
"""First words of a command line that stand for a command of a group, where the group has it."""

_OF_PS = {"-a": (), "--all": (), "-aq": ("-q",), "-qa": ("-q",)}
"""Options of docker's `ps`. The list of nqr has all VMs in any case."""


def canonical(commands: Mapping[str, Any], word: str) -> str:
    """Return the name of the command that `word` means, or `word` itself."""
    other = ALIASES.get(word, word)
    return word if word in commands or other not in commands else other


def expanded(commands: Mapping[str, Any], words: list[str]) -> list[str]:
    """Return the command line without a shortcut. `commands`: those of the root."""
    target = SHORTCUTS.get(words[0]) if words else None
    if target is None or words[0] in commands:
        return words
    group, name = target
    if words[0] == "ps":
        words = [new for word in words for new in _OF_PS.get(word, (word,))]
    return [group, name, *words[1:]] if name in getattr(commands.get(group), "commands", {}) else words


class Commands(TyperGroup):
    """A group whose commands have aliases."""

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        return super().get_command(ctx, canonical(self.commands, cmd_name))

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        return super().resolve_command(ctx, [canonical(self.commands, args[0]), *args[1:]])

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        pages.write_commands(self, ctx, formatter)


class Root(Commands):
    """The whole command line, with shortcuts."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        return super().resolve_command(ctx, expanded(self.commands, args))


class _WhenNeeded(MutableMapping[str, Any]):
    """Commands by name. The first access loads them."""

    def __init__(self, load: Callable[[], MutableMapping[str, Any]]) -> None:
        self._load = load
        self._loaded: MutableMapping[str, Any] | None = None

    def _all(self) -> MutableMapping[str, Any]:
        if self._loaded is None:
            self._loaded = self._load()
        return self._loaded

    def __getitem__(self, name: str) -> Any:
        return self._all()[name]

    def __setitem__(self, name: str, command: Any) -> None:
        self._all()[name] = command

    def __delitem__(self, name: str) -> None:
        del self._all()[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._all())

    def __len__(self) -> int:
        return len(self._all())


class Later(Commands):
    """A group whose module is imported when one of its commands is needed. The help of the root needs none."""

    def __init__(self, name: str, help: str, build: Callable[[typer.Typer], typer.Typer]) -> None:
        super().__init__(
            name=name,
            help=help,
            rich_markup_mode=None,
            suggest_commands=False,
            no_args_is_help=True,
            context_settings=dict(CONTEXT),
        )
        self.commands = _WhenNeeded(lambda: _commands(build(new(help))))


class _App(typer.Typer):
    """Its commands have the help pages of nqr."""

    def command(self, name: str | None = None, **more: Any) -> Any:
        return super().command(name, **{"cls": pages.Command, **more})


def new(help: str, cls: type[TyperGroup] = Commands) -> typer.Typer:
    """Return an empty group in the style of nqr."""
    return _App(
        help=help,
        cls=cls,
        add_completion=False,
        no_args_is_help=True,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        suggest_commands=False,
        context_settings=dict(CONTEXT),
    )


def _commands(app: typer.Typer) -> MutableMapping[str, Any]:
    from typer.main import get_group

    found: MutableMapping[str, Any] = get_group(app).commands
    return found
