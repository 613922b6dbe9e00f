"""A program's output: decoded, split into lines as it arrives, and without the secrets that the program received."""

from __future__ import annotations

import codecs
import re
from collections.abc import Callable

from nqrust.host.errors import OutputTooLong
from nqrust.host.port import Command
from nqrust.host.secret import MASK, Secret

_ENDS = re.compile(r"\r\n|\n|\r(?!\n|\Z)")  # a carriage return alone redraws a progress line


class Mask:
    """Replaces the secrets of one command in its output. Secrets under four characters stay: masking them would garble text."""

    def __init__(self, cmd: Command) -> None:
        given = [cmd.input, *cmd.env.values()]
        values = {secret.value for secret in given if isinstance(secret, Secret)}
        self._values = sorted((value for value in values if len(value) >= 4), key=len, reverse=True)

    def __call__(self, text: str) -> str:
        for value in self._values:
            text = text.replace(value, MASK)
        return text


class Lines:
    """Collects one stream of `cmd`. `text` is all of it, UTF-8 with replacement."""

    def __init__(self, cmd: Command, mask: Mask, on_line: Callable[[str], None] | None) -> None:
        self.on_line = on_line
        self._cmd, self._left = cmd, cmd.longest
        self._mask = mask
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._pieces: list[str] = []
        self._rest = ""

    @property
    def text(self) -> str:
        return "".join(self._pieces)

    def feed(self, data: bytes) -> None:
        """Take what arrived. Raises OutputTooLong once; what comes later is dropped."""
        if self._left is not None:
            before, self._left = self._left, self._left - len(data)
            if before < 0:
                return
            if self._left < 0:
                raise OutputTooLong(self._cmd.argv, self._cmd.longest or 0)
        self._take(self._decoder.decode(data))

    def close(self) -> None:
        """End the stream: a rest without a line end is a line too."""
        self._take(self._decoder.decode(b"", True))
        if self._rest and self.on_line is not None:
            self.on_line(self._mask(self._rest.rstrip("\r")))
        self._rest = ""

    def _take(self, text: str) -> None:
        self._pieces.append(text)
        if self.on_line is None:
            return
        *lines, self._rest = _ENDS.split(self._rest + text)
        for line in lines:
            self.on_line(self._mask(line))
