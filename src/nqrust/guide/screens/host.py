"""Screen 1: this host, with the result of every check."""

from __future__ import annotations

from typing import ClassVar

from textual.binding import Binding

from nqrust.guide import texts
from nqrust.guide.screens.base import Working
from nqrust.guide.work import Work
from nqrust.installer.engine.errors import NqrError
from nqrust.installer.operations.looking import HostLook


class HostScreen(Working):
    STEP = 0
    KEYS = "Enter continue   r check again   Up/Down scroll   q quit"
    BINDINGS: ClassVar = [
        Binding("enter,ctrl+n", "proceed", priority=True),
        Binding("r", "check"),
        Binding("q", "app.leave"),
    ]

    def on_mount(self) -> None:
        if self.state.look is None:
            self.action_check()
        else:
            self._shown(self.state.look)

    def on_screen_resume(self) -> None:
        self.query_one("#body").focus()

    def action_check(self) -> None:
        found, backend = self.state.found, self.state.backend
        self.begin(lambda: backend.examine(found), "Checking this host ...")

    def finished(self, work: Work[HostLook]) -> None:
        try:
            self.state.look = work.result
        except NqrError as error:
            self.state.look = None
            self.show([("bad", f"{error.code}  {error.what}"), ("plain", f"  cure: {error.cure}")])
        else:
            self._shown(self.state.look)

    def _shown(self, look: HostLook) -> None:
        self.show([
            *texts.fact_lines(look.facts), ("plain", ""), *texts.verdict_lines(look), ("plain", ""),
            *texts.check_lines(look.checked),
        ])  # fmt: skip

    def action_proceed(self) -> None:
        if self.state.look is not None:
            self.guide.go("settings")
