"""Screen 4: the install, and its end."""

from __future__ import annotations

import signal
import time
from dataclasses import replace
from typing import ClassVar

from textual.binding import Binding
from textual.widgets import Static

from nqrust.guide import forecast, texts
from nqrust.guide.heard import Course
from nqrust.guide.screens.base import Question, Step
from nqrust.guide.state import Run
from nqrust.guide.widgets import Keys, styled
from nqrust.installer.reporting import wording
from nqrust.installer.request import Summary

_ASK = "Stop the install? It finishes the current step and rolls this run back."
_STOPPING = "Stopping: nqr finishes the current step, then rolls this run back."


class ProgressScreen(Step):
    STEP = 3
    KEYS = "Ctrl+C or q stop and roll back   Up/Down scroll"
    BINDINGS: ClassVar = [Binding("q", "app.leave"), Binding("enter", "done", priority=True)]

    def __init__(self) -> None:
        super().__init__()
        self._run: Run | None = None
        self._course: Course | None = None
        self._began = self._step_began = 0.0
        self._now = ""

    def body(self) -> list[Static]:
        return [Static(id="bar"), Static(id="text")]

    def on_mount(self) -> None:
        reviewed = self.state.reviewed
        assert reviewed is not None
        self._course = Course.of(reviewed)
        self._began = self._step_began = time.monotonic()
        self._run = self.state.start()
        self.query_one("#body").focus()
        self.set_interval(0.1, self._poll)

    @property
    def stopping(self) -> bool:
        return self._run is not None and self._run.interruption.came

    def ask_to_stop(self) -> None:
        """Ask whether to stop the running install."""
        if self._run is not None and not self.stopping:
            self.app.push_screen(Question(_ASK), self._answered)

    def _answered(self, stop: bool | None) -> None:
        if stop and self._run is not None:
            self._run.interruption.arrive(signal.SIGINT)

    def _poll(self) -> None:
        if self._run is None or self._course is None:
            return
        ended = self._run.work.ended  # before the events: the last ones come before the end
        for event in self._run.heard.take():
            self._course.apply(event)
        if self._course.now != self._now:
            self._now, self._step_began = self._course.now, time.monotonic()
        if ended:
            self._end(self._run)
        else:
            self._draw(self._course)

    def _draw(self, course: Course) -> None:
        now = time.monotonic()
        in_step = now - self._step_began
        remaining = course.remaining(now - self._began, in_step)
        left = _STOPPING if self.stopping else f"{forecast.words(remaining)} left" if not course.undone else "rolling back"
        step = course.now + (f" ({wording.duration(in_step)})" if in_step >= 2 and course.now else "")
        log = self.state.backend.log_path()
        share = course.share()
        width = max(10, min(40, self.size.width - 36))
        full = round(share * width)
        bar = f"[{'#' * full}{'-' * (width - full)}] {round(share * 100)} %"
        self.query_one("#bar", Static).update(styled([("bold", bar), ("bold" if self.stopping else "plain", left)]))
        lines = [("plain", ""), *texts.course_lines(course, step)]
        if course.note:
            lines.append(("dim", f"      {course.note}"))
        if log:
            lines += [("plain", ""), ("dim", f"Log: {log}")]
        self.show(lines)

    def _end(self, run: Run) -> None:
        self._run = None
        try:
            summary: Summary = run.work.result
        except Exception as error:
            self.guide.fail(error)
            return
        if isinstance(self.app.screen, Question):
            self.app.pop_screen()
        if summary.outcome == "ok" and not summary.phases:  # the plan was another one than the reviewed
            self.guide.review_again("This host has changed since the review, and nothing was installed. This is the new plan.")
            return
        self.state.summary = summary
        self.query_one("#bar", Static).display = False
        backend = self.state.backend
        again = self.state.look is not None and self.state.look.installed
        password = "" if again else backend.first_password(summary)
        way_in = texts.sign_in(summary, password, chosen=self.state.found.admin_password is not None and not again)
        self.show(texts.end_lines(replace(summary, log_path=backend.log_path()), way_in))
        self.query_one(Keys).show("Enter or q close   Up/Down scroll")

    def action_done(self) -> None:
        if self.state.summary is not None:
            self.guide.finish()
