"""The image registry: what is on disk, what may be added, what is refused."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import hashlib
import json
import os
import stat
import threading
from collections.abc import AsyncIterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from nqrust.client import calls
from nqrust.client.errors import Refused
from nqrust.contract.images import Download, ImageAdd, ImageList
from nqrust.contract.vms import VmCreate
from nqrust.manager.app import prepare
from nqrust.manager.images import pulling, registry
from nqrust.manager.store.tables import Image


async def test_images_in_the_folder_are_there_at_start(manager: Any) -> None:
    image = await manager.admin.send(calls.get_image("tiny"))
    assert (image.state, image.size) == ("ready", 4096)


async def test_scan_finds_new_changed_broken_and_gone_images(manager: Any, make_image: Any) -> None:
    root = manager.core.settings.image_root
    for name in ("second", "broken", "gone"):
        make_image(root, name)
    make_image(root, "misnamed")
    os.rename(f"{root}/misnamed", f"{root}/othername")
    await manager.admin.send(calls.scan_images())
    with open(f"{root}/broken/rootfs", "r+b") as file:
        file.write(b"X")
    os.truncate(f"{root}/second/kernel", 1)
    os.rename(f"{root}/gone", f"{root}/.gone")
    states = {image.name: image.state for image in (await manager.admin.send(calls.scan_images())).items}
    assert states == {"tiny": "ready", "second": "corrupt", "broken": "corrupt", "gone": "missing"}
    with pytest.raises(Refused) as refused:
        await manager.admin.send(calls.create_vm(VmCreate(name="v", image="broken")))
    assert refused.value.code == "NQR-IMG-112"
    make_image(root, "broken")
    states = {image.name: image.state for image in (await manager.admin.send(calls.scan_images())).items}
    assert states["broken"] == "ready"


async def test_an_image_that_the_database_does_not_take_keeps_no_other_one_away(manager: Any, make_image: Any) -> None:
    root = manager.core.settings.image_root
    folder = make_image(root, "nul")
    with open(f"{folder}/image.json") as file:
        manifest = json.load(file)
    with open(f"{folder}/image.json", "w") as file:
        json.dump({**manifest, "cmdline": "quiet\0"}, file)
    make_image(root, "other")
    await prepare(manager.core)
    assert {image.name for image in (await manager.admin.send(calls.list_images())).items} == {"other", "tiny"}


async def test_sha256_is_read_once_and_not_at_every_scan(manager: Any, monkeypatch: Any) -> None:
    from nqrust.manager.images import folder

    reads: list[str] = []
    monkeypatch.setattr(folder, "_sha256", lambda file: reads.append(file.name) or "")
    await manager.admin.send(calls.scan_images())
    assert reads == []


async def test_add_by_path_only_below_allowed_roots(manager: Any, make_image: Any, tmp_path: Any) -> None:
    allowed = tmp_path / "more"
    make_image(str(allowed), "extra")
    image = await manager.admin.send(calls.add_image(ImageAdd(name="mine", path=f"{allowed}/extra")))
    assert image.state == "ready"
    make_image(str(tmp_path / "elsewhere"), "secret")
    os.symlink(tmp_path / "elsewhere" / "secret", allowed / "link")
    for path in (
        f"{tmp_path}/elsewhere/secret",
        f"{allowed}/link",
        f"{allowed}/../elsewhere/secret",
        "relative",
        "/etc",
    ):
        with pytest.raises(Refused) as refused:
            await manager.admin.send(calls.add_image(ImageAdd(name="evil", path=path)))
        assert refused.value.code == "NQR-IMG-111", path
    await manager.admin.send(calls.delete_image("mine"))
    assert os.path.isdir(allowed / "extra"), "a folder that is not ours is forgotten, not removed"


async def test_many_images_that_are_added_by_path_leave_threads_for_others(
    manager: Any, make_image: Any, tmp_path: Any, monkeypatch: Any
) -> None:
    """Each reads gigabytes, and the manager has six threads on two processors."""
    folder, go_on, now, most = make_image(str(tmp_path / "more"), "extra"), threading.Event(), 0, 0
    real = registry.folder.check

    def slow(*arguments: Any) -> Any:
        nonlocal now, most
        now += 1
        most = max(most, now)
        go_on.wait(60)
        now -= 1
        return real(*arguments)

    monkeypatch.setattr(registry.folder, "check", slow)
    adding = [asyncio.create_task(manager.admin.send(calls.add_image(ImageAdd(name="extra", path=folder)))) for _ in range(30)]
    try:
        while most < 2:
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.2)
        await asyncio.wait_for(asyncio.to_thread(int), 10)
        assert most == 2
    finally:
        go_on.set()
        await asyncio.gather(*adding, return_exceptions=True)
    assert (await manager.admin.send(calls.get_image("extra"))).state == "ready"


async def test_files_that_lead_out_of_the_folder_are_refused(manager: Any, make_image: Any, tmp_path: Any) -> None:
    folder = make_image(str(tmp_path / "more"), "extra")
    with open(f"{folder}/image.json") as file:
        manifest = json.load(file)
    for name in ("../secret", "/etc/shadow", "..", "a/b", ""):
        manifest["rootfs"]["file"] = name
        with open(f"{folder}/image.json", "w") as file:
            json.dump(manifest, file)
        with pytest.raises(Refused) as refused:
            await manager.admin.send(calls.add_image(ImageAdd(name="evil", path=folder)))
        assert refused.value.status == 422
    make_image(str(tmp_path / "more"), "extra")
    os.remove(f"{folder}/rootfs")
    os.symlink("/etc/shadow", f"{folder}/rootfs")
    with pytest.raises(Refused):
        await manager.admin.send(calls.add_image(ImageAdd(name="evil", path=folder)))


async def test_an_image_in_use_is_not_deleted(manager: Any) -> None:
    await manager.admin.send(calls.create_vm(VmCreate(name="v", image="tiny")))
    with pytest.raises(Refused) as refused:
        await manager.admin.send(calls.delete_image("tiny"))
    assert (refused.value.status, refused.value.code) == (409, "NQR-IMG-113")
    await manager.admin.send(calls.delete_vm("v"))
    await manager.until("v", "deleted")
    await manager.admin.send(calls.delete_image("tiny"))
    assert not os.path.exists(f"{manager.core.settings.image_root}/tiny")


async def test_agents_fetch_files_that_the_manifest_names_and_no_others(manager: Any) -> None:
    _, _, agent_client = await manager.host()
    http = agent_client._http
    await manager.admin.send(calls.create_vm(VmCreate(name="v", image="tiny")))
    await manager.until("v", "running")
    answer = await http.get("/v1/images/tiny/blobs/rootfs")
    assert answer.content == b"r" * 4096
    for path in ("image.json", "..%2f..%2fetc%2fpasswd", "none"):
        assert (await http.get(f"/v1/images/tiny/blobs/{path}")).status_code == 404, path


async def test_a_host_gets_no_image_that_none_of_its_vms_has(manager: Any, tmp_path: Any, make_image: Any) -> None:
    """A host in a stranger's hands knows the names of images, and they may be private."""
    _, _, agent_client = await manager.host()
    assert (await agent_client._http.get("/v1/images/tiny/blobs/rootfs")).status_code == 404
    assert (await manager.admin._http.get("/v1/images/tiny/blobs/rootfs")).status_code == 200


