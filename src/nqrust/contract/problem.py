"""Errors on the wire: RFC 9457 problem+json, with a stable code in `code` and the cure in `cure`."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

MEDIA_TYPE = "application/problem+json"


class Problem(BaseModel):
    """One error answer. `type` is `about:blank` unless there is more to read; `code` is stable for programs."""

    model_config = ConfigDict(extra="allow")

    type: str = "about:blank"
    title: str
    status: int
    detail: str = ""
    code: str = ""
    cure: str = ""
    request_id: str = ""
