"""nqr's operations as functions: install, plan, uninstall, rollback, rotate, verify, status.

No function here prints, prompts or exits. Events go to the caller's reporter. Each is loaded when somebody asks for it: `nqr status`
needs a fraction of what an install does.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nqrust.installer.operations.inspect import status, verify
    from nqrust.installer.operations.installing import install, phase_run, plan
    from nqrust.installer.operations.looking import examine
    from nqrust.installer.operations.remove import rollback, undo_script, uninstall
    from nqrust.installer.operations.rotating import rotate

__all__ = ["examine", "install", "phase_run", "plan", "rollback", "rotate", "status", "undo_script", "uninstall", "verify"]

_MODULES = {
    **dict.fromkeys(("status", "verify"), "inspect"),
    **dict.fromkeys(("install", "phase_run", "plan"), "installing"),
    "examine": "looking",
    **dict.fromkeys(("rollback", "undo_script", "uninstall"), "remove"),
    "rotate": "rotating",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__} has no attribute {name}")
    found = globals()[name] = getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
    return found
