"""`nqr install` at a terminal, over an installer in memory: for tests/live/tui. Arguments: a file that gets the name of the signal
that stopped the install, then those of `nqr install`. With NQR_TEST_HOLD, the install waits until that file is gone. With
NQR_TEST_BREAK, the function of that name in guide/texts.py raises."""

from __future__ import annotations

import os
import sys
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.unit.guide.a_guide import DONE, PLAN, Memory

from nqrust.cli.__main__ import run
from nqrust.cli.install import gathering, guiding
from nqrust.guide import texts
from nqrust.installer import operations
from nqrust.installer.engine.interrupt import Interruption
from nqrust.installer.reporting import logfile
from nqrust.installer.request import Summary


@dataclass
class Held(Memory):
    """Holds the install as long as a file is there, and notes what stopped it."""

    stopped: Path = Path("/dev/null")

    def install(self, found: Any, reviewed: Any, events: Any, interruption: Interruption) -> Summary:
        hold = Path(os.environ.get("NQR_TEST_HOLD", "/nowhere"))
        threading.Thread(target=self._watch, args=(hold,), daemon=True).start()
        done = super().install(found, reviewed, events, interruption)
        self.stopped.write_text(str(interruption.signal))
        return done

    def _watch(self, hold: Path) -> None:
        while hold.exists():
            threading.Event().wait(0.05)
        self.gate.set()


def dialogue(request: Any, events: object) -> Summary:
    """The install of the short dialogue: it only asks."""
    return DONE if request.run.confirm is None or request.run.confirm(PLAN) else Summary("ok", 0, notes=("Nothing was changed.",))


def broken(*_: object, **__: object) -> None:
    raise RuntimeError("inside a screen")


def main(stopped: str, *words: str) -> int:
    os.geteuid = lambda: 0
    gathering.recorded, gathering.recall = dict, lambda: None  # type: ignore[assignment]
    guiding.Installer = lambda flags, run: Held(stopped=Path(stopped))  # type: ignore[assignment,misc]
    operations.install = dialogue  # type: ignore[assignment]
    logfile.LogFileReporter.__init__.__defaults__ = (f"{stopped}-logs", 10)  # type: ignore[misc]
    if "NQR_TEST_BREAK" in os.environ:
        setattr(texts, os.environ["NQR_TEST_BREAK"], broken)
    return run(["install", *words])


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
