"""A stranger who writes to the log of a service: a flood leaves the earlier lines there."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator

import pytest
from tests.unit.serving.test_protocol import answer, opened, serving

from nqrust.agent import log as agent_log
from nqrust.manager import logs as manager_logs
from nqrust.serving import loglines


@pytest.fixture
def no_filters() -> Iterator[None]:
    """The loggers belong to the whole process."""
    loggers = [logging.getLogger(name) for name in ("uvicorn.error", "asyncio")]
    before = [list(logger.filters) for logger in loggers]
    for logger in loggers:
        logger.filters[:] = []
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    for logger, filters in zip(loggers, before, strict=True):
        logger.filters[:] = filters


@pytest.mark.parametrize("configure", [manager_logs.configure, agent_log.configure], ids=["manager", "agent"])
async def test_requests_that_are_none_make_few_lines(
    configure: object, no_filters: None, caplog: pytest.LogCaptureFixture
) -> None:
    assert callable(configure)
    for _ in range(2):
        configure("INFO")
    logging.getLogger().addHandler(caplog.handler)
    async with serving() as port:
        for _ in range(loglines.AT_ONCE + 20):
            reader, writer = await opened(port, b"\x00 nonsense\r\n\r\n")
            with contextlib.suppress(ConnectionResetError):
                assert b"400" in await answer(reader)
            writer.close()
    assert caplog.messages.count("Invalid HTTP request received.") in range(loglines.AT_ONCE - 5, loglines.AT_ONCE + 5)
