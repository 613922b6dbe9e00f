"""The list of VMs, rendered by PostgreSQL.

Building Python objects and JSON for a thousand rows takes longer than the rest of a request, and every screen polls this
list. The fields are those of `vms.api_vm`; a test keeps both equal.
"""

from __future__ import annotations

from sqlalchemy import text

from nqrust.contract.vms import Vm as ApiVm
from nqrust.contract.vms import VmKept
from nqrust.manager.core.core import Core
from nqrust.manager.store.tables import Vm

_MADE = {
    "host": "h.name",
    "ip": "coalesce(v.ip, CASE WHEN v.guest_up_at IS NOT NULL THEN v.guest->>'ip' END)",
    "users": "(SELECT coalesce(json_agg(u->>'name'), '[]') FROM jsonb_array_elements(s.spec->'users') u)",
    "command": "coalesce(s.spec->'process'->'argv', '[]')",
}
_DEFAULTS = VmKept().model_dump_json()


def _source(name: str) -> str:
    """Return the source of a field of the API's VM."""
    stored = f"v.{name}" if name in Vm.__table__.columns else f"s.spec->'{name}'"
    return f"{_MADE.get(name, stored)} AS {name}"


_COLUMNS = ", ".join(_source(name) for name in ApiVm.model_fields)


async def render(core: Core, host: str | None, tag: str | None, limit: int | None, offset: int) -> str:
    """Return a `VmList` as JSON, by name. `total` counts all rows that match the filters.

    `limit` and `offset` (rows) select a part of them.
    """
    conditions = ["true"]
    bound: dict[str, str | int | None] = {"defaults": _DEFAULTS, "limit": limit, "offset": offset}
    if host is not None:
        conditions.append("(h.id = :host OR h.name = :host)")
        bound["host"] = host
    if tag is not None:
        conditions.append("v.spec->'tags' @> jsonb_build_array(CAST(:tag AS text))")
        bound["tag"] = tag
    source = "FROM vms v LEFT JOIN hosts h ON h.id = v.host_id"
    where = f"WHERE {' AND '.join(conditions)}"
    # A row may predate a field.
    whole = "CROSS JOIN LATERAL (SELECT CAST(:defaults AS jsonb) || v.spec AS spec) s"
    page = f"SELECT {_COLUMNS} {source} {whole} {where} ORDER BY v.name LIMIT :limit OFFSET :offset"
    items = f"SELECT coalesce(json_agg(row_to_json(p)), '[]')::text FROM ({page}) p"
    async with core.db.reading() as session:
        total = await session.scalar(text(f"SELECT count(*) {source} {where}"), bound)
        rendered = await session.scalar(text(items), bound)
    return f'{{"items":{rendered},"total":{total}}}'
