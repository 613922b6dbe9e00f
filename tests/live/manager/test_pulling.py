"""Pulling images of containers: a real registry, skopeo, and the manager's route."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest
from tests.container_images import Image, Member, busybox, folder, layer
from tests.live.container_registry import PASSWORD, USER, Registry

from nqrust.client import calls
from nqrust.client.errors import Refused
from nqrust.contract.images import ImagePull, RegistryLogin
from nqrust.contract.vms import RestartPolicy, VmCreate
from nqrust.image.oci import reference
from nqrust.manager.images.sources import oci
from nqrust.manager.store.tables import Vm
from nqrust.manager.work.reconciler import Reconciler

WEB = {"Cmd": ["httpd", "-f", "-h", "/srv"], "Env": ["PATH=/bin"], "ExposedPorts": {"80/tcp": {}}, "User": "web"}


async def pulled(manager: Any, reference: str, client: Any = None, *, tls_verify: bool = False, **more: Any) -> Any:
    """The image after its pull."""
    client = client or manager.admin
    image = await client.send(calls.pull_image(ImagePull(reference=reference, tls_verify=tls_verify, **more)))
    for _ in range(400):
        image = await client.send(calls.get_image(image.name))
        if image.download is None and image.state != "downloading":
            return image
        await asyncio.sleep(0.3)
    raise AssertionError(image)


def listed(image: Any, folder: str, root: str) -> str:
    told = subprocess.run(
        ["debugfs", "-R", f"ls -l {folder}", f"{root}/{image.name}/rootfs.ext4"], capture_output=True, text=True
    )
    return told.stdout


async def test_an_image_is_pulled_with_digest_and_process(pulling: Any, registry: Registry) -> None:
    content = layer([folder("srv"), Member("srv/index.html", b"hello\n", mode=0o640, uid=101, gid=102)])
    reference, digest = registry.push(Image([busybox("httpd"), content], WEB), "team/web:1.0")
    image = await pulled(pulling, reference)
    assert (image.name, image.state, image.error) == ("web-1.0", "ready", "")
    assert (image.origin, image.digest) == (reference, digest)
    process = image.manifest.process
    assert (process.command, process.user, process.ports) == (WEB["Cmd"], "web", ["80/tcp"])
    root = pulling.core.settings.image_root
    assert "100640 (1)    101    102       6" in listed(image, "/srv", root)
    assert sorted(os.listdir(root)) == ["tiny", "web-1.0"], "no scratch folder stays"
    assert subprocess.run(["e2fsck", "-fn", f"{root}/web-1.0/rootfs.ext4"], capture_output=True).returncode == 0


async def test_a_second_pull_replaces_the_image_and_a_failed_one_keeps_it(pulling: Any, registry: Registry) -> None:
    reference, first = registry.push(Image([busybox()], WEB), "again:1")
    assert (await pulled(pulling, reference)).digest == first
    _, second = registry.push(Image([busybox("httpd")], WEB), "again:1")
    after = await pulled(pulling, reference)
    assert first != second == after.digest and after.state == "ready"
    bad = Image([layer([Member("../x", b"1")])], WEB)
    registry.push(bad, "again:1")
    kept = await pulled(pulling, reference)
    assert (kept.state, kept.digest) == ("ready", second) and "contains" in kept.error
    assert len((await pulling.admin.send(calls.list_images())).items) == 2


async def test_an_image_that_skopeo_packed_with_zstd_is_pulled(pulling: Any, registry: Registry, tmp_path: Path) -> None:
    registry.push(Image([busybox("httpd"), layer([Member("new", b"1" * 5000)])], WEB), "packed:gzip")
    layout, words = tmp_path / "L", ["skopeo", "--insecure-policy", "copy", "--src-tls-verify=false"]
    subprocess.run(
        [*words, "--dest-compress-format=zstd", f"docker://{registry.address}/packed:gzip", f"oci:{layout}:zstd"], check=True
    )
    (top,) = json.loads((layout / "index.json").read_text())["manifests"]
    stored = json.loads((layout / "blobs" / top["digest"].replace(":", "/")).read_text())
    assert [one["mediaType"].rpartition("+")[2] for one in stored["layers"]] == ["zstd", "zstd"]
    image = await pulled(pulling, registry.push_layout(layout, "zstd", "packed:zstd"))
    assert (image.state, image.error, image.digest) == ("ready", "", top["digest"])
    assert "100755 (1)      0      0    5000" in listed(image, "/", pulling.core.settings.image_root)


async def test_two_images_with_one_short_name_get_two(pulling: Any, registry: Registry) -> None:
    names = {(await pulled(pulling, registry.push(Image([busybox()], WEB), f"{team}/app:1")[0])).name for team in ("a", "b")}
    assert len(names) == 2 and "app-1" in names
    named = await pulled(pulling, f"{registry.address}/a/app:1", name="mine")
    assert (named.name, named.state) == ("mine", "ready")


@pytest.mark.parametrize("ends", ["deleted", "killed"])
async def test_a_pull_that_ends_leaves_no_program_no_place_and_no_file(
    pulling: Any, registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ends: str
) -> None:
    """The attack: images that take an hour to unpack, deleted and pulled again, until the manager has no thread left."""
    slow, note = tmp_path / "slow", tmp_path / "pid"
    root = pulling.core.settings.image_root
    made = f"mkdir -p {root}/.slow-1.building && echo x >{root}/.slow-1.building/rootfs.ext4"
    slow.write_text(f"#!/bin/sh\n{made} && echo $$ >{note}.new && mv {note}.new {note}\nsleep 600\n")
    slow.chmod(0o755)
    monkeypatch.setattr(oci.sys, "executable", str(slow))
    reference, _ = registry.push(Image([busybox()], WEB), "slow:1")
    await pulling.admin.send(calls.pull_image(ImagePull(reference=reference, tls_verify=False)))
    for _ in range(100):
        if note.exists():
            break
        await asyncio.sleep(0.1)
    pid = int(note.read_text())
    if ends == "deleted":
        await pulling.admin.send(calls.delete_image("slow-1"))
    else:
        os.kill(pid, signal.SIGKILL)
    for _ in range(100):
        if not Path(f"/proc/{pid}").exists() and os.listdir(root) == ["tiny"] and pulling.core.fetching._value == 2:
            break
        await asyncio.sleep(0.1)
    assert os.listdir(root) == ["tiny"] and not Path(f"/proc/{pid}").exists()
    assert pulling.core.fetching._value == 2


@pytest.mark.parametrize(
    ("image", "said"),
    [
        (Image([layer([Member("../../etc/cron.d/x", b"1")])]), "contains"),
        (Image([layer([])], {"Env": ["x"]}), "“env”"),
        (Image([layer([Member("x", b"1", pax={"mtime": "inf"})])]), "cannot be unpacked (OverflowError)"),
        (Image([layer([])], architecture="arm64"), "linux/amd64"),
    ],
    ids=["dots", "config", "time", "platform"],
)
async def test_a_hostile_image_is_refused_and_leaves_nothing(pulling: Any, registry: Registry, image: Image, said: str) -> None:
    found = await pulled(pulling, registry.push(image, "hostile:1")[0])
    assert found.state == "missing" and said in found.error, found.error
    assert os.listdir(pulling.core.settings.image_root) == ["tiny"]
    with pytest.raises(Refused):
        await pulling.admin.send(calls.create_vm(VmCreate(name="v", image=found.name)))


async def test_what_the_registry_refuses_is_said_with_a_cure(pulling: Any, registry: Registry) -> None:
    missing = await pulled(pulling, f"{registry.address}/no/such:1")
    assert missing.state == "missing" and "There is no container image" in missing.error
    image = await pulled(pulling, f"{registry.address}/no/tls:1", tls_verify=True)
    assert "plain HTTP" in image.error and "--insecure" in image.error


async def test_a_private_registry_wants_its_password_and_it_is_nowhere(pulling: Any, tmp_path: Path, caplog: Any) -> None:
    private = Registry(tmp_path / "private", private=True)
    try:
        reference, digest = private.push(Image([busybox()], WEB), "secret/app:1")
        without = await pulled(pulling, reference)
        assert "refuses access" in without.error and "--password-file" in without.error
        wrong = await pulled(pulling, reference, login=RegistryLogin(username=USER, password="wrong"))
        assert "refuses access" in wrong.error
        image = await pulled(pulling, reference, login=RegistryLogin(username=USER, password=PASSWORD))
        assert (image.state, image.digest) == ("ready", digest)
    finally:
        private.close()
    told = json.dumps([image.model_dump(mode="json"), repr(RegistryLogin(username=USER, password=PASSWORD)), caplog.text])
    assert PASSWORD not in told
    for path in Path(pulling.core.settings.image_root).rglob("*.json"):
        assert PASSWORD not in path.read_text()


async def test_only_an_administrator_pulls_from_the_managers_own_machine(pulling: Any, registry: Registry) -> None:
    reference, _ = registry.push(Image([busybox()], WEB), "own/app:1")
    operator = await pulling.role("operator")
    image = await pulled(pulling, reference, client=operator)
    assert image.state == "missing" and "this machine" in image.error
    viewer = await pulling.role("viewer")
    with pytest.raises(Refused) as refused:
        await viewer.send(calls.pull_image(ImagePull(reference=reference)))
    assert refused.value.status == 403


async def test_a_reference_that_is_none_is_refused_at_once(pulling: Any) -> None:
    with pytest.raises(Refused) as refused:
        await pulling.admin.send(calls.pull_image(ImagePull(reference="--help")))
    assert refused.value.code == "NQR-IMG-031"


async def test_without_skopeo_the_cure_is_its_package(pulling: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr("nqrust.host.local.LocalHost.which", lambda self, name: None)
    monkeypatch.setattr("nqrust.host.local.PATH", "/nowhere")
    monkeypatch.setenv("https_proxy", "http://proxy.example:3128")
    image = await pulled(pulling, "registry.example/a:1")
    assert "skopeo" in image.error and "nqr install" in image.error


@pytest.mark.parametrize("private", [False, True])
async def test_an_administrator_behind_a_proxy_pulls_with_skopeo(
    pulling: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, private: bool
) -> None:
    monkeypatch.setattr("nqrust.manager.images.sources.oci._proxied", lambda *_: True)
    monkeypatch.setattr("nqrust.manager.images.sources.distribution.copy", None)
    registry = Registry(tmp_path / "registry", private=private)
    try:
        reference, digest = registry.push(Image([busybox()], WEB), "team/proxied:1")
        login = RegistryLogin(username=USER, password=PASSWORD) if private else None
        image = await pulled(pulling, reference, login=login)
        assert (image.state, image.digest) == ("ready", digest)
    finally:
        registry.close()


@pytest.mark.parametrize(
    ("variables", "image", "tls_verify", "proxied"),
    [
        ({}, "registry.example/a", True, False),
        ({"https_proxy": "http://p:1"}, "registry.example/a", True, True),
        ({"https_proxy": "http://p:1"}, "nginx", True, True),
        ({"https_proxy": "http://p:1", "no_proxy": "example"}, "registry.example/a", True, False),
        ({"https_proxy": "http://p:1"}, "127.0.0.1:5000/a", True, False),
        ({"https_proxy": "http://p:1"}, "[::1]:5000/a", True, False),
        ({"http_proxy": "http://p:1"}, "registry.example/a", True, False),
        ({"http_proxy": "http://p:1"}, "registry.example/a", False, True),
    ],
)
def test_proxy_of_a_registry(
    variables: dict[str, str], image: str, tls_verify: bool, proxied: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "https_proxy", "no_proxy", "all_proxy"):
        for form in (name, name.upper()):
            monkeypatch.delenv(form, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert oci._proxied(reference.parse(image), tls_verify) is proxied


async def test_without_tiny_there_is_no_kernel(manager: Any) -> None:
    await manager.admin.send(calls.delete_image("tiny"))
    image = await pulled(manager, "registry.example/a:1")
    assert "nqr image build tiny" in image.error


async def test_a_vm_names_the_image_as_it_was_pulled_and_changes_its_process(pulling: Any, registry: Registry) -> None:
    reference, _ = registry.push(Image([busybox()], WEB), "team/run:1")
    assert (await pulling.admin.send(calls.list_images(reference))).items == []
    await pulled(pulling, reference)
    assert [image.name for image in (await pulling.admin.send(calls.list_images(reference))).items] == ["run-1"]
    _, agent, _ = await pulling.host()
    wanted = VmCreate(name="web1", image=reference, command=["sh", "-c", "exit 3"], env=["A=secret of the VM"])
    vm = await pulling.admin.send(calls.create_vm(wanted))
    assert (vm.image, vm.command, vm.exit_code) == ("run-1", ["sh", "-c", "exit 3"], None)
    await pulling.until("web1", "running")
    process = agent.specs[vm.id].process
    assert (process.argv, process.env, process.user) == (["sh", "-c", "exit 3"], ["PATH=/bin", "A=secret of the VM"], "web")
    shown = await pulling.admin.send(calls.get_vm("web1"))
    assert "secret of the VM" not in shown.model_dump_json()
    listed = await pulling.admin.send(calls.list_vms())
    assert [vm.command for vm in listed.items] == [["sh", "-c", "exit 3"]]
    assert "secret of the VM" not in listed.model_dump_json()


async def test_viewers_do_not_see_the_variables_of_an_image(pulling: Any, registry: Registry) -> None:
    reference, _ = registry.push(Image([busybox()], {**WEB, "Env": ["PASSWORD=of the publisher"]}), "team/private:1")
    await pulled(pulling, reference)
    for role, sees in (("viewer", False), ("operator", True)):
        client = await pulling.role(role)
        for answer in (
            await client.send(calls.list_images()),
            await client.send(calls.list_images(reference)),
            await client.send(calls.get_image("private-1")),
        ):
            said = answer.model_dump_json()
            assert ("of the publisher" in said) is sees and '"process":{"entrypoint"' in said


async def test_the_exit_code_of_a_process_is_kept(pulling: Any, registry: Registry) -> None:
    reference, _ = registry.push(Image([busybox()], WEB), "team/code:1")
    await pulled(pulling, reference)
    _, agent, _ = await pulling.host()
    vm = await pulling.admin.send(calls.create_vm(VmCreate(name="job", image=reference, restart_policy=RestartPolicy.never)))
    await pulling.until("job", "running")
    ended = agent.vms[vm.id]
    ended.state, ended.exit_reason, ended.exit_code = "failed", "Its process ended with exit code 3.", 3
    for _ in range(100):  # the operation that started it may still be open
        live = await pulling.admin.send(calls.get_vm("job", fresh=True))
        if live.exit_code is not None:
            break
        await asyncio.sleep(0.1)
    assert (live.state.value, live.exit_code) == ("failed", 3)
    await Reconciler(pulling.core).once()
    async with pulling.core.db.transaction() as session:
        row = await session.get(Vm, vm.id)
    assert (row.state, row.exit_code, row.desired_state) == ("failed", 3, "stopped")
    await pulling.admin.send(calls.start_vm("job"))
    again = await pulling.until("job", "running")
    assert again.exit_code is None


async def test_an_image_with_an_init_takes_no_command(pulling: Any) -> None:
    with pytest.raises(Refused) as refused:
        await pulling.admin.send(calls.create_vm(VmCreate(name="v", image="tiny", command=["x"])))
    assert refused.value.code == "NQR-IMG-045"
