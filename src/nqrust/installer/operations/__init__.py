"""nqr's operations as functions: install, plan, uninstall, rollback, rotate, verify, status.

No function here prints, prompts or exits. Events go to the caller's reporter.
"""

from nqrust.installer.operations.inspect import status, verify
from nqrust.installer.operations.install import install, phase_run, plan
from nqrust.installer.operations.looking import examine
from nqrust.installer.operations.remove import rollback, undo_script, uninstall
from nqrust.installer.operations.rotate import rotate

__all__ = ["examine", "install", "phase_run", "plan", "rollback", "rotate", "status", "undo_script", "uninstall", "verify"]
