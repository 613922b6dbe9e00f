"""A manager in memory, for tests of the web UI: the same routes and models, no agents, no database.

python -m tests.browser.fake_manager PORT
"""

from __future__ import annotations

import asyncio
import secrets
import sys
import uuid
from datetime import timedelta
from typing import Any

import uvicorn
from fastapi import Depends, FastAPI, Request, Response, WebSocket
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse

from nqrust.agent.api.console import _show, _type
from nqrust.agent.vms.terminal import Terminal
from nqrust.contract import auth, events, hosts, templates, vms, volumes
from nqrust.contract.guest import CloseCode
from nqrust.contract.problem import MEDIA_TYPE
from tests.browser import fake_images, reports, tokens
from tests.browser.fake_guest import serve_shell
from tests.browser.world import PASSWORD, TURNS, Refusal, World, furnish, now

world = World()
app = FastAPI(openapi_url=None, docs_url=None, redoc_url=None)


@app.exception_handler(Refusal)
async def refused(request: Request, refusal: Refusal) -> Response:
    return JSONResponse(refusal.problem.model_dump(), refusal.problem.status, media_type=MEDIA_TYPE)


@app.exception_handler(RequestValidationError)
async def invalid(request: Request, error: RequestValidationError) -> Response:
    return await refused(request, Refusal(422, "Not valid", str(error.errors()[0]["msg"])))


async def who(request: Request) -> tuple[str, auth.Role]:
    if world.delay:
        await asyncio.sleep(world.delay)
    if world.down:
        raise Refusal(503, "Away", "The database is away.", "NQR-DB-001", "Wait a moment.")
    token = request.headers.get("authorization", "").removeprefix("Bearer ")
    if token not in world.sessions:
        raise Refusal(401, "Not signed in")
    world.report()
    if request.method != "GET":
        entry = events.AuditEntry(
            id=len(world.audit) + 1, at=now(), actor=world.sessions[token][0], method=request.method,
            path=request.url.path, status=200, request_id=str(uuid.uuid4()), source="192.0.2.20",
        )  # fmt: skip
        world.audit.insert(0, entry)
    return world.sessions[token]


async def operator(user: tuple[str, auth.Role] = Depends(who)) -> tuple[str, auth.Role]:
    if user[1] is auth.Role.viewer:
        raise Refusal(403, "Not allowed", "This needs the role operator.")
    return user


async def admin(user: tuple[str, auth.Role] = Depends(who)) -> tuple[str, auth.Role]:
    if user[1] is not auth.Role.admin:
        raise Refusal(403, "Not allowed", "This needs the role admin.")
    return user


reports.serve(app, lambda: world, who, operator, admin)
tokens.serve(app, lambda: world, operator, admin)
fake_images.serve(app, lambda: world, who, operator)


@app.get("/health")
async def health() -> events.Health:
    return events.Health(status="ok", version="0.1.0")


@app.post("/v1/auth/login")
async def login(wanted: auth.Login) -> auth.Session:
    user = next((u for u in world.users if u.username == wanted.username), None)
    if user is None or wanted.password != world.passwords.get(wanted.username, PASSWORD):
        raise Refusal(401, "Wrong user name or password")
    token = "nqr_" + secrets.token_urlsafe(32)
    world.sessions[token] = (user.username, user.role)
    return auth.Session(token=token, expires_at=now() + timedelta(hours=12), username=user.username, role=user.role)


@app.post("/v1/auth/logout", status_code=204)
async def logout(request: Request) -> None:
    world.sessions.pop(request.headers.get("authorization", "").removeprefix("Bearer "), None)


@app.put("/v1/auth/password", status_code=204)
async def change_password(wanted: auth.PasswordChange, request: Request, user: tuple[str, auth.Role] = Depends(who)) -> None:
    world.change_password(user[0], wanted, request.headers["authorization"].removeprefix("Bearer "))


