"""Templates supply the values that a request omits. Values in the request win."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import httpx
import pytest
from sqlalchemy import insert, text

from nqrust.client import calls
from nqrust.client.errors import Refused
from nqrust.contract.images import ImageAdd, ImagePull
from nqrust.contract.templates import TemplateCreate, TemplateSpec
from nqrust.contract.vms import EmptyVolume, GuestAccount, GuestUser, NetworkConfig, RateLimits, RestartPolicy, VmCreate
from nqrust.manager.core import counts
from nqrust.manager.store.tables import Template
from nqrust.manager.templates import service

SMALL = TemplateCreate(
    name="small",
    image="tiny",
    vcpus=2,
    memory_mib=512,
    tags=["web"],
    autostart=False,
    restart_policy=RestartPolicy.always,
    ssh_keys=["ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIFDYWOCYXsx/YEGKrwzFq1h/QsJXCohAlanozKzQ9lRc a@b"],
    volumes=[EmptyVolume(size_mib=64, keep=True)],
    users=[
        GuestAccount(
            name="ana", ssh_keys=["ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIFDYWOCYXsx/YEGKrwzFq1h/QsJXCohAlanozKzQ9lRc c@d"]
        )
    ],
    rate_limits=RateLimits(net_rx_kbit=1000),
    network_config=NetworkConfig.image,
)


async def test_operator_creates_lists_changes_and_deletes_a_template(manager: Any) -> None:
    made = await manager.admin.send(calls.create_template(SMALL))
    assert made.model_dump(exclude={"created_at", "updated_at"}) == SMALL.model_dump()
    assert await manager.admin.send(calls.get_template("small")) == made
    assert [t.name for t in (await manager.admin.send(calls.list_templates())).items] == ["small"]
    changed = await manager.admin.send(calls.replace_template("small", TemplateSpec(image="tiny", vcpus=4)))
    assert (changed.vcpus, changed.tags, changed.created_at) == (4, [], made.created_at)
    assert changed.updated_at > made.updated_at
    await manager.admin.send(calls.delete_template("small"))
    for call in (manager.admin.send(calls.get_template("small")), manager.admin.send(calls.delete_template("small"))):
        with pytest.raises(Refused) as refused:
            await call
        assert refused.value.status == 404
    told = {(event.subject_kind, event.reason) for event in (await manager.admin.send(calls.list_events(subject="small"))).items}
    assert told == {("template", reason) for reason in ("TemplateCreated", "TemplateChanged", "TemplateDeleted")}
    entries = (await manager.admin.send(calls.audit())).items
    assert {(entry.method, entry.status) for entry in entries if entry.path.startswith("/v1/templates")} == {
        ("POST", 201), ("PUT", 200), ("DELETE", 204), ("DELETE", 404),
    }  # fmt: skip


async def test_request_values_override_the_template(manager: Any) -> None:
    await manager.host()
    await manager.admin.send(calls.create_template(SMALL))
    vm = await manager.admin.send(calls.create_vm(VmCreate(name="web1", template="small", start=False)))
    assert (vm.image, vm.vcpus, vm.memory_mib, vm.tags, vm.autostart) == ("tiny", 2, 512, ["web"], False)
    assert (vm.restart_policy, vm.users, vm.rate_limits.net_rx_kbit) == (RestartPolicy.always, ["ana"], 1000)
    assert vm.network_config is NetworkConfig.image
    assert [(v.device, v.size_mib, v.keep) for v in vm.volumes] == [("vdb", 64, True)]
    other = await manager.admin.send(
        calls.create_vm(
            VmCreate(
                name="web2", template="small", vcpus=1, tags=[], autostart=True, start=False, rate_limits=RateLimits(disk_iops=50)
            )
        )
    )
    assert other.rate_limits == RateLimits(net_rx_kbit=1000, disk_iops=50), "each limit by itself"
    assert (other.vcpus, other.memory_mib, other.tags, other.autostart) == (1, 512, [], True), "1 is said, not a default"
    await manager.admin.send(calls.replace_template("small", TemplateSpec(image="tiny", vcpus=8)))
    assert (await manager.admin.send(calls.get_vm("web1"))).vcpus == 2, "a VM has its copy"
    events = (await manager.admin.send(calls.list_events(subject="web1"))).items
    assert any("from template small" in event.message for event in events)


async def test_idempotency_key_returns_the_same_vm_after_a_template_change(manager: Any) -> None:
    await manager.admin.send(calls.create_template(SMALL))
    wanted = VmCreate(name="web1", template="small", start=False)
    first = await manager.admin.send(calls.create_vm(wanted, idempotency_key="k"))
    await manager.admin.send(calls.delete_template("small"))
    assert (await manager.admin.send(calls.create_vm(wanted, idempotency_key="k"))).id == first.id


async def test_manager_names_a_missing_template(manager: Any) -> None:
    await manager.admin.send(calls.create_template(SMALL))
    cases = [
        (manager.admin.send(calls.create_template(SMALL)), 409, "already a template"),
        (manager.admin.send(calls.create_template(TemplateCreate(name="other", image="nope"))), 404, "no image nope"),
        (manager.admin.send(calls.replace_template("small", TemplateSpec(image="nope"))), 404, "no image nope"),
        (manager.admin.send(calls.create_vm(VmCreate(name="web1", template="large"))), 404, "no template large"),
        (manager.admin.send(calls.create_template(TemplateCreate(name="x", image="tiny", ssh_keys=["a\nb"]))), 422, "line break"),
    ]
    for call, status, words in cases:
        with pytest.raises(Refused, match=words) as refused:
            await call
        assert refused.value.status == status
    assert (await manager.admin.send(calls.list_templates())).total == 1
    assert (await manager.admin.send(calls.list_vms())).total == 0


@pytest.mark.parametrize("tag", ["x" * 65, "a\nb", "a\0b", "a\x1b[2J"])
async def test_tags_are_short_lines(manager: Any, tag: str) -> None:
    await manager.admin.send(calls.create_template(SMALL))
    bodies = [
        ("POST", "/v1/vms", {"name": "web1", "image": "tiny"}),
        ("POST", "/v1/templates", {"name": "t", "image": "tiny"}),
        ("PUT", "/v1/templates/small", {"image": "tiny"}),
    ]
    transport = httpx.ASGITransport(manager.app)
    headers = {"Authorization": f"Bearer {manager.admin_token}"}
    async with httpx.AsyncClient(transport=transport, base_url="http://manager", headers=headers) as http:
        for method, path, body in bodies:
            answer = await http.request(method, path, json={**body, "tags": ["x" * 64, tag]})
            assert (answer.status_code, answer.json()["code"]) == (422, "NQR-API-104"), path


async def test_tags_from_before_the_limit_are_read_and_say_what_to_do(manager: Any) -> None:
    await manager.host()
    await manager.admin.send(calls.create_template(SMALL))
    await manager.admin.send(calls.create_vm(VmCreate(name="web1", image="tiny", tags=["web"])))
    await manager.until("web1", "running")
    old = ["x" * 32_000, "a\nb"]
    async with manager.core.db.transaction() as session:
        for table in ("vms", "templates"):
            query = text(f"UPDATE {table} SET spec = jsonb_set(CAST(spec AS jsonb), '{{tags}}', CAST(:tags AS jsonb))")
            await session.execute(query, {"tags": json.dumps(old)})
    assert [template.tags for template in (await manager.admin.send(calls.list_templates())).items] == [old]
    assert (await manager.admin.send(calls.get_vm("web1"))).tags == old
    assert (await manager.admin.send(calls.list_vms())).items[0].tags == old
    with pytest.raises(Refused, match=r"Template small does not give a valid VM: tags\.0") as refused:
        await manager.admin.send(calls.create_vm(VmCreate(name="web2", template="small", start=False)))
    assert refused.value.status == 422
    assert (await manager.admin.send(calls.create_vm(VmCreate(name="web2", template="small", tags=[], start=False)))).tags == []


async def test_a_request_that_does_not_fit_its_template_is_refused(manager: Any) -> None:
    await manager.admin.send(calls.create_template(SMALL))
    with pytest.raises(Refused, match="user_data needs network_config dhcp") as refused:
        await manager.admin.send(calls.create_vm(VmCreate(name="web1", template="small", user_data="#cloud-config\n{}\n")))
    assert refused.value.status == 422


@pytest.mark.parametrize(("method", "path"), [("POST", "/v1/templates"), ("PUT", "/v1/templates/small")])
async def test_a_template_keeps_no_password(manager: Any, method: str, path: str) -> None:
    """An account without the password that was asked for could not be logged into."""
    await manager.admin.send(calls.create_template(SMALL))
    body: dict[str, Any] = {"image": "tiny", "users": [{"name": "ana", "password_hash": "$6$salt$abcdefghijkl"}]}
    if method == "POST":
        body["name"] = "other"
    http = httpx.AsyncClient(transport=httpx.ASGITransport(manager.app), base_url="http://manager")
    async with http:
        headers = {"Authorization": f"Bearer {manager.admin_token}"}
        answer = await http.request(method, path, json=body, headers=headers)
        problem = answer.json()
        assert (answer.status_code, problem["code"]) == (422, "NQR-API-104")
        assert "a template keeps no passwords; name the user with its password_hash when you create the VM" in problem["detail"]
        kept = await http.get("/v1/templates")
        assert "abcdefghijkl" not in answer.text + kept.text, "what was sent is neither repeated nor kept"
        body["users"][0]["password_hash"] = None
        assert (await http.request(method, path, json=body, headers=headers)).status_code in (200, 201)


def key(comment: str) -> str:
    return f"{SMALL.ssh_keys[0]} {comment}"


async def test_keys_are_bounded_alone_and_together(manager: Any) -> None:
    """60 templates with a megabyte of comments each, listed four times, filled the manager's memory."""
    await manager.host()
    for keys, why in (([key("c" * 8192)], "8192"), ([key("c" * 7000)] * 5, "65536"), ([key("c" * 7000)] * 4, "")):
        accounts, users = [GuestAccount(name="ana", ssh_keys=keys)], [GuestUser(name="ana", ssh_keys=keys)]
        for call in (
            calls.create_template(TemplateCreate(name=f"t{len(keys)}", image="tiny", ssh_keys=keys, users=accounts)),
            calls.create_vm(VmCreate(name=f"v{len(keys)}", image="tiny", ssh_keys=keys, users=users)),
        ):
            if not why:
                await manager.admin.send(call)
                continue
            with pytest.raises(Refused) as refused:
                await manager.admin.send(call)
            assert refused.value.code == "NQR-API-140" and f"more than {why} characters" in str(refused.value)


