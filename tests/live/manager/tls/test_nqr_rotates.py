"""The steps of `nqr rotate` against a real manager and a real agent: everything changes under an open console and eight VMs."""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path

from tests.live.manager.conftest import ADMIN_TOKEN
from tests.live.manager.tls.conftest import Agent, Secured
from tests.live.manager.tls.test_authority_rotation import Rotating
from tests.live.manager.tls.test_rotation import answers, console, quick, until

from nqrust.client import calls
from nqrust.contract.credentials import hash_token, new_token
from nqrust.contract.vms import VmCreate
from nqrust.host.local import LocalHost
from nqrust.installer.platform.rotation import HostsFollow, Kind, RotationApi
from nqrust.tls import pinning

__all__ = ["quick"]
FEW_SECONDS = 60.0


def replaced(path: Path, text: str) -> None:
    beside = path.with_suffix(".new")
    beside.write_text(text)
    beside.rename(path)


async def test_everything_rotates_while_a_console_is_open_and_eight_vms_run(
    secured: Secured, joined: Agent, tmp_path: Path
) -> None:
    running, stages, host = secured.running, Rotating(secured), LocalHost()
    token_file = tmp_path / "cli-token"
    token_file.write_text(ADMIN_TOKEN + "\n")
    api = RotationApi(f"http://127.0.0.1:{secured.port}", str(token_file))
    old, new = stages.old.certificate, stages.new.certificate

    async def follow(name: str, needs: Kind, *, begins: bool = False, trusted: str = "", signer: str = "") -> None:
        prints = [pinning.fingerprint(one) if one else "" for one in (trusted, signer)]
        step = HostsFollow(name, api, needs, name, begins=begins, trusted=prints[0], signer=prints[1], seconds=FEW_SECONDS)
        await asyncio.to_thread(step.apply, host)

    async with joined.running(), console(secured, joined) as socket:
        for number in range(2, 9):
            await running.admin.send(calls.create_vm(VmCreate(name=f"web{number}", image="tiny", memory_mib=128)))
        for number in range(2, 9):
            await running.until(f"web{number}", "running")
        before = joined.known
        boots = {vm.name: vm.boot_id for vm in (await running.admin.send(calls.list_vms())).items}

        path = Path(str(running.core.settings.bootstrap_file))
        wanted, cli = json.loads(path.read_text()), new_token()
        wanted["tokens"][0]["sha256"] = hash_token(cli)
        replaced(path, json.dumps(wanted))
        replaced(token_file, cli + "\n")
        await follow("tokens", "tokens", begins=True)  # waits until the manager knows the new token of nqr
        await answers(socket)
        await follow("certificates", "certificate", begins=True)
        await answers(socket)
        stages.introduce()
        await follow("known", "authority", trusted=old + new, signer=old)
        await answers(socket)
        stages.switch()
        await follow("used", "certificate", trusted=new + old, signer=new)
        await answers(socket)
        stages.retire()
        await follow("alone", "authority", trusted=new, signer=new)
        await answers(socket)

        after = joined.known
        assert before.identity and after.identity and after.identity.authority == new
        assert after.agent_token != before.agent_token and after.command_token_sha256 != before.command_token_sha256
        vms = (await running.client(cli).send(calls.list_vms())).items
        assert {vm.name: vm.boot_id for vm in vms} == boots and {vm.state.value for vm in vms} == {"running"} and len(vms) == 8
        assert joined.link.registered
        await until(lambda: not joined.known.former_command_token_sha256)
        assert api.behind(host) == ()
        os.remove(token_file)
        assert api.behind(host) == (), "without an answer, it names nobody"
