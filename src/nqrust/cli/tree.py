"""Groups of commands: other names of commands, shortcuts, and groups that load when they are needed.

An alias replaces a word by the command's own name before the parser looks it up, so help and messages show one name only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, MutableMapping
from copy import copy
from functools import partial
from typing import Any

import typer
from typer.core import TyperGroup
from typer.main import get_command_name, get_group
from typer.models import CommandInfo, TyperInfo

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


class _OneByOne(MutableMapping[str, Any]):
    """The commands of an app by name, each built when it is looked up: a command line needs one of them."""

    def __init__(self, app: typer.Typer) -> None:
        named = {
            one.name or get_command_name(one.callback.__name__ if one.callback else ""): one for one in app.registered_commands
        }
        self._builders: dict[str, Callable[[], Any]] = {name: partial(_alone, app, [one], []) for name, one in named.items()}
        self._builders |= {str(one.name): partial(_alone, app, [], [one]) for one in app.registered_groups}
        self._built: dict[str, Any] = {}

    def __contains__(self, name: object) -> bool:
        return name in self._builders

    def __getitem__(self, name: str) -> Any:
        if name not in self._built:
            self._built[name] = self._builders[name]()
        return self._built[name]

    def __setitem__(self, name: str, command: Any) -> None:
        self._builders[name] = lambda: command

    def __delitem__(self, name: str) -> None:
        del self._builders[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._builders)

    def __len__(self) -> int:
        return len(self._builders)


def _alone(app: typer.Typer, commands: list[CommandInfo], groups: list[TyperInfo]) -> Any:
    """Return the one command of an app that has no other."""
    (command,) = _with(app, commands, groups).commands.values()
    return command


def _with(app: typer.Typer, commands: list[CommandInfo], groups: list[TyperInfo]) -> Any:
    reduced = copy(app)
    reduced.registered_commands, reduced.registered_groups = commands, groups
    return get_group(reduced)


class _WhenNeeded(MutableMapping[str, Any]):
    """Commands by name. The first access loads them."""

    def __init__(self, load: Callable[[], MutableMapping[str, Any]]) -> None:
        self._load = load
        self._loaded: MutableMapping[str, Any] | None = None

    def _all(self) -> MutableMapping[str, Any]:
        if self._loaded is None:
            self._loaded = self._load()
        return self._loaded

    def __contains__(self, name: object) -> bool:
        return name in self._all()

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
        self.commands = _WhenNeeded(lambda: _OneByOne(build(new(help))))


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


def built(app: typer.Typer) -> Any:
    """Return the group of an app, whose commands are built when they are looked up."""
    group = _with(app, [], [])
    group.commands = _OneByOne(app)
    return group
