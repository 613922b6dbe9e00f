"""nqr image pull: a cloud image of the catalogue, or a container image from a registry, with its progress."""

from __future__ import annotations

import os
import sys
import time
from typing import TYPE_CHECKING, Annotated

import typer

from nqrust.cli import image_import, output
from nqrust.cli.connection import ManagerUrl, manager
from nqrust.cli.output import Output
from nqrust.contract.text import argument, plain, shown_in_line
from nqrust.installer.engine.errors import NqrError, UsageError

if TYPE_CHECKING:
    from nqrust.client.manager import ManagerClient
    from nqrust.contract.images import Image, ImagePull, RegistryLogin
    from nqrust.image.cloud.catalogue import CloudImage

Username = Annotated[str | None, typer.Option("--username", metavar="NAME", help="User of the registry.")]
PasswordFile = Annotated[
    str | None,
    typer.Option("--password-file", metavar="FILE", help="File with the password or token for --username, or - for stdin."),
]
Insecure = Annotated[bool, typer.Option("--insecure", help="Accept a registry with plain HTTP or any certificate.")]
_EVERY = 0.5


def pull(
    reference: Annotated[
        str,
        typer.Argument(
            metavar="REFERENCE", help="Container image such as nginx:alpine, or name in the catalogue of cloud images."
        ),
    ],
    name: Annotated[
        str | None, typer.Option("--name", metavar="NAME", help="Name of the image (default: from the reference).")
    ] = None,
    username: Username = None,
    password_file: PasswordFile = None,
    insecure: Insecure = False,
    wait: Annotated[bool, typer.Option("--wait/--no-wait", help="Wait until the image is ready.")] = True,
    out: Output = "text",
    url: ManagerUrl = None,
) -> None:
    from nqrust.client import calls

    entry = image_import.of_catalogue(reference)
    if entry is not None and (username or password_file or insecure or not wait):
        raise UsageError(
            "NQR-USE-007",
            f"{reference} is a cloud image: --username, --password-file, --insecure and --no-wait are for container images.",
            f"Leave them out, or name the container image: docker.io/library/{reference}",
        )
    with manager(url) as client:
        if entry is not None:
            found = _import(client, name or entry.image, entry)
        else:
            asked = request(reference, name, login(username, password_file), insecure)
            found = complete(client, asked) if wait else client.send(calls.pull_image(asked))
    output.details(
        found, out, [("name", found.name), ("state", found.state), ("pulled from", found.origin), ("digest", found.digest)]
    )


def is_reference(wanted: str) -> bool:
    """Return whether this is no name of an image of the manager: it has a tag or a registry."""
    return ":" in wanted or "/" in wanted


def known(client: ManagerClient, wanted: str, *, cloud: bool = True) -> Image | None:
    """Return the manager's image of a name, or of the reference that it was pulled from. `cloud`: the catalogue goes before
    registries. Raises ImageError NQR-IMG-060."""
    from nqrust.client import calls

    entry = image_import.of_catalogue(wanted) if cloud and is_reference(wanted) else None
    return next(iter(client.send(calls.list_images(entry.image if entry else wanted)).items), None)


def present(client: ManagerClient, wanted: str) -> str:
    """Return the image for `--image`. One with a tag or a registry in its name is imported or pulled if the manager does not have
    it. Raises NqrError."""
    if not is_reference(wanted):
        return wanted
    found = known(client, wanted)
    if found is not None and found.state == "ready":
        return found.name
    entry = image_import.of_catalogue(wanted)
    if entry is None:
        return complete(client, request(wanted, None, None, False)).name
    return _import(client, entry.image, entry).name


def _import(client: ManagerClient, name: str, entry: CloudImage) -> Image:
    from nqrust.client import calls

    if os.geteuid() != 0:
        raise UsageError(
            "NQR-USE-001",
            f"{entry.name} is a cloud image. Only root on the manager's host can import it.",
            f"Run it with sudo there: sudo nqr image pull {argument(entry.name)}",
        )
    image_import.into(client, name, entry)
    return client.send(calls.get_image(name))


def login(username: str | None, password_file: str | None) -> RegistryLogin | None:
    """Return the credentials of the options. Raises UsageError NQR-USE-007, NQR-USE-003."""
    if username is None and password_file is None:
        return None
    if username is None or password_file is None:
        raise UsageError(
            "NQR-USE-007",
            "Credentials need both --username and --password-file.",
            "For example: nqr image pull IMAGE --username me --password-file token.txt",
        )
    from pydantic import ValidationError

    from nqrust.contract.images import RegistryLogin

    try:
        if password_file == "-":
            password = sys.stdin.read()
        else:
            with open(password_file, encoding="utf-8") as file:
                password = file.read()
        return RegistryLogin(username=username, password=password.rstrip("\r\n"))
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError("NQR-USE-003", f"The password cannot be read from {password_file}.", "Check the file.") from error
    except ValidationError:
        raise UsageError("NQR-USE-003", "The username or the password is not usable.", "Check both.") from None


def request(reference: str, name: str | None, credentials: RegistryLogin | None, insecure: bool) -> ImagePull:
    """Return the request. Raises UsageError NQR-USE-003."""
    from pydantic import ValidationError

    from nqrust.contract.images import ImagePull

    try:
        return ImagePull(reference=reference, name=name, login=credentials, tls_verify=not insecure)
    except ValidationError as error:
        field = error.errors()[0]["loc"][0]
        raise UsageError(
            "NQR-USE-003",
            f"“{name if field == 'name' else reference}” is not a usable {field}.",
            "Write the image as in nginx:alpine and the name as in nginx-1.",
        ) from None


def complete(client: ManagerClient, asked: ImagePull) -> Image:
    """Pull and wait, with progress on standard error. Return the ready image. Raises NqrError NQR-IMG-043."""
    from nqrust.client import calls

    found = client.send(calls.pull_image(asked))
    shown = ""
    while found.download is not None or found.state == "downloading":
        shown = _tell(found, shown)
        time.sleep(_EVERY)
        found = client.send(calls.get_image(found.name))
    if sys.stderr.isatty() and shown:
        sys.stderr.write("\r\x1b[K")
    if found.state != "ready" or found.error:
        why = found.error.rstrip(".") or f"it is {found.state}"
        raise NqrError("NQR-IMG-043", f"{asked.reference} was not pulled. {why}.", "Correct this, then pull again.")
    return found


def _tell(found: Image, before: str) -> str:
    """Show the progress: in one line that changes on a terminal, elsewhere a line for each step."""
    # An image chose some of the words.
    got = found.download
    step = " ".join(plain(got.step if got else "").split()) or "pulling"
    if sys.stderr.isatty():
        amount = f" {output.size(got.done)} of {output.size(got.total)}" if got and got.total else ""
        text = shown_in_line(f"{found.name}: {step}{amount}")
        if text != before:
            sys.stderr.write(f"\r\x1b[K{text[:100]}")
            sys.stderr.flush()
        return text
    step = step.partition(" (")[0]
    if step != before:
        output.say(f"{found.name}: {step}", err=True)
    return step
