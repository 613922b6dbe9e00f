"""Names of container images, as people write them."""

from __future__ import annotations

import re

import pytest

from nqrust.contract.images import IMAGE_NAME_PATTERN
from nqrust.image.errors import ImageError
from nqrust.image.oci.reference import parse

DIGEST = "sha256:" + "a" * 64


@pytest.mark.parametrize(
    ("written", "complete", "name"),
    [
        ("nginx", "docker.io/library/nginx:latest", "nginx-latest"),
        ("nginx:alpine", "docker.io/library/nginx:alpine", "nginx-alpine"),
        ("docker.io/library/nginx:alpine", "docker.io/library/nginx:alpine", "nginx-alpine"),
        ("docker.io/nginx", "docker.io/library/nginx:latest", "nginx-latest"),
        ("index.docker.io/me/app:1", "docker.io/me/app:1", "app-1"),
        ("team/app_x:V1.0", "docker.io/team/app_x:V1.0", "app-x-v1.0"),
        ("localhost/app", "localhost/app:latest", "app-latest"),
        ("localhost:5000/app", "localhost:5000/app:latest", "app-latest"),
        ("127.0.0.1:5000/a/b/c:x", "127.0.0.1:5000/a/b/c:x", "c-x"),
        ("[::1]:5000/app:x", "[::1]:5000/app:x", "app-x"),
        (f"nginx@{DIGEST}", f"docker.io/library/nginx@{DIGEST}", "nginx-aaaaaaaaaaaa"),
        (f"nginx:1.27@{DIGEST}", f"docker.io/library/nginx@{DIGEST}", "nginx-aaaaaaaaaaaa"),
    ],
)
def test_a_reference_is_completed_and_gives_a_name(written: str, complete: str, name: str) -> None:
    parsed = parse(written)
    assert (str(parsed), parsed.image_name) == (complete, name)
    assert str(parse(complete)) == complete
    assert re.fullmatch(IMAGE_NAME_PATTERN, parsed.image_name)


def test_a_long_name_stays_usable_and_distinct() -> None:
    names = {parse(f"registry.example/{'a' * 100}:{tag}").image_name for tag in ("one", "two")}
    assert len(names) == 2 and all(re.fullmatch(IMAGE_NAME_PATTERN, name) for name in names)


@pytest.mark.parametrize(("written", "host"), [("nginx", "docker.io"), ("h.x:5000/a", "h.x"), ("[::1]:5000/a", "::1")])
def test_the_host_of_a_registry(written: str, host: str) -> None:
    assert parse(written).host == host


@pytest.mark.parametrize(
    "written",
    [
        "", ":x", "/x", "a b", "UPPER", "-x", "--flag", "nginx:", "nginx:-x", "nginx@", "nginx@sha256:12", f"nginx@md5:{'a' * 32}",
        "http://registry.example/a", "a//b", "../x", "a/../b", "host.x:99999999/a", "a\nb", "host.x/a:b:c", "x" * 300, "nginx:" + "t" * 129,
    ],
)  # fmt: skip
def test_what_is_no_name_is_refused_before_anything_runs(written: str) -> None:
    with pytest.raises(ImageError) as refused:
        parse(written)
    assert refused.value.code == "NQR-IMG-031"