# --- VMs
def find(name: str) -> vms.Vm:
    for vm in world.vms.values():
        if name in (vm.name, vm.id):
            return vm
    raise Refusal(404, "No such VM", f"There is no VM {name}.")


@app.get("/v1/vms", dependencies=[Depends(who)])
async def list_vms() -> vms.VmList:
    return vms.VmList(items=list(world.vms.values()), total=len(world.vms))


@app.post("/v1/vms", dependencies=[Depends(operator)], status_code=201)
async def create_vm(wanted: vms.VmCreate) -> vms.Vm:
    if wanted.name in world.vms:
        raise Refusal(409, "Taken", f"There is a VM {wanted.name} already.")
    vm = world.add_vm(wanted)
    if wanted.start:
        world.later(vm, vms.VmState.starting, vms.VmState.running)
    return vm


@app.get("/v1/vms/{name}", dependencies=[Depends(who)])
async def get_vm(name: str) -> vms.Vm:
    return find(name)


@app.delete("/v1/vms/{name}", dependencies=[Depends(operator)], status_code=202)
async def delete_vm(name: str) -> Response:
    vm = find(name)
    vm.state = vms.VmState.deleting

    async def go() -> None:
        await asyncio.sleep(0.6)
        world.vms.pop(vm.name, None)
        world.hosts[vm.host or ""].vms -= 1
        world.tell("vm", vm.id, vm.name, "Deleted", f"{vm.name} was deleted.")

    task = asyncio.get_running_loop().create_task(go())
    world.verbs.add(task)
    return Response(status_code=202)


@app.post("/v1/vms/{name}/console-ticket", dependencies=[Depends(operator)])
async def ticket(name: str) -> vms.ConsoleTicket:
    made = secrets.token_urlsafe(16)
    world.tickets[made] = find(name).name
    return vms.ConsoleTicket(ticket=made, path=f"/v1/vms/{name}/console", expires_in=30)


SHELL = """printf '\\n%s login: ' "$0"; read who; exec /bin/sh -i"""
"""The console of every VM: a shell on a terminal, through the agent's own code."""


