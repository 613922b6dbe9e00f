"""A process that answers for many agents: one port each, keep-alive HTTP/1.1, always the same inventory.

python benchmarks/simulated_hosts.py HOSTS VMS      prints its ports as a JSON list, then serves until it is ended
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks import population


@contextlib.contextmanager
def hosts(number: int, vms: int) -> Iterator[list[str]]:
    """URLs of `number` agents that have `vms` VMs between them."""
    process = subprocess.Popen(
        [sys.executable, __file__, str(number), str(vms)], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        yield [f"http://127.0.0.1:{port}" for port in json.loads(process.stdout.readline())]
    finally:
        process.terminate()
        process.wait(10)


async def _serve(number: int, vms: int) -> None:
    servers = []
    for host in range(number):
        body = population.inventory(host, number, vms)
        head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n".encode()
        servers.append(await asyncio.start_server(_answering(head + body), "127.0.0.1", 0))
    print(json.dumps([server.sockets[0].getsockname()[1] for server in servers]), flush=True)
    await asyncio.gather(*(server.serve_forever() for server in servers))


def _answering(answer: bytes):  # type: ignore[no-untyped-def]  # asyncio's own callback type
    async def answers(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                asked = await reader.readuntil(b"\r\n\r\n")
                if not asked.startswith(b"GET /agent/v1/inventory"):
                    writer.write(b"HTTP/1.1 501 Not Implemented\r\nContent-Length: 0\r\n\r\n")
                else:
                    writer.write(answer)
                await writer.drain()
        writer.close()

    return answers


if __name__ == "__main__":
    asyncio.run(_serve(int(sys.argv[1]), int(sys.argv[2])))
