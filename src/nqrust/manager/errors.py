"""Error answers of the manager. Each is one problem+json answer (RFC 9457) with a stable code and a cure.

ManagerError
├── NotAuthenticated (TokenExpired) · WrongCredentials · WrongPassword · Throttled · TooManyRequests · TooManyViewers · Busy · NotPermitted
├── NotFound · Invalid · Conflict · TooLarge · TooSlow
├── ImageError
└── AgentTrouble (the host's agent is unreachable or refused) · DatabaseAway (DatabaseLocked, DatabaseSlow)
"""

from __future__ import annotations

from datetime import datetime

from nqrust.contract.problem import Problem


class ManagerError(Exception):
    """Base of all: `status` (HTTP), `code`, `detail` (what), `cure`."""

    status = 500
    code = "NQR-API-112"
    title = "internal error"
    cure = "Look for the request id in the manager's log."

    def __init__(self, detail: str, *, cure: str | None = None, code: str | None = None) -> None:
        super().__init__(detail)
        self.detail = detail
        self.cure = self.cure if cure is None else cure
        self.code = self.code if code is None else code
        self.headers: dict[str, str] = {}

    def problem(self, request_id: str = "") -> Problem:
        """Return the answer's body."""
        return Problem(
            title=self.title,
            status=self.status,
            detail=self.detail,
            code=self.code,
            cure=self.cure,
            request_id=request_id,
        )


class NotAuthenticated(ManagerError):
    status, code, title = 401, "NQR-API-101", "not authenticated"
    cure = "Send a bearer token, or a username and password."

    def __init__(
        self, detail: str = "This request needs valid credentials.", *, cure: str | None = None, code: str | None = None
    ) -> None:
        super().__init__(detail, cure=cure, code=code)
        # A browser prompts for username and password when it sees Basic (RFC 7617); programs use Bearer (RFC 6750).
        self.headers = {"WWW-Authenticate": 'Basic realm="nqrust", charset="UTF-8"'}


class TokenExpired(NotAuthenticated):
    code, title = "NQR-API-141", "token expired"

    def __init__(self, name: str, at: datetime, session: bool) -> None:
        super().__init__("This session has expired." if session else f"The token {name} expired on {at:%Y-%m-%d %H:%M} UTC.")
        self.cure = "Sign in again." if session else "Create a new token with `nqr token create` or in the web UI."


class NotPermitted(ManagerError):
    status, code, title = 403, "NQR-API-102", "not permitted"
    cure = "Ask an administrator for a role with this permission."


class NotEncrypted(ManagerError):
    status, code, title = 426, "NQR-API-150", "TLS needed"
    cure = "Use https, with the authority of `nqr host token` or the certificate file of this installation."

    def __init__(self, detail: str = "The manager answers other machines over TLS only.", *, cure: str | None = None) -> None:
        super().__init__(detail, cure=cure)
        self.headers = {"Upgrade": "TLS/1.2, HTTP/1.1", "Connection": "Upgrade"}  # RFC 2817, 4.2


class NotFound(ManagerError):
    status, code, title = 404, "NQR-API-103", "not found"
    cure = "List the names and check the spelling."


class Invalid(ManagerError):
    status, code, title = 422, "NQR-API-104", "invalid request"
    cure = "Correct the named fields; /openapi.json describes them."


class Conflict(ManagerError):
    status, code, title = 409, "NQR-API-105", "conflict"
    cure = "Choose another name, or delete the existing one first."


class Throttled(ManagerError):
    status, code, title = 429, "NQR-API-106", "too many attempts"

    def __init__(self, seconds: float) -> None:
        wait = max(1, round(seconds))
        super().__init__("Too many failed sign-ins.", cure=f"Wait {wait} s, then try again.")
        self.headers = {"Retry-After": str(wait)}


class TooManyRequests(ManagerError):
    status, code, title = 429, "NQR-API-200", "too many requests"
    cure = "Send fewer requests at the same time."

    def __init__(self) -> None:
        super().__init__("Too many requests of this sender wait.")
        # A client that sends its next request ahead would keep the connection at work.
        self.headers = {"Retry-After": "2", "Connection": "close"}


class TooManyViewers(ManagerError):
    status, code, title = 429, "NQR-API-152", "too many consoles"
    cure = "Close consoles and sessions that nobody uses, then try again."


class Busy(ManagerError):
    status, code, title = 503, "NQR-API-143", "too many sign-ins"
    cure = "Wait 2 s, then try again. Tokens and open sessions are not affected."

    def __init__(self) -> None:
        super().__init__("Too many sign-ins wait at the same time.")
        self.headers = {"Retry-After": "2"}


class WrongCredentials(ManagerError):
    status, code, title = 401, "NQR-API-107", "wrong username or password"
    cure = "Check both. The installer's summary names the file with the first password."

    def __init__(self) -> None:
        super().__init__("The username or the password is wrong.")
        self.headers = {"WWW-Authenticate": 'Basic realm="nqrust", charset="UTF-8"'}


class WrongPassword(ManagerError):
    status, code, title = 403, "NQR-API-126", "wrong password"
    cure = "Enter it again, or ask an administrator for a new password."

    def __init__(self) -> None:
        super().__init__("The current password is wrong.")


class TooLarge(ManagerError):
    status, code, title = 413, "NQR-API-108", "request too large"
    cure = "Send less than 1 MiB, or less than 16 KiB to sign in."


class TooSlow(ManagerError):
    status, code, title = 408, "NQR-API-145", "request too slow"
    cure = "Send it without pauses."

    def __init__(self) -> None:
        super().__init__("The request did not arrive in time.")


class ImageError(ManagerError):
    status, code, title = 422, "NQR-IMG-110", "image not usable"
    cure = "Check the image's folder and its image.json."


class AgentTrouble(ManagerError):
    status, code, title = 502, "NQR-API-120", "the host's agent did not carry out the request"
    cure = "Check nqrust-agent.service on that host."


class DatabaseAway(ManagerError):
    status, code, title = 503, "NQR-DB-710", "database unavailable"
    cure = "Check that PostgreSQL runs and that DATABASE_URL is right. The manager then reconnects."

    def __init__(self, detail: str = "The database does not answer.") -> None:
        super().__init__(detail)
        self.headers = {"Retry-After": "2"}


class DatabaseLocked(DatabaseAway):
    code, title = "NQR-DB-712", "database locked"
    cure = "Try again. If it stays so, look for an open transaction in pg_stat_activity and end it."

    def __init__(self, detail: str = "Another transaction holds a lock in the database for too long.") -> None:
        super().__init__(detail)


class DatabaseSlow(DatabaseAway):
    code, title = "NQR-DB-713", "database too slow"
    cure = "Ask for fewer rows, with `limit` or a filter. If short lists fail too, look at the load of PostgreSQL's host."

    def __init__(self, detail: str = "The database worked on this list for too long.") -> None:
        super().__init__(detail)


class SettingsError(Exception):
    """A setting is missing or wrong; the process ends with exit code 2 and this one line."""

    code = "NQR-CFG-710"


class SchemaMissing(Exception):
    """The database has no nqr tables, or older ones than this program needs."""

    code = "NQR-DB-711"
