"""Images by URL: allowed sources and sizes."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import socket
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_address
from typing import Any

import httpcore
import psutil
import pytest

from nqrust.client import calls
from nqrust.client.errors import Refused
from nqrust.contract.images import Download, ImageAdd
from nqrust.manager.images import download, outgoing

ELSEWHERE = "192.0.2.1"


class Web:
    """An image at /remote/. /moved/… redirects to `to`; kernels wait for `through`. `coded`: the name of a file that is said to
    be compressed."""

    coded = ""

    def __init__(self, root: Any) -> None:
        self.folder, self.through, self.to, self.waiting = root / "remote", threading.Event(), "", 0
        self.through.set()
        web = self

        class Handler(SimpleHTTPRequestHandler):
            def do_GET(self) -> None:
                if self.path.startswith("/moved/"):
                    self.send_response(302)
                    self.send_header("Location", web.to + self.path.removeprefix("/moved"))
                    self.end_headers()
                    return
                if self.path.endswith("/kernel"):
                    web.waiting += 1
                    web.through.wait(30)
                super().do_GET()

            def end_headers(self) -> None:
                if web.coded and self.path.endswith(web.coded):
                    self.send_header("Content-Encoding", "gzip, gzip")
                super().end_headers()

            def log_message(self, *arguments: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(root)))
        self.port = self.server.server_port
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def wanted(self, name: str = "copy", host: str = "127.0.0.1", path: str = "remote") -> ImageAdd:
        sha256 = hashlib.sha256((self.folder / "image.json").read_bytes()).hexdigest()
        return ImageAdd(name=name, url=f"http://{host}:{self.port}/{path}/image.json", sha256=sha256)


@pytest.fixture()
def web(tmp_path: Any, make_image: Any) -> Any:
    make_image(str(tmp_path / "web"), "remote")
    web = Web(tmp_path / "web")
    yield web
    web.through.set()
    web.server.shutdown()


@pytest.fixture()
def elsewhere(monkeypatch: Any) -> list[str]:
    """Another machine's address, which is really the web server's. What was connected to."""
    connect, asked = httpcore.AnyIOBackend.connect_tcp, []

    async def connect_tcp(self: Any, host: str, *rest: Any, **more: Any) -> Any:
        asked.append(host)
        return await connect(self, "127.0.0.1" if host == ELSEWHERE else host, *rest, **more)

    monkeypatch.setattr(httpcore.AnyIOBackend, "connect_tcp", connect_tcp)
    return asked


async def test_a_download_that_takes_too_long_makes_room_for_others(manager: Any, web: Web, monkeypatch: Any) -> None:
    monkeypatch.setattr(download, "_SECONDS", 1.0)
    web.through.clear()
    await manager.admin.send(calls.add_image(web.wanted()))
    image = await manager.settled_image("copy")
    assert image.state == "corrupt" and "took longer" in image.error
    assert nothing_came(manager) and not manager.core.fetching.locked()


async def test_no_login_in_an_address_is_shown_to_viewers(manager: Any, web: Web) -> None:
    (web.folder / "kernel").unlink()
    await manager.admin.send(calls.add_image(web.wanted(host="ann:word@127.0.0.1")))
    image = await manager.settled_image("copy")
    assert image.state == "corrupt" and "404" in image.error
    told = " ".join(event.message for event in (await manager.admin.send(calls.list_events())).items)
    assert "404" in told and "word" not in told + image.error
    with pytest.raises(Refused) as refused:
        await manager.admin.send(calls.add_image(web.wanted("other", host="ann:word@127.0.0.1", path="none")))
    assert "404" in str(refused.value) and "word" not in str(refused.value)


def nothing_came(manager: Any) -> bool:
    return sorted(os.listdir(manager.core.settings.image_root)) == ["tiny"] and not manager.core.downloads


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "localhost", "[::1]", "2130706433", "0.0.0.0", "169.254.169.254", "[fe80::1]", "[::ffff:127.0.0.1]"]
)
async def test_an_operator_fetches_nothing_from_the_managers_own_machine(manager: Any, web: Web, host: str) -> None:
    operator = await manager.role("operator")
    with pytest.raises(Refused) as refused:
        await operator.send(calls.add_image(web.wanted(host=host)))
    assert (refused.value.status, refused.value.code) == (422, "NQR-IMG-114")
    assert nothing_came(manager)


async def test_an_operator_fetches_from_elsewhere_and_an_administrator_from_here_too(
    manager: Any, web: Web, elsewhere: list[str]
) -> None:
    await (await manager.role("operator")).send(calls.add_image(web.wanted("far", ELSEWHERE)))
    assert (await manager.settled_image("far")).state == "ready"
    assert set(elsewhere) == {ELSEWHERE}
    await manager.admin.send(calls.add_image(web.wanted("near")))
    assert (await manager.settled_image("near")).state == "ready"


@pytest.mark.parametrize("name", ["image.json", "kernel"])
async def test_nothing_that_is_compressed_is_expanded(manager: Any, web: Web, name: str) -> None:
    """A few bytes could become any number of them."""
    web.coded = name
    if name == "image.json":
        with pytest.raises(Refused, match="compressed"):
            await manager.admin.send(calls.add_image(web.wanted()))
    else:
        await manager.admin.send(calls.add_image(web.wanted()))
        assert "compressed" in str(await manager.settled_image("copy"))
    assert os.listdir(manager.core.settings.image_root).count("copy") == 0


@pytest.mark.parametrize("role", ["operator", "admin"])
async def test_no_redirect_leads_to_the_managers_own_machine(manager: Any, web: Web, elsewhere: list[str], role: str) -> None:
    client = await manager.role(role)
    web.to = f"http://127.0.0.1:{web.port}"
    with pytest.raises(Refused) as refused:
        await client.send(calls.add_image(web.wanted(host=ELSEWHERE, path="moved/remote")))
    assert refused.value.code == "NQR-IMG-114" and set(elsewhere) == {ELSEWHERE} and nothing_came(manager)
    web.to = f"http://{ELSEWHERE}:{web.port}"
    await client.send(calls.add_image(web.wanted(host=ELSEWHERE, path="moved/remote")))
    assert (await manager.settled_image("copy")).state == "ready"
    web.to = f"http://{ELSEWHERE}:{web.port}/moved"
    with pytest.raises(Refused, match="redirects"):
        await client.send(calls.add_image(web.wanted("endless", host=ELSEWHERE, path="moved/remote")))


async def test_download_connects_to_the_address_that_was_checked(
    manager: Any, web: Web, elsewhere: list[str], monkeypatch: Any
) -> None:
    lookup, said = socket.getaddrinfo, list[str]()

    def getaddrinfo(host: Any, *rest: Any, **more: Any) -> Any:
        if host != "images.test":
            return lookup(host, *rest, **more)
        said.append(host)
        return [(2, 1, 6, "", (ELSEWHERE if len(said) == 1 else "127.0.0.1", 0))]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    operator = await manager.role("operator")
    await operator.send(calls.add_image(web.wanted(host="images.test")))
    image = await manager.settled_image("copy")
    assert image.state == "corrupt" and "images.test is this machine" in image.error
    assert set(elsewhere) == {ELSEWHERE}


async def test_names_that_no_name_server_answers_keep_nobody_else_waiting(
    manager: Any, web: Web, elsewhere: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    lookup, asked, release = socket.getaddrinfo, list[str](), threading.Event()

    def getaddrinfo(host: Any, *rest: Any, **more: Any) -> Any:
        if not str(host).endswith(".dead.test"):
            return [(2, 1, 6, "", (ELSEWHERE, 0))] if host == "images.test" else lookup(host, *rest, **more)
        asked.append(host)
        release.wait(30)
        raise socket.gaierror(-3, "Temporary failure in name resolution")

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    operator = await manager.role("operator")
    slow = [
        asyncio.create_task(operator.send(calls.add_image(web.wanted(f"slow-{n}", host=f"{n}.dead.test")))) for n in range(40)
    ]
    try:
        while len(asked) < outgoing._AT_ONCE:
            await asyncio.sleep(0.02)
        await asyncio.wait_for(manager.admin.send(calls.scan_images()), 5)
        await asyncio.wait_for(manager.admin.send(calls.add_image(web.wanted(host="images.test"))), 5)
        assert (len(asked), outgoing._LOOKUP) == (4, 20)
        monkeypatch.setattr(outgoing, "_LOOKUP", 0.2)
        with pytest.raises(Refused, match=r"late\.dead\.test cannot be resolved: no answer in 0 s"):
            await manager.admin.send(calls.add_image(web.wanted("late", host="late.dead.test")))
    finally:
        release.set()
    assert all(isinstance(end, Refused) for end in await asyncio.gather(*slow, return_exceptions=True))


async def test_an_image_that_the_disk_has_no_room_for_is_refused_at_once(manager: Any, web: Web) -> None:
    manifest = json.loads((web.folder / "image.json").read_text())
    manifest["rootfs"]["size"] = 10**13
    (web.folder / "image.json").write_text(json.dumps(manifest))
    with pytest.raises(Refused) as refused:
        await manager.admin.send(calls.add_image(web.wanted()))
    assert (refused.value.status, refused.value.code) == (422, "NQR-IMG-115")
    assert (await manager.admin.send(calls.list_images())).total == 1 and nothing_came(manager)


async def test_disk_space_check_counts_running_downloads(manager: Any, web: Web) -> None:
    manager.core.downloads["other"] = Download(done=0, total=10**13)
    with pytest.raises(Refused) as refused:
        await manager.admin.send(calls.add_image(web.wanted()))
    assert refused.value.code == "NQR-IMG-115"
    manager.core.downloads["other"].done = 10**13
    await manager.admin.send(calls.add_image(web.wanted()))
    assert (await manager.settled_image("copy")).state == "ready"


async def test_a_disk_that_fills_meanwhile_ends_the_download(manager: Any, web: Web, monkeypatch: Any) -> None:
    web.through.clear()
    await manager.admin.send(calls.add_image(web.wanted()))
    while not web.waiting:
        await asyncio.sleep(0.01)
    monkeypatch.setattr(download, "room", lambda path: 0)
    web.through.set()
    image = await manager.settled_image("copy")
    assert image.state == "corrupt" and "less than 1 GiB on the image folder" in image.error and nothing_came(manager)


async def test_at_most_two_images_download_at_a_time(manager: Any, web: Web) -> None:
    web.through.clear()
    for name in ("one", "two", "three"):
        await manager.admin.send(calls.add_image(web.wanted(name)))
    while web.waiting < 2:
        await asyncio.sleep(0.01)
    await asyncio.sleep(0.3)
    assert web.waiting == 2
    web.through.set()
    assert [(await manager.settled_image(name)).state for name in ("one", "two", "three")] == ["ready"] * 3


async def test_no_proxy_of_the_environment_is_used(manager: Any, web: Web, elsewhere: list[str], monkeypatch: Any) -> None:
    """It would connect to what the manager itself must not."""
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://192.0.2.99:3128")
    await manager.admin.send(calls.add_image(web.wanted("far", ELSEWHERE)))
    assert (await manager.settled_image("far")).state == "ready"
    assert set(elsewhere) == {ELSEWHERE}


async def test_an_image_from_a_url_does_not_pass_for_one_of_a_registry(manager: Any, web: Web) -> None:
    path = web.folder / "image.json"
    claimed = json.loads(path.read_text()) | {"origin": "docker.io/library/nginx:latest", "digest": f"sha256:{'1' * 64}"}
    path.write_text(json.dumps(claimed))
    await manager.admin.send(calls.add_image(web.wanted("near")))
    assert (await manager.settled_image("near")).origin == ""
    await manager.admin.send(calls.scan_images())
    assert (await manager.admin.send(calls.list_images("nginx"))).items == []


def test_all_addresses_of_this_machine_are_local() -> None:
    """Its services on other addresses than loopback may trust it, too."""
    families = (socket.AF_INET, socket.AF_INET6)
    own = [one.address for found in psutil.net_if_addrs().values() for one in found if one.family in families]
    addresses = [ip_address(one.partition("%")[0]) for one in own]
    assert addresses and all(map(outgoing._is_local, addresses)), addresses
    assert not any(outgoing._is_local(ip_address(one)) for one in ("198.51.100.7", "2001:db8::7", "100.100.100.201"))


@pytest.mark.parametrize(
    "address", ["169.254.169.254", "100.100.100.200", "168.63.129.16", "::ffff:168.63.129.16", "fd00:ec2::254"]
)
async def test_no_operator_reaches_the_metadata_of_a_cloud(manager: Any, address: str) -> None:
    """Requests that nobody sees the answers of can change something there, too."""
    operator = await manager.role("operator")
    url = f"http://[{address}]/image.json" if ":" in address else f"http://{address}/image.json"
    with pytest.raises(Refused) as refused:
        await operator.send(calls.add_image(ImageAdd(name="mine", url=url, sha256="0" * 64)))
    assert refused.value.code == "NQR-IMG-114"
