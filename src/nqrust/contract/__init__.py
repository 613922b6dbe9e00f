"""Models of the manager's and the agent's HTTP interfaces.

The manager's routes (all under bearer or basic authentication, except `/health` and `POST /v1/auth/login`):

    GET  /health · GET /metrics · GET /docs · GET /openapi.json
    POST /v1/auth/login · POST /v1/auth/logout · GET /v1/auth/me
    GET|POST /v1/users · PATCH|DELETE /v1/users/{id} · GET|POST /v1/tokens · DELETE /v1/tokens/{id}
    GET  /v1/unknown-vms · DELETE /v1/unknown-vms/{id or name} · POST /v1/vms/adopt
    GET|POST /v1/vms · GET|DELETE /v1/vms/{id or name} · POST /v1/vms/{..}/start|stop|pause|resume|restart
    POST /v1/vms/{..}/console-ticket · WS /v1/vms/{..}/console?ticket= · GET /v1/vms/{..}/console/log · /events
    PUT  /v1/vms/{..}/forwards|rate-limits · GET|POST /v1/vms/{..}/snapshots · DELETE, POST /v1/vms/{..}/snapshots/{name}[/restore]
    GET|POST /v1/templates · GET|PUT|DELETE /v1/templates/{name} · GET /v1/volumes · DELETE /v1/volumes/{name}
    GET|POST /v1/images · GET|DELETE /v1/images/{name} · GET /v1/images/{name}/blobs/{file} · POST /v1/images/scan
    GET  /v1/hosts · GET|DELETE /v1/hosts/{id or name} · POST /v1/hosts/{..}/cordon|uncordon|drain
    POST /v1/hosts/join-tokens · POST /v1/hosts/register · POST /v1/hosts/{id}/heartbeat
    POST /v1/hosts/{id}/vms/{vm_id}/guest
    GET  /v1/events · GET /v1/audit
"""