@pytest.fixture()
def web(tmp_path: Any, make_image: Any) -> Any:
    root = tmp_path / "web"
    make_image(str(root), "remote")

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *arguments: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(root)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/remote/image.json", root / "remote"
    server.shutdown()


def digest(path: Any) -> str:
    with open(path, "rb") as file:
        return hashlib.sha256(file.read()).hexdigest()


async def test_add_by_url_verifies_everything(manager: Any, web: Any) -> None:
    url, folder = web
    with pytest.raises(Refused, match="sha256"):
        await manager.admin.send(calls.add_image(ImageAdd(name="remote", url=url)))
    with pytest.raises(Refused, match="sha256"):
        await manager.admin.send(calls.add_image(ImageAdd(name="remote", url=url, sha256="0" * 64)))
    with pytest.raises(Refused, match="404"):
        await manager.admin.send(calls.add_image(ImageAdd(name="remote", url=url + "x", sha256="0" * 64)))
    await manager.admin.send(calls.add_image(ImageAdd(name="copy", url=url, sha256=digest(folder / "image.json"))))
    assert (await manager.settled_image("copy")).state == "ready"
    assert stat.S_IMODE(os.stat(f"{manager.core.settings.image_root}/copy").st_mode) == 0o750, "others cannot read it"
    assert (await manager.admin.send(calls.scan_images())).total == 2


