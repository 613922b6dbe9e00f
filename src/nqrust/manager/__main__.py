"""`nqrust-manager`: serve; `nqrust-manager migrate`: bring the database up to date and exit.

Exit codes: 0 done, 1 the database is unreachable or has no tables, 2 bad usage or settings.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys

from nqrust import __version__
from nqrust.manager.errors import DatabaseAway, SchemaMissing, SettingsError


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="nqrust-manager", description="The NQRust-MicroVM manager.")
    parser.add_argument("--version", action="version", version=__version__)
    parser.add_argument("command", nargs="?", choices=("serve", "migrate"), default="serve")
    command = parser.parse_args(argv).command
    try:
        return _migrate() if command == "migrate" else asyncio.run(_serve())
    except SettingsError as error:
        return _say(2, error.code, str(error))
    except SchemaMissing as error:
        return _say(1, error.code, str(error))
    except DatabaseAway as error:
        return _say(1, error.code, f"{error.detail} {error.cure}")
    except KeyboardInterrupt:
        return 130


def _migrate() -> int:
    from nqrust.manager import logs
    from nqrust.manager.settings import from_environment
    from nqrust.manager.store.migrate import migrate

    settings = from_environment(os.environ)
    logs.configure(settings.log_level)
    before, after = migrate(settings.sqlalchemy_url, settings.database_wait_seconds)
    told = f"database is at schema {after} already" if before == after else f"database migrated from {before} to {after}"
    sys.stdout.write(told + "\n")
    return 0


async def _serve() -> int:
    # Imported here because `--version` and `migrate` do not need it.
    from nqrust.manager import app as application
    from nqrust.manager import logs
    from nqrust.manager.api.server import config
    from nqrust.manager.settings import from_environment
    from nqrust.serving.server import Server, listen

    settings = from_environment(os.environ)
    logs.configure(settings.log_level)
    core = application.create_core(settings)
    await application.prepare(core)
    context = core.trust.context if core.trust else lambda: None
    try:
        listeners = listen(settings.bind_host, settings.bind_port)
    except OSError as error:
        raise SettingsError(f"The manager cannot listen on {settings.bind_host}:{settings.bind_port}: {error}.") from error
    server = Server(config(application.create_app(core), settings.bind_host, settings.bind_port), listeners, context)
    await server.serve()
    return 0 if server.started else 1


def _say(status: int, code: str, text: str) -> int:
    sys.stderr.write(f"nqrust-manager: {code}: {' '.join(text.split())}\n")
    return status


if __name__ == "__main__":
    sys.exit(main())