async def test_pages_of_long_templates_are_short_and_lead_to_all(manager: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service, "PAGE_CHARACTERS", 40_000)
    names = [f"t{number:03}" for number in range(105)]
    rows = [{"name": name, "spec": {"image": "tiny", "ssh_keys": [key("c" * 8000)] if name < "t010" else []}} for name in names]
    async with manager.core.db.transaction() as session:
        await session.execute(insert(Template), rows)
    viewer = await manager.role("viewer")
    first = await viewer.send(calls.list_templates())
    assert ([template.name for template in first.items], first.total) == (names[:4], 105)
    assert [template.name for template in (await viewer.send(calls.list_templates(3, 103))).items] == names[103:]
    whole = await viewer.all_templates()
    assert ([template.name for template in whole.items], whole.total) == (names, 105)
    with pytest.raises(Refused):
        await viewer.send(calls.list_templates(limit=service.PAGE + 1))


async def test_the_number_of_templates_and_of_images_is_bounded(manager: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(counts, "TEMPLATES", 1)
    monkeypatch.setattr(counts, "IMAGES", 1)
    await manager.admin.send(calls.create_template(SMALL))
    for call in (
        calls.create_template(SMALL.model_copy(update={"name": "more"})),
        calls.add_image(ImageAdd(name="more", url="http://192.0.2.1/image.json", sha256="0" * 64)),
        calls.pull_image(ImagePull(reference="localhost:1/nginx")),
    ):
        with pytest.raises(Refused) as refused:
            await asyncio.wait_for(manager.admin.send(call), 10)
        assert (refused.value.status, refused.value.code) == (409, "NQR-API-210")