@app.websocket("/v1/vms/{name}/console")
async def console(socket: WebSocket, name: str, ticket: str = "") -> None:
    if world.tickets.pop(ticket, None) != name:
        await socket.close(4401, "The ticket is not valid.")
        return
    await socket.accept()
    terminal = Terminal(["/bin/sh", "-c", SHELL, name], {"PATH": "/usr/bin:/bin", "PS1": "# ", "TERM": "xterm-256color"})
    work = [asyncio.ensure_future(_show(terminal, socket)), asyncio.ensure_future(_type(terminal, socket))]
    try:
        await asyncio.wait(work, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in work:
            task.cancel()
        await asyncio.gather(*work, return_exceptions=True)
        await terminal.close()


@app.post("/v1/vms/{name}/exec-ticket", dependencies=[Depends(operator)])
async def exec_ticket(name: str) -> vms.ConsoleTicket:
    made = secrets.token_urlsafe(16)
    world.tickets[made] = find(name).name
    return vms.ConsoleTicket(ticket=made, path=f"/v1/vms/{name}/exec", expires_in=30)


@app.websocket("/v1/vms/{name}/exec")
async def exec_(socket: WebSocket, name: str, ticket: str = "") -> None:
    if world.tickets.pop(ticket, None) != name:
        await socket.close(4401, "The ticket is not valid.")
        return
    if find(name).guest_up_at is None:
        await socket.accept()
        await asyncio.sleep(0.2)
        await socket.close(CloseCode.no_answer, "No guest agent in the VM answers.")
        return
    await serve_shell(socket)


@app.get("/v1/vms/{name}/events", dependencies=[Depends(who)])
async def vm_events(name: str) -> events.EventList:
    vm = find(name)
    return events.EventList(items=[e for e in world.events if e.subject_id == vm.id])


@app.put("/v1/vms/{name}/forwards", dependencies=[Depends(operator)], status_code=202)
async def set_forwards(name: str, wanted: vms.PortForwards) -> vms.Vm:
    return world.forward(find(name), wanted.items)


@app.put("/v1/vms/{name}/rate-limits", dependencies=[Depends(operator)], status_code=202)
async def set_rate_limits(name: str, wanted: vms.RateLimits) -> vms.Vm:
    vm = find(name)
    vm.rate_limits = wanted
    return vm


@app.post("/v1/vms/{name}/volumes", dependencies=[Depends(operator)], status_code=202)
async def attach_volume(name: str, wanted: vms.VolumeCreate) -> vms.Vm:
    return world.attach(find(name), wanted)


@app.delete("/v1/vms/{name}/volumes/{device}", dependencies=[Depends(operator)], status_code=202)
async def detach_volume(name: str, device: str, data: str = "", volume: str = "") -> vms.Vm:
    vm = find(name)
    there = next(one for one in vm.volumes if one.device == device).kept_name(vm.name, vm.id)
    if volume not in ("", there):
        raise Refusal(409, "Another volume", f"Volume {device} of VM {name} is {there} now, not {volume}.", "NQR-API-146")
    return world.detach(vm, device, data)


@app.get("/v1/vms/{name}/snapshots", dependencies=[Depends(who)])
async def list_snapshots(name: str) -> vms.SnapshotList:
    found = world.snapshots.setdefault(find(name).id, [])
    return vms.SnapshotList(items=found, total=len(found))


@app.post("/v1/vms/{name}/snapshots", dependencies=[Depends(operator)], status_code=202)
async def create_snapshot(name: str, wanted: vms.SnapshotCreate) -> vms.Snapshot:
    return world.take_snapshot(find(name), wanted.name)


@app.post("/v1/vms/{name}/snapshots/{snapshot}/restore", dependencies=[Depends(operator)], status_code=202)
async def restore_snapshot(name: str, snapshot: str) -> vms.Vm:
    return world.restore(find(name), snapshot)


@app.delete("/v1/vms/{name}/snapshots/{snapshot}", dependencies=[Depends(operator)], status_code=202)
async def delete_snapshot(name: str, snapshot: str) -> vms.Snapshot:
    found = world.snapshots[find(name).id]
    gone = next(one for one in found if one.name == snapshot)
    found.remove(gone)
    return gone


@app.post("/v1/vms/{name}/{verb}", dependencies=[Depends(operator)])
async def turn_vm(name: str, verb: str) -> vms.Vm:
    vm = find(name)
    world.later(vm, *TURNS[verb])
    return vm


# --- templates and kept volumes
@app.get("/v1/templates", dependencies=[Depends(who)])
async def list_templates() -> templates.TemplateList:
    return templates.TemplateList(items=list(world.templates.values()), total=len(world.templates))


@app.post("/v1/templates", dependencies=[Depends(operator)], status_code=201)
async def create_template(wanted: templates.TemplateCreate) -> templates.Template:
    if wanted.name in world.templates:
        raise Refusal(409, "Taken", f"There is already a template named {wanted.name}.")
    made = templates.Template(**dict(wanted), created_at=now(), updated_at=now())
    world.templates[made.name] = made
    return made


@app.put("/v1/templates/{name}", dependencies=[Depends(operator)])
async def replace_template(name: str, spec: templates.TemplateSpec) -> templates.Template:
    created = world.templates[name].created_at
    world.templates[name] = templates.Template(**dict(spec), name=name, created_at=created, updated_at=now())
    return world.templates[name]


@app.delete("/v1/templates/{name}", dependencies=[Depends(operator)], status_code=204)
async def delete_template(name: str) -> None:
    world.templates.pop(name, None)


@app.get("/v1/volumes", dependencies=[Depends(who)])
async def list_volumes(host: str = "") -> volumes.StoredVolumeList:
    found = [volume for volume in world.volumes.values() if host in ("", volume.host)]
    return volumes.StoredVolumeList(items=found, total=len(found))


@app.delete("/v1/volumes/{name}", dependencies=[Depends(operator)], status_code=204)
async def delete_volume(name: str) -> None:
    world.volumes.pop(name, None)


# --- hosts
@app.get("/v1/hosts", dependencies=[Depends(who)])
async def list_hosts() -> hosts.HostList:
    return hosts.HostList(items=list(world.hosts.values()), total=len(world.hosts))


@app.post("/v1/hosts/{name}/{verb}", dependencies=[Depends(operator)])
async def turn_host(name: str, verb: str) -> hosts.Host:
    host = next(one for one in world.hosts.values() if name in (one.id, one.name))
    host.cordoned = verb != "uncordon"
    if verb == "drain":
        for vm in world.vms.values():
            if vm.host == host.name and vm.state is vms.VmState.running:
                world.later(vm, vms.VmState.stopping, vms.VmState.stopped)
    return host


# --- users
@app.get("/v1/users", dependencies=[Depends(admin)])
async def list_users() -> auth.UserList:
    return auth.UserList(items=world.users, total=len(world.users))


@app.post("/v1/users", dependencies=[Depends(admin)], status_code=201)
async def create_user(wanted: auth.UserCreate) -> auth.User:
    world.users.append(auth.User(id=str(uuid.uuid4()), username=wanted.username, role=wanted.role, created_at=now()))
    return world.users[-1]


@app.patch("/v1/users/{user_id}", dependencies=[Depends(admin)])
async def update_user(user_id: str, change: auth.UserUpdate) -> auth.User:
    user = next(user for user in world.users if user.id == user_id)
    user.role = change.role or user.role
    if change.password:
        world.passwords[user.username] = change.password
    return user


@app.delete("/v1/users/{user_id}", dependencies=[Depends(admin)], status_code=204)
async def delete_user(user_id: str) -> None:
    world.users = [user for user in world.users if user.id != user_id]


# --- for tests only
@app.post("/test/{what}")
async def arrange(what: str, body: dict[str, Any]) -> None:
    """`reset`, `down`, `delay`, `sign-everybody-out`, `empty`, `many` VMs, `go-on` with a download that waits, `lost`: a VM
    without a record, `busy`: a platform with some history, `booting` and `booted`: the guest of a VM that runs."""
    global world
    if what == "reset":
        world = World()
    elif what == "down":
        world.down = bool(body["value"])
    elif what == "delay":
        world.delay = float(body["value"])
    elif what == "sign-everybody-out":
        world.sessions.clear()
    elif what == "empty":
        world.images.clear()
        world.hosts.clear()
    elif what == "busy":
        furnish(world)
    elif what == "lost":
        reports.lose(world, body["value"])
    elif what == "many":
        for number in range(int(body["value"])):
            world.set(world.add_vm(vms.VmCreate(name=f"vm-{number + 1}", image="tiny")), vms.VmState.running)
        world.events.clear()
    elif what == "another-vm":
        old = find(body["value"])
        world.vms[old.name] = old.model_copy(update={"id": str(uuid.uuid4())})
    elif what == "another-volume":
        vm = find(body["value"])
        vm.volumes = [one.model_copy(update={"name": "precious"}) for one in vm.volumes]
    elif what == "another-snapshot":
        for snapshot in world.snapshots[find(body["value"]).id]:
            snapshot.created_at = now()
    elif what == "booting":
        vm = find(body["value"])
        vm.guest = vm.guest_up_at = None
    elif what == "started-long-ago":
        find(body["value"]).started_at = now() - timedelta(hours=1)
    elif what == "booted":
        world.set(find(body["value"]), vms.VmState.running)
    elif what == "go-on":
        world.go_on.set()
    elif what == "came":
        for image in world.images.values():
            if image.download is not None:
                image.download.done = int(body["value"]) << 20


@app.get("/test/user-data/{name}")
async def user_data(name: str) -> str:
    return world.user_data[name]


def main() -> None:
    uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[1]), log_level="warning")


if __name__ == "__main__":
    main()
