"""Copies a container image from a registry into an OCI layout, with skopeo(1). Its signature policy is not used: the manifest's
digest is recorded and shown, and every blob is checked against it afterwards."""

from __future__ import annotations

import base64
import json
import re

from nqrust.host.environment import certificates
from nqrust.host.errors import CommandFailed, CommandTimedOut, HostError, ProgramMissing
from nqrust.host.port import Command, Host, command
from nqrust.host.secret import Secret
from nqrust.image.errors import ImageError
from nqrust.image.oci.models import LARGEST_DOCUMENT, Manifest
from nqrust.image.oci.reference import Reference

_SECONDS = 3600.0
_REASON = re.compile(r'msg="((?:[^"\\]|\\.)*)"')
_ACCESS = ("unauthorized", "authentication required", "access denied", "denied:", "403", "401")
_MISSING = ("manifest unknown", "name unknown", "not found", "404")


def login_file(reference: Reference, username: str, password: Secret) -> Secret:
    """Return the content of an authentication file (containers-auth.json(5)) for the registry of `reference`."""
    pair = base64.b64encode(f"{username}:{password.reveal()}".encode()).decode()
    return Secret(json.dumps({"auths": {reference.registry: {"auth": pair}}}))


def total(host: Host, reference: Reference, scratch: str, *, tls_verify: bool) -> int:
    """Return the bytes that the copy will take: configuration and layers. 0: not known. Raises ImageError as `copy` does."""
    given = command(
        "skopeo", "inspect", "--raw", *_access(host, scratch, "", tls_verify), f"docker://{reference}",
        timeout=120.0, longest=LARGEST_DOCUMENT,
    )  # fmt: skip
    try:
        manifest = Manifest.model_validate_json(_run(host, reference, given))
    except ValueError:  # an index: its images are told apart by skopeo
        return 0
    return manifest.config.size + sum(layer.size for layer in manifest.layers)


def copy(host: Host, reference: Reference, scratch: str, *, tls_verify: bool) -> str:
    """Copy the image for this platform into the layout `scratch`/layout and return its path. `scratch` may hold `login.json`.

    Raises ImageError NQR-IMG-030 (no skopeo), NQR-IMG-039 (refused), NQR-IMG-040 (no such image), NQR-IMG-041 (another reason).
    """
    target = f"{scratch}/layout"
    given = command(
        "skopeo", "--insecure-policy", "--override-os", "linux", "--override-arch", "amd64", "--tmpdir", scratch,
        "copy", "--retry-times", "2", *_access(host, scratch, "src-", tls_verify),
        f"docker://{reference}", f"oci:{target}:image",
        timeout=_SECONDS, longest=LARGEST_DOCUMENT,
    )  # fmt: skip
    _run(host, reference, given)
    return target


def _access(host: Host, scratch: str, prefix: str, tls_verify: bool) -> list[str]:
    # Without a file of its own, skopeo would look for the credentials of whoever runs it.
    name = "authfile" if not prefix else f"{prefix}authfile"
    words = [f"--{name}={scratch}/login.json"] if host.exists(f"{scratch}/login.json") else [f"--{prefix}no-creds"]
    return [*words, f"--{prefix}tls-verify={'true' if tls_verify else 'false'}"]


def _run(host: Host, reference: Reference, given: Command) -> str:
    trusted = certificates(host.environment())
    env = {"SSL_CERT_FILE": trusted} if trusted else {}
    try:
        return host.run(Command(**{**given.__dict__, "env": env})).stdout
    except ProgramMissing as error:
        raise ImageError(
            "NQR-IMG-030",
            "The program skopeo, which fetches container images, is not installed on the manager's host.",
            "Run nqr install there again: it installs the package skopeo. Then pull again.",
        ) from error
    except CommandTimedOut as error:
        raise failed(reference, f"it took longer than {given.timeout:.0f} s") from error
    except CommandFailed as error:
        raise _reason(reference, error.stderr) from error
    except HostError as error:
        raise failed(reference, str(error)) from error


def _reason(reference: Reference, told: str) -> ImageError:
    found = _REASON.findall(told)
    why = (found[-1] if found else (told.strip().splitlines() or ["skopeo told nothing"])[-1]).replace('\\"', '"')
    why = "".join(sign for sign in why if sign.isprintable())[:400].rstrip(".")
    lower = why.lower()
    if any(word in lower for word in _MISSING):
        return missing(reference, why)
    if any(word in lower for word in _ACCESS):
        return refused(reference, why)
    if "server gave http response to https client" in lower:
        return plain_http(reference)
    return failed(reference, why)


def missing(reference: Reference, why: str) -> ImageError:
    return ImageError(
        "NQR-IMG-040", f"There is no container image {reference}: {why}.", "Check the name and the tag at the registry."
    )


def refused(reference: Reference, why: str) -> ImageError:
    return ImageError(
        "NQR-IMG-039",
        f"The registry {reference.registry} refuses access to {reference.path}: {why}.",
        "Check the name, and give --username and --password-file for a private image.",
    )


def plain_http(reference: Reference) -> ImageError:
    return ImageError(
        "NQR-IMG-041",
        f"The registry {reference.registry} speaks plain HTTP.",
        "Serve it over TLS, or give --insecure for a registry that you trust.",
    )


def failed(reference: Reference, why: str) -> ImageError:
    return ImageError(
        "NQR-IMG-041",
        f"The container image {reference} could not be fetched: {why}.",
        "Check the registry, and the network and proxy of the manager's host.",
    )
