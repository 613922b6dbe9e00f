"""nqr image pull: an image from a registry of container images, with its progress."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Annotated

import typer

from nqrust.cli import output
from nqrust.cli.connection import ManagerUrl, manager
from nqrust.cli.output import Output
from nqrust.installer.engine.errors import NqrError, UsageError

if TYPE_CHECKING:
    from nqrust.client.manager import ManagerClient
    from nqrust.contract.images import Image, ImagePull, RegistryLogin

Username = Annotated[str | None, typer.Option("--username", metavar="NAME", help="User of the registry.")]
PasswordFile = Annotated[
    str | None,
    typer.Option("--password-file", metavar="FILE", help="File with the password or token for --username, or - for stdin."),
]
Insecure = Annotated[bool, typer.Option("--insecure", help="Accept a registry with plain HTTP or any certificate.")]
_EVERY = 0.5


def pull(
    reference: Annotated[str, typer.Argument(metavar="REFERENCE", help="Container image, such as nginx:alpine.")],
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

    asked = request(reference, name, login(username, password_file), insecure)
    with manager(url) as client:
        found = complete(client, asked) if wait else client.send(calls.pull_image(asked))
    output.details(
        found, out, [("name", found.name), ("state", found.state), ("pulled from", found.origin), ("digest", found.digest)]
    )


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
    step, got = (found.download.step if found.download else ""), found.download
    if sys.stderr.isatty():
        amount = f" {output.size(got.done)} of {output.size(got.total)}" if got and got.total else ""
        text = f"{found.name}: {step}{amount}"
        if text != before:
            sys.stderr.write(f"\r\x1b[K{text[:100]}")
            sys.stderr.flush()
        return text
    step = step.partition(" (")[0]
    if step and step != before:
        typer.echo(f"{found.name}: {step}", err=True)
    return step or before
