"""`nqrust-ui`: serves the web UI until it is stopped."""

from __future__ import annotations

import os
import sys
import tempfile

from nqrust.ui.settings import BadSetting, from_environment

STORAGE_VARIABLE = "NICEGUI_STORAGE_PATH"


def main() -> None:
    """Read the environment and serve. Exits with 2 if a setting is wrong."""
    try:
        settings = from_environment(os.environ)
    except BadSetting as error:
        sys.stderr.write(f"{error}\n")
        raise SystemExit(2) from error
    prepare_storage()
    # Imported late: NiceGUI chooses its session storage at import.
    from nqrust.ui.application import serve

    try:
        serve(settings)
    except BadSetting as error:
        sys.stderr.write(f"{error}\n")
        raise SystemExit(2) from error


def prepare_storage() -> None:
    """Prepare the storage of sessions, private to this user because sessions contain API tokens.

    It is below the working directory if that is writable, otherwise in a temporary folder.
    """
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