async def test_a_tampered_file_never_becomes_an_image(manager: Any, web: Any) -> None:
    url, folder = web
    (folder / "kernel").write_bytes(b"X" * 512)
    await manager.admin.send(calls.add_image(ImageAdd(name="copy", url=url, sha256=digest(folder / "image.json"))))
    image = await manager.settled_image("copy")
    assert image.state == "corrupt" and "kernel does not have the size and sha256" in image.error
    assert sorted(os.listdir(manager.core.settings.image_root)) == ["tiny"], "nothing half-downloaded stays"
    await manager.admin.send(calls.delete_image("copy"))


@pytest.fixture()
def slow_web(tmp_path: Any, make_image: Any) -> Any:
    """(url of an image.json, its folder, event that lets the kernel through): everything else comes at once."""
    root, through = tmp_path / "web", threading.Event()
    make_image(str(root), "remote")

    class Slow(SimpleHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path.endswith("/kernel"):
                through.wait(30)
            super().do_GET()

        def log_message(self, *arguments: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Slow, directory=str(root)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/remote/image.json", root / "remote", through
    through.set()
    server.shutdown()


async def fetched(manager: Any, name: str, done: int) -> Any:
    for _ in range(100):
        image = await manager.admin.send(calls.get_image(name))
        if image.download and image.download.done == done:
            return image
        await asyncio.sleep(0.05)
    return image


async def test_download_progress_is_reported(manager: Any, slow_web: Any) -> None:
    url, folder, through = slow_web
    manifest = json.loads((folder / "image.json").read_text())
    total = sum(manifest[part]["size"] for part in ("rootfs", "kernel", "initrd"))
    wanted = ImageAdd(name="copy", url=url, sha256=digest(folder / "image.json"))
    added = await manager.admin.send(calls.add_image(wanted))
    assert (added.state, added.download.total) == ("downloading", total)
    image = await fetched(manager, "copy", manifest["rootfs"]["size"])
    assert (image.state, image.download.done, image.download.total) == ("downloading", 4096, total)
    through.set()
    image = await manager.settled_image("copy")
    assert (image.state, image.download, image.error) == ("ready", None, "")


async def test_deleting_an_image_ends_its_download(manager: Any, slow_web: Any) -> None:
    url, folder, through = slow_web
    await manager.admin.send(calls.add_image(ImageAdd(name="copy", url=url, sha256=digest(folder / "image.json"))))
    await fetched(manager, "copy", 4096)
    await manager.admin.send(calls.delete_image("copy"))
    while manager.core.background:
        await asyncio.sleep(0.01)
    through.set()
    assert manager.core.downloads == {}
    assert sorted(os.listdir(manager.core.settings.image_root)) == ["tiny"]


@pytest.mark.parametrize(
    ("told", "content", "state"),
    [
        ("ext4", b"r" * 4096, "ready"),
        ("xfs", b"XFSB" + b"r" * 4092, "ready"),
        ("ext4", b"XFSB" + b"r" * 4092, "corrupt"),
        ("xfs", bytes(0x438) + b"\x53\xef" + bytes(4096 - 0x43A), "corrupt"),
        ("ext4", bytes(0x438) + b"\x53\xef" + bytes(4096 - 0x43A), "ready"),
        ("squashfs", b"hsqs" + b"r" * 4092, "corrupt"),
    ],
)
def test_an_image_whose_type_no_vm_can_have_is_told_early(
    tmp_path: Any, make_image: Any, told: str, content: bytes, state: str
) -> None:
    from nqrust.manager.images import folder

    path = make_image(str(tmp_path), "typed")
    with open(f"{path}/rootfs", "wb") as file:
        file.write(content)
    with open(f"{path}/image.json") as file:
        manifest = json.load(file)
    manifest["rootfs_type"], manifest["rootfs"]["sha256"] = told, hashlib.sha256(content).hexdigest()
    found = folder.check(path, folder.parse_manifest(json.dumps(manifest).encode(), path), {})
    assert found[0] == state and (state == "ready" or told in found[1])


@pytest.mark.skipif(os.geteuid() != 0, reason="root gives a folder away")
def test_images_of_earlier_versions_are_closed_to_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Root's are not: the manager reads them."""
    made, link = tmp_path / "made", tmp_path / "link"
    made.mkdir(mode=0o755)
    link.symlink_to(made)
    registry._keep_private(str(made))
    os.chown(made, 1234, 1234)
    monkeypatch.setattr(registry.os, "geteuid", lambda: 1234)
    registry._keep_private(str(link))
    assert stat.S_IMODE(made.stat().st_mode) == 0o755
    registry._keep_private(str(made))
    assert stat.S_IMODE(made.stat().st_mode) == 0o750


async def test_the_catalogue_of_cloud_images_is_listed_and_a_file_takes_its_place(
    manager: Any, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    viewer = await manager.role("viewer")
    found = {one.name: one for one in (await viewer.send(calls.list_cloud_images())).items}
    assert (found["debian:13"].image, found["debian:13"].description) == ("debian-13", "Debian 13 (trixie)")
    settings = dataclasses.replace(manager.core.settings, bootstrap_file=str(tmp_path / "bootstrap.json"))
    monkeypatch.setattr(manager.core, "settings", settings)
    assert "debian:13" in {one.name for one in (await viewer.send(calls.list_cloud_images())).items}, "there is no file yet"
    own = {"name": "own:1", "url": "http://a.example/d", "checksums": "http://a.example/s"}
    (tmp_path / "image-catalogue.json").write_text(json.dumps({"images": [own]}))
    assert [one.name for one in (await viewer.send(calls.list_cloud_images())).items] == ["own:1"]
    (tmp_path / "image-catalogue.json").write_text("{")
    with pytest.raises(Refused) as refused:
        await viewer.send(calls.list_cloud_images())
    assert refused.value.code == "NQR-IMG-060"


async def test_download_that_ends_during_a_question_does_not_look_lost(manager: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The row was read before the end: without its download, nqr took the image for one that was not pulled."""
    core, begin = manager.core, manager.core.db.transaction
    async with begin() as session:
        row = await session.scalar(select(Image).where(Image.name == "tiny"))
        row.state = "missing"

    @contextlib.asynccontextmanager
    async def ending() -> AsyncIterator[Any]:
        async with begin() as session:
            yield session
        core.downloads.clear()

    monkeypatch.setattr(core.db, "transaction", ending)
    for question in (registry.get(core, "tiny"), registry.list_images(core), pulling.list_found(core, "tiny")):
        core.downloads[row.id] = Download(total=1)
        answer = await question
        (image,) = answer.items if isinstance(answer, ImageList) else (answer,)
        assert (image.name, image.state) == ("tiny", "missing") and image.download is not None


async def test_download_that_breaks_unforeseen_is_not_shown_for_ever(
    manager: Any, slow_web: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(*_: Any) -> None:
        raise RuntimeError("a mistake")

    monkeypatch.setattr(registry.download, "files", broken)
    url, folder, _ = slow_web
    await manager.admin.send(calls.add_image(ImageAdd(name="copy", url=url, sha256=digest(folder / "image.json"))))
    await asyncio.gather(*manager.core.background, return_exceptions=True)
    assert manager.core.downloads == {}
