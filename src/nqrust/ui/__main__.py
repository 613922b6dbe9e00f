"""`nqrust-ui`: serves the web UI until it is told to end."""

from __future__ import annotations

import os
import sys
import tempfile

from nqrust.ui.settings import BadSetting, from_environment

STORAGE_VARIABLE = "NICEGUI_STORAGE_PATH"


def main() -> None:
    """Read the environment and serve. Exits with 2 when a setting is wrong."""
    try:
        settings = from_environment(os.environ)
    except BadSetting as error:
        sys.stderr.write(f"{error}\n")
        raise SystemExit(2) from error
    prepare_storage()
    # Only now: NiceGUI settles where it stores sessions when it is imported.
    from nqrust.ui.application import serve

    serve(settings)


def prepare_storage() -> None:
    """Sessions hold API tokens, so what is written is for this user only; below the working directory where that can
    be written to, else in a temporary folder."""
    os.umask(0o077)
    if os.environ.get(STORAGE_VARIABLE):
        return
    folder = os.path.join(os.getcwd(), "sessions")
    try:
        os.makedirs(folder, mode=0o700, exist_ok=True)
        usable = os.access(folder, os.W_OK | os.X_OK) and os.stat(folder).st_uid == os.geteuid()
    except OSError:
        usable = False
    os.environ[STORAGE_VARIABLE] = folder if usable else tempfile.mkdtemp(prefix="nqrust-ui-")


if __name__ == "__main__":
    main()
