"""`nqr fingerprint`: takes, compares and reports everything that an installer could change on a host."""

from nqrust.installer.fingerprint.compare import compare, render
from nqrust.installer.fingerprint.model import Difference, Fingerprint
from nqrust.installer.fingerprint.ours import ours
from nqrust.installer.fingerprint.taking import take

__all__ = ["Difference", "Fingerprint", "compare", "ours", "render", "take"]
