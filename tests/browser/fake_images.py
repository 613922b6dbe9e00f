"""The images of the manager in memory."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fastapi import Depends, FastAPI

from nqrust.contract import images
from tests.browser.world import Refusal, World


def serve(app: FastAPI, state: Callable[[], World], who: Any, operator: Any) -> None:
    @app.get("/v1/images", dependencies=[Depends(who)])
    async def list_images(reference: str | None = None) -> images.ImageList:
        if reference is not None:
            found = [image for image in state().images.values() if reference in (image.name, image.origin)]
            return images.ImageList(items=found, total=len(found))
        return images.ImageList(items=list(state().images.values()), total=len(state().images))

    @app.get("/v1/image-catalogue", dependencies=[Depends(who)])
    async def list_cloud_images() -> images.CloudImageList:
        found = [images.CloudImage(name="debian:13", aliases=("debian",), description="Debian 13 (trixie)", image="debian-13")]
        return images.CloudImageList(items=found, total=1)

    @app.post("/v1/images", dependencies=[Depends(operator)], status_code=201)
    async def add_image(wanted: images.ImageAdd) -> images.Image:
        if wanted.path and not wanted.path.startswith("/srv/images/"):
            why = f"{wanted.path} is not below an allowed folder"
            raise Refusal(422, "Not allowed", why, "NQR-IMG-020", "Move it below /srv/images.")
        if wanted.url:
            return state().fetch_image(wanted.name, broken="broken" in wanted.url)
        return state().add_image(wanted.name)

    @app.get("/v1/images/{name}", dependencies=[Depends(who)])
    async def get_image(name: str) -> images.Image:
        return state().images[name]

    @app.post("/v1/images/pull", dependencies=[Depends(operator)], status_code=202)
    async def pull_image(wanted: images.ImagePull) -> images.Image:
        if wanted.reference.startswith("127.") and wanted.tls_verify:
            why = f"{wanted.reference} is on the manager's own machine"
            raise Refusal(403, "Not allowed", why, "NQR-IMG-114", "Ask an administrator to pull it.")
        name = wanted.name or wanted.reference.rpartition("/")[2].replace(":", "-")
        return state().fetch_image(name, broken="broken" in wanted.reference, origin=wanted.reference)

    @app.post("/v1/images/scan", dependencies=[Depends(operator)])
    async def scan_images() -> images.ImageList:
        if "debian-12" not in state().images:
            state().add_image("debian-12", "Debian 12 with systemd")
        return await list_images()

    @app.delete("/v1/images/{name}", dependencies=[Depends(operator)], status_code=204)
    async def delete_image(name: str) -> None:
        state().images.pop(name, None)
