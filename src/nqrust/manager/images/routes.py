"""Images."""

from __future__ import annotations

from fastapi import APIRouter, Response
from fastapi.responses import FileResponse, JSONResponse

from nqrust.contract.images import CloudImageList, Image, ImageAdd, ImageList, ImagePull
from nqrust.manager.access.guards import CoreDep, Operator, OperatorOrAgent, Viewer
from nqrust.manager.audit import about
from nqrust.manager.images import cloud, outgoing, pulling, registry

router = APIRouter(prefix="/v1/images", tags=["images"])
catalogue = APIRouter(prefix="/v1/image-catalogue", tags=["images"])


@catalogue.get("")
async def list_cloud_images(core: CoreDep, _: Viewer) -> CloudImageList:
    """List the cloud images that `nqr image pull` imports on the manager's host."""
    return await cloud.listed(core)


@router.get("")
async def list_images(core: CoreDep, who: Viewer, reference: str | None = None) -> ImageList:
    """List the images. `reference`: only the one of that name, or pulled from it. Viewers do not see the variables of a process."""
    found = await (registry.list_images(core) if reference is None else pulling.list_found(core, reference))
    return ImageList(items=[registry.shown_to(who, image) for image in found.items], total=found.total)


@router.post("", status_code=201, response_model=Image)
async def add_image(core: CoreDep, who: Operator, body: ImageAdd) -> Response:
    """Add an image. `path`: a folder below an allowed root. `url`: of an image.json, with its sha256.

    The files of a `url` are downloaded in the background (202, state `downloading`). Only an administrator may give a URL of the
    manager's own machine.
    """
    image = await registry.add(core, body, outgoing.way(core, who))
    about(new=image.name)
    return JSONResponse(image.model_dump(mode="json"), status_code=202 if image.state == "downloading" else 201)


@router.post("/pull", status_code=202)
async def pull_image(core: CoreDep, who: Operator, body: ImagePull) -> Image:
    """Pull an image from a source, such as a registry of container images, in the background (state `downloading`).

    An image with the same origin is replaced once the new one is complete. Only an administrator may name a registry on the
    manager's own machine.
    """
    image = await pulling.pull(core, body, outgoing.way(core, who))
    about(new=image.name)
    return image


@router.post("/scan")
async def scan_images(core: CoreDep, _: Operator) -> ImageList:
    """Scan the image folder again."""
    return await registry.scan(core)


@router.get("/{name}")
async def get_image(core: CoreDep, who: Viewer, name: str) -> Image:
    return registry.shown_to(who, await registry.get(core, name))


@router.delete("/{name}", status_code=204)
async def delete_image(core: CoreDep, _: Operator, name: str) -> None:
    """Delete an image. Refused while a VM uses it."""
    await registry.delete(core, name)


@router.get("/{name}/blobs/{file}", response_class=FileResponse)
async def get_blob(core: CoreDep, who: OperatorOrAgent, name: str, file: str) -> FileResponse:
    """Return one file of an image, for agents that lack it. An agent gets images of its own VMs only."""
    path, sha256 = await registry.blob_path(core, name, file, host_id=who.host_id)
    return FileResponse(path, media_type="application/octet-stream", headers={"ETag": f'"{sha256}"'})
