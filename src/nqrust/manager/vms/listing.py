"""The list of VMs, rendered by PostgreSQL.

A thousand rows made into Python objects and then into JSON take longer than everything else a request does, and the
list is what every screen polls. The columns are those of `vms.api_vm`; a test holds the two together.
"""

from __future__ import annotations

from sqlalchemy import text

from nqrust.manager.core.core import Core

_COLUMNS = """
    v.id, v.name, v.state, v.desired_state, h.name AS host,
    coalesce(v.ip, CASE WHEN v.guest_up_at IS NOT NULL THEN v.guest->>'ip' END) AS ip,
    v.mac, v.boot_id, v.image, v.vcpus, v.memory_mib, v.disk_mib, v.created_at, v.host_id, v.tap, v.generation, v.observed_generation,
    v.error, v.autostart, v.restart_policy, v.tags, v.started_at, v.guest_up_at, v.guest,
    v.limits, v.forwards, v.volumes, v.rate_limits, v.network_config, v.network_written,
    (SELECT coalesce(json_agg(u->>'name'), '[]') FROM jsonb_array_elements(v.users) u) AS users
"""


async def render(core: Core, host: str | None, tag: str | None, limit: int | None, offset: int) -> str:
    """A `VmList` as JSON, by name. `total` counts what fits the filters, whatever part of it `limit` and `offset`
    (rows) show."""
    conditions = ["true"]
    bound: dict[str, str | int | None] = {"limit": limit, "offset": offset}
    if host is not None:
        conditions.append("(h.id = :host OR h.name = :host)")
        bound["host"] = host
    if tag is not None:
        conditions.append("v.tags @> jsonb_build_array(CAST(:tag AS text))")
        bound["tag"] = tag
    source = f"FROM vms v LEFT JOIN hosts h ON h.id = v.host_id WHERE {' AND '.join(conditions)}"
    page = f"SELECT {_COLUMNS} {source} ORDER BY v.name LIMIT :limit OFFSET :offset"
    items = f"SELECT coalesce(json_agg(row_to_json(p)), '[]')::text FROM ({page}) p"
    async with core.db.transaction() as session:
        total = await session.scalar(text(f"SELECT count(*) {source}"), bound)
        rendered = await session.scalar(text(items), bound)
    return f'{{"items":{rendered},"total":{total}}}'
