"""Requests of the reconciler to agents: a host that does not answer holds up no other host."""

from __future__ import annotations

import asyncio
import time

import pytest

from nqrust.contract.problem import Problem
from nqrust.manager.core.agents import AgentAway, AgentSaidNo
from nqrust.manager.errors import DatabaseAway
from nqrust.manager.work import diff, turns
from nqrust.manager.work.turns import AgentAction, Turns


def _taps(host: str, count: int) -> list[AgentAction]:
    return [diff.RemoveTap(host, f"{host}-{number}") for number in range(count)]


class Agents:
    """Does what is asked. Hosts in `hang` never answer, hosts in `away` fail, and taps in `refuse` are refused."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.hang, self.away, self.refuse = set[str](), set[str](), set[str]()

    async def work(self, action: AgentAction) -> None:
        assert isinstance(action, diff.RemoveTap)
        self.asked.append(action.tap)
        if action.host_id in self.hang:
            await asyncio.sleep(3600)
        if action.host_id in self.away:
            raise AgentAway("no answer")
        if action.tap in self.refuse:
            raise AgentSaidNo(409, Problem(title="in use", status=409))


async def test_host_that_never_answers_holds_up_no_other_host(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turns, "PASS_SECONDS", 0.2)
    agents, found = Agents(), Turns()
    agents.hang = {"stolen"}
    began = time.monotonic()
    for number in range(3):
        await found.take([*_taps("stolen", 10_000), diff.RemoveTap("honest", str(number))], agents.work)
    assert time.monotonic() - began < 5
    assert agents.asked == ["stolen-0", "0", "1", "2"]
    await found.close()
    assert not found._running


async def test_requests_of_one_pass_to_one_host_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turns, "PASS_SECONDS", 0.05)
    monkeypatch.setattr(turns, "HOST_SECONDS", 0.2)
    agents, found = Agents(), Turns()
    agents.hang = {"h1"}
    await found.take(_taps("h1", 2), agents.work)
    await asyncio.sleep(0.5)
    agents.hang = set()
    await found.take(_taps("h1", 2), agents.work)
    assert agents.asked == ["h1-0", "h1-0", "h1-1"]


async def test_first_request_without_an_answer_is_the_last_of_the_pass() -> None:
    agents, found = Agents(), Turns()
    agents.away = {"h1"}
    await found.take(_taps("h1", 5) + _taps("h2", 2), agents.work)
    assert sorted(agents.asked) == ["h1-0", "h2-0", "h2-1"]


async def test_a_host_gets_few_requests_in_a_pass_and_the_rest_later() -> None:
    agents, found = Agents(), Turns()
    await found.take(_taps("h1", turns.MOST + 5), agents.work)
    assert len(agents.asked) == turns.MOST


async def test_refused_requests_do_not_keep_the_rest_from_its_turn() -> None:
    agents, found = Agents(), Turns()
    wanted = _taps("h1", turns.MOST + 1)
    agents.refuse = {f"h1-{number}" for number in range(turns.MOST)}
    await found.take(wanted, agents.work)
    assert f"h1-{turns.MOST}" not in agents.asked
    await found.take(wanted, agents.work)
    assert f"h1-{turns.MOST}" in agents.asked


async def test_host_is_asked_again_after_the_leader_changed() -> None:
    agents, found = Agents(), Turns()
    passing = asyncio.create_task(found.take(_taps("h1", 1), agents.work))
    await asyncio.sleep(0)
    passing.cancel()
    await found.close()
    await found.take(_taps("h1", 1), agents.work)
    assert agents.asked == ["h1-0"]


async def test_database_that_is_away_ends_the_pass() -> None:
    async def away(action: AgentAction) -> None:
        raise DatabaseAway("away")

    with pytest.raises(DatabaseAway):
        await Turns().take(_taps("h1", 1), away)
