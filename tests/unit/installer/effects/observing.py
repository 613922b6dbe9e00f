"""The effect of an install with given settings on a host that meets all needs, as plain text: every step with its
description, every line of every file, every finding of preflight. Nothing runs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

import pytest
from tests.fakes.host import FakeHost
from tests.fakes.journal import MemoryJournalStore
from tests.unit.installer.phases.a_host import fit
from tests.unit.installer.phases.test_rendered_files import RELEASE, SECRETS

from nqrust.host.secret import Secret
from nqrust.installer import planner, secret_store
from nqrust.installer.engine.events import NullReporter
from nqrust.installer.engine.journal import Journal
from nqrust.installer.engine.originals import Originals
from nqrust.installer.engine.step import Step
from nqrust.installer.operations import site as opening
from nqrust.installer.preflight import images, machine, network, ports
from nqrust.installer.release.sources import Opened
from nqrust.installer.request import Environment, Request
from nqrust.installer.settings.sources import Gathered, gather
from nqrust.tls.authority import new_authority

CONFIG = "config.yaml"
"""It lists every setting, so a line in it is no effect."""


def observed(flags: Mapping[str, object], environ: Mapping[str, str] | None = None, **facts: Any) -> set[str]:
    """Return, for settings by dotted name, `step ID: DESCRIBE`, `PATH: LINE`, `data ID: FIELD=VALUE` and `finding CODE:
    WHAT`."""
    found, host = gather(flags=flags, environ=environ or {}), fit(**facts)
    context = context_of(found, host)
    lines: set[str] = set()
    for phase in planner.plan(context).phases:
        for step in phase.steps:
            lines |= _told(step)
    checks = (*machine.checks(found.settings, host), *ports.checks(found.settings, host, None, found.explicit),
              *network.checks(found.settings, host, FakeHost.debian12(), False), *images.checks(found.settings, host))  # fmt: skip
    return lines | {f"finding {one.code}: {one.what}" for one in checks}


def context_of(found: Gathered, host: Any) -> Any:
    fake = FakeHost.debian12()
    if found.settings.agent.join_token_file:
        fake.put(found.settings.agent.join_token_file, "nqr_of_the_manager\n")
    if found.settings.database.ca:
        fake.put(found.settings.database.ca, new_authority("of the database").certificate)
    site = opening.Site(fake, Journal(MemoryJournalStore(), fake.now), Originals(fake, "/originals"))
    environment = Environment(found.db_password, found.admin_password, found.join_token, checkout="/src")
    request = Request(found.settings, environment=environment, explicit=found.explicit)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(opening, "open_source", lambda *_: Opened(RELEASE, "/cache/releases/1.2.3"))
        patch.setattr(opening, "_build_roles", lambda *_: ())
        patch.setattr(secret_store, "generate", lambda: SECRETS)
        return opening.make_context(site, request, host, NullReporter())


def _told(step: Step) -> set[str]:
    lines = {f"step {step.id}: {step.describe()}"}
    path = getattr(step, "path", "")
    for field in fields(step):  # type: ignore[arg-type]
        value = getattr(step, field.name)
        text = value.reveal() if isinstance(value, Secret) else value
        if field.name == "content" and isinstance(text, str) and path:
            lines |= {f"{path}: {line}" for line in text.splitlines()} if not path.endswith(f"/{CONFIG}") else set()
        elif not callable(value) and not path.endswith(f"/{CONFIG}"):
            lines.add(f"data {step.id}: {field.name}={text!r}")
    return lines
