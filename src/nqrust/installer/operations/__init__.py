"""What nqr does, as functions: install, plan, uninstall, rollback, verify, status. Nothing here prints, prompts or exits;
events go to the reporter that the caller gives."""

from nqrust.installer.operations.inspect import status, verify
from nqrust.installer.operations.install import install, phase_run, plan
from nqrust.installer.operations.remove import rollback, undo_script, uninstall

__all__ = ["install", "phase_run", "plan", "rollback", "status", "undo_script", "uninstall", "verify"]
