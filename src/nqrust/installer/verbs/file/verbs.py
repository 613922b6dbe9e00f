"""The verbs for files, blocks, directories, modes and symlinks, with their functions for the engine."""

from __future__ import annotations

from typing import Any

from nqrust.installer.engine.verb import Verb
from nqrust.installer.verbs.file import forecast, former, shell, undo, words
from nqrust.installer.verbs.file.capturing import capture


def _shared(args: dict[str, Any]) -> str:
    return "" if args.get("tree") else str(args["path"])


VERBS = (
    Verb("file", undo.file, words.file, shell.file, forecast=forecast.file, capture=capture, replaces=True),
    Verb("block", undo.block, words.block, shell.block),
    Verb("block_text", undo.block_text, words.block_text, shell.block_text),
    Verb("directory", undo.directory, words.directory, shell.directory, forecast=forecast.folder, shared_folder=_shared),
    Verb("contents", undo.contents, words.contents, shell.contents, forecast=forecast.folder),
    Verb("mode", undo.mode, words.mode, shell.mode),
    Verb(former.NAME, former.former, former.words, shell.former, forecast=former.foreseen, last=True),
    Verb("symlink", undo.symlink, words.symlink, shell.symlink, forecast=forecast.symlink, replaces=True),
)
