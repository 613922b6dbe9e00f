"""The API against its own description: generated requests, none of which may end in a 5xx or an undescribed answer.

The manager is a process of its own here, as installed, with no agents that answer. All requests use TLS.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from nqrust.client import calls
from nqrust.client.manager import ManagerClient, Unreachable
from nqrust.contract.credentials import hash_password, hash_token
from nqrust.tls import authority

TOKEN = "nqr_" + "s" * 43
EXAMPLES = int(os.environ.get("NQR_SCHEMATHESIS_EXAMPLES", "3"))
MANY = max(8, EXAMPLES)


@pytest.fixture(scope="module")
def process(cluster: Any, migrated: str, make_image_module: Any, tmp_path_factory: Any) -> Any:
    """Base URL of a running `nqrust-manager`. Programs that use `requests` trust its authority meanwhile."""
    folder = tmp_path_factory.mktemp("manager")
    make_image_module(str(folder / "images"))
    (folder / "bootstrap.json").write_text(
        json.dumps(
            {
                "admin_password_hash": hash_password("a long password"),
                "tokens": [{"name": "cli", "sha256": hash_token(TOKEN), "role": "admin"}],
            }
        )
    )
    made = authority.new_authority("test")
    (folder / "ca.crt").write_text(made.certificate)
    (folder / "ca.key").write_text(made.key)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with open(folder / "log", "w") as log:
        manager = subprocess.Popen(
            [sys.executable, "-m", "nqrust.manager"],
            stderr=log,
            env={
                "PATH": "/usr/bin:/bin",
                "DATABASE_URL": cluster.fresh(migrated),
                "MANAGER_BIND": f"127.0.0.1:{port}",
                "MANAGER_IMAGE_ROOT": str(folder / "images"),
                "MANAGER_BOOTSTRAP_FILE": str(folder / "bootstrap.json"),
                "MANAGER_CA_FILE": str(folder / "ca.crt"),
                "MANAGER_CA_KEY_FILE": str(folder / "ca.key"),
            },
        )
    url = f"https://localhost:{port}"
    try:
        for _ in range(300):
            try:
                with ManagerClient(url, authority=made.certificate) as client:
                    client.send(calls.health())
                break
            except Unreachable:
                assert manager.poll() is None, (folder / "log").read_text()
                time.sleep(0.1)
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("REQUESTS_CA_BUNDLE", str(folder / "ca.crt"))
            yield url
        assert manager.poll() is None, "it must survive all this"
    finally:
        manager.send_signal(signal.SIGTERM)
        manager.wait(15)


@pytest.mark.parametrize("examples", [EXAMPLES, pytest.param(MANY, marks=pytest.mark.matrix, id="many")])
@pytest.mark.parametrize("mode", list(GenerationMode), ids=lambda mode: str(mode.value))
def test_no_generated_request_breaks_it_or_surprises_its_description(process: str, mode: GenerationMode, examples: int) -> None:
    headers = {"Authorization": f"Bearer {TOKEN}"}
    schema = schemathesis.openapi.from_url(f"{process}/openapi.json", headers=headers)
    operations = [result.ok() for result in schema.get_all_operations()]
    assert len(operations) >= 43
    for operation in operations:

        @settings(
            max_examples=examples,
            deadline=None,
            database=None,
            suppress_health_check=list(HealthCheck),
            phases=[Phase.explicit, Phase.generate],
        )
        @given(case=operation.as_strategy(generation_mode=mode))
        def attempt(case: Any) -> None:
            response = case.call(headers=headers, timeout=30)
            case.validate_response(
                response,
                checks=[
                    not_a_server_error,
                    status_code_conformance,
                    content_type_conformance,
                    response_schema_conformance,
                ],
            )

        try:
            attempt()
        except Unsatisfiable:
            assert mode is GenerationMode.NEGATIVE, "an operation without parameters has no wrong request"
