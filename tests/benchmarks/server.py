"""A platform with minimal cost: it sends prepared responses, so the client is measured.

The sandbox of the package is for correctness; at a thousand items a second it would be the bottleneck. This one checks
nothing. A project's id says what is in it: ``00000004-0000-4000-8000-000000002000`` has 2000 items with documents of
4 KiB; an export's id says in the same way how many MiB its archive has.

It has two ports: one for clients, which an outage can close, and one for control requests
(``/control/reset/<latency>``, ``/control/fault/<fault>``, ``/control/counts``).
"""

from __future__ import annotations

import argparse
import asyncio
import functools
import json
import mmap
import resource
import socket
import struct
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import cast
from urllib.parse import parse_qs

import uvloop

from . import faults

SPACE = "5ace0000-0000-4000-8000-000000000000"
ITEMS_PER_BATCH = 500
#: Connections that wait to be accepted.
BACKLOG = 512
#: Bytes handed to the socket at a time where an object is large; smaller ones go out with their head.
PIECE = 256 * 1024
#: As long as the signed URLs of a real storage.
SIGNATURE = (
    "X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Date=20261121T000000Z&X-Amz-Expires=900&X-Amz-Signature=" + "a" * 300
)

_ITEM = (
    '{{"id":"{id}","projectId":"{project}","batchId":{batch},"status":"COMPLETED","assetType":"image",'
    '"assetUrl":"assets/{id}","resultUrl":null,"createdAt":"2026-11-01T10:00:00Z","updatedAt":"2026-11-02T10:00:00Z",'
    '"metadata":{{"number":{number}}}}}'
)
_BATCH = (
    '{{"id":{id},"projectId":"{project}","name":"Batch {id}","createdBy":"25a02396-1048-48f9-bf93-102d2fb7895e",'
    '"createdAt":"2026-11-01T10:00:00Z","metadata":{{}},"totalCount":{size},"completedCount":{size}}}'
)
_ANNOTATION = (
    '{{"id":"a-{item}","projectID":"{project}","workItemID":"{item}","metadata":'
    '{{"coco_results_url":"s3://bucket/spaces/{space}/coco_output/{kib}/{item}.json"}}}}'
)
_EXPORT = (
    '{{"exportId":"{id}","name":"benchmark","status":"COMPLETED","format":"COCO_JSON","content":"ANNOTATION",'
    '"createdBy":"benchmark@example.com","createdAt":"2026-11-01T10:00:00Z","error":null,'
    '"downloadUrl":"{origin}/storage/exports/{name}?{signature}"}}'
)
_LABEL = (
    b'{"id":1,"image_id":1,"category_id":3,"bbox":[104.5,87.25,61.0,44.75],"area":2729.75,"iscrowd":0,'
    b'"segmentation":[[104.5,87.25,165.5,87.25,165.5,132.0,104.5,132.0]]}'
)


def project_id(items: int, kib: int = 4) -> str:
    """Return the id of a project of so many items with documents of so many KiB."""
    return f"{kib:08d}-0000-4000-8000-{items:012d}"


def export_id(mib: int) -> str:
    """Return the id of an export whose archive has about so many MiB."""
    return f"00000000-0000-4000-8000-{mib:012d}"


@functools.cache
def document(kib: int) -> bytes:
    """Return a COCO document of about that size."""
    head = (
        b'{"info":{"description":"benchmark","version":"1.0"},"licenses":[],"images":[{"id":1,"width":1920,'
        b'"height":1080,"file_name":"picture.png"}],"categories":[{"id":3,"name":"car","supercategory":""}],'
        b'"annotations":['
    )
    count = max(1, (kib * 1024 - len(head)) // (len(_LABEL) + 1))
    return head + b",".join([_LABEL] * count) + b"]}"


@functools.cache
def _items(project: str) -> list[bytes]:
    return [
        _ITEM.format(
            id=f"{n:08x}-1111-4111-8111-111111111111", project=project, batch=1 + n // ITEMS_PER_BATCH, number=n
        ).encode()
        for n in range(_number(project))
    ]


@functools.cache
def _batches(project: str) -> list[bytes]:
    count = -(-_number(project) // ITEMS_PER_BATCH)
    return [_BATCH.format(id=n + 1, project=project, size=ITEMS_PER_BATCH).encode() for n in range(count)]


@functools.cache
def _object(kib: int) -> bytes:
    return _response(document(kib), b'ETag: "0123456789abcdef0123456789abcdef"\r\n')


@functools.cache
def _archive(path: Path) -> mmap.mmap:
    with path.open("rb") as file:
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)


class World:
    """What the server knows: prepared bytes, and the counts of what was asked for."""

    def __init__(self, archives: Path) -> None:
        self.origin = ""
        self.latency = 0.0
        #: Bytes in both directions, with all headers.
        self.bytes = 0
        self.counts: Counter[str] = Counter()
        self.port = Port(self)
        self._fault: faults.Fault | None = None
        self._archives = archives

    def answer(self, target: str, body: bytes) -> bytes | mmap.mmap:
        """Answer one request: a complete response, or a large object whose head is still to be sent."""
        path, _, query = target.partition("?")
        parts = path.split("/")
        if parts[1] == "control":
            return self._control(parts[2:])
        if self._fault is not None and (failure := self._fault(_kind(parts))) is not None:
            self.counts["faults"] += 1
            return failure
        if parts[1] == "storage":
            self.counts["storage"] += 1
            if parts[2] == "exports":
                return _archive(self._archives / parts[3])
            return _object(int(parts[-2]))
        if parts[-1] == "annotations":
            self.counts["annotations"] += 1
            project, item = parts[4], parts[6]
            kib = int(project[:8])
            return _response(_ANNOTATION.format(item=item, project=project, space=SPACE, kib=kib).encode())
        if parts[-1] == "signedurls":
            self.counts["signing"] += 1
            return _response(self._signed(json.loads(body)["paths"]))
        if parts[-1] == "workItems":
            self.counts["listing"] += 1
            return _response(_page("work_item", _items(parts[4]), query))
        if parts[-1] == "batches":
            self.counts["batches"] += 1
            return _response(_page("batch", _batches(parts[4]), query))
        self.counts["exports"] += 1
        name = f"{_number(parts[6])}.zip"
        return _response(_EXPORT.format(id=parts[6], origin=self.origin, name=name, signature=SIGNATURE).encode())

    def _signed(self, paths: list[str]) -> bytes:
        items = [
            f'{{"path":"{path}","signedUrl":"{self.origin}/storage/spaces/{SPACE}/{path}?{SIGNATURE}"}}'
            for path in paths
        ]
        return f'{{"items":[{",".join(items)}]}}'.encode()

    def _control(self, parts: list[str]) -> bytes:
        if parts[0] == "reset":
            self.latency = float(parts[1])
            self.bytes = 0
            self.counts.clear()
            self._fault = None
            self.port.reopen()
        elif parts[0] == "fault":
            self._fault = faults.parse(parts[1:], self.port.close)
        usage = resource.getrusage(resource.RUSAGE_SELF)
        busy = usage.ru_utime + usage.ru_stime
        return _response(json.dumps({"counts": self.counts, "bytes": self.bytes, "cpu": busy}).encode())


class Port:
    """The port for clients. It can be closed for some time, and stays reserved meanwhile."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._connections: set[Connection] = set()
        self._timer: asyncio.TimerHandle | None = None
        # Bound, but not listening: while nothing listens, connections are refused, and no other program gets the port.
        self._reserved = _bound(0)
        self.number: int = self._reserved.getsockname()[1]
        self._listening = _bound(self.number)

    async def open(self) -> None:
        """Accept connections."""
        create = asyncio.get_running_loop().create_server
        connection = functools.partial(Connection, self._world, self._connections)
        self._server = await create(connection, sock=self._listening, backlog=BACKLOG)

    def close(self, seconds: float) -> None:
        """Refuse connections for some time, and break those that are open."""
        self._server.close()
        for each in list(self._connections):
            each.abort()
        self._timer = asyncio.get_running_loop().call_later(seconds, self.reopen)

    def reopen(self) -> None:
        """Accept connections again; does nothing if the port is open."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
            # From here on connections wait until they are accepted.
            self._listening = _bound(self.number)
            self._listening.listen(BACKLOG)
            self._opening = asyncio.get_running_loop().create_task(self.open())


class Connection(asyncio.Protocol):
    """One connection: requests in, responses out, in their order."""

    def __init__(self, world: World, connections: set[Connection]) -> None:
        self._world = world
        self._connections = connections
        self._received = b""
        self._large: Iterator[memoryview] = iter(())
        self._paused = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # What uvloop hands over is no subclass, but does the same.
        self._transport = cast(asyncio.Transport, transport)
        self._connections.add(self)

    def connection_lost(self, error: Exception | None) -> None:
        self._connections.discard(self)

    def abort(self) -> None:
        """Reset the connection."""
        # Without lingering the other end gets a reset.
        options = socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)
        self._transport.get_extra_info("socket").setsockopt(*options)
        self._transport.abort()

    def data_received(self, data: bytes) -> None:
        self._received += data
        self._world.bytes += len(data)
        while (end := self._received.find(b"\r\n\r\n")) >= 0:
            head = self._received[:end]
            method, target, _ = head.split(b" ", 2)
            length = 0
            if method == b"POST":
                length = int(head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0])
                if len(self._received) < end + 4 + length:
                    return
            body = self._received[end + 4 : end + 4 + length]
            self._received = self._received[end + 4 + length :]
            response = self._world.answer(target.decode(), body)
            if self._world.latency and not target.startswith(b"/control/"):
                asyncio.get_running_loop().call_later(self._world.latency, self._send, response)
            else:
                self._send(response)

    def _send(self, response: bytes | mmap.mmap) -> None:
        if self._transport.is_closing():
            return
        if response == faults.RESET:
            self.abort()
            return
        self._world.bytes += len(response)
        if isinstance(response, bytes) and len(response) <= PIECE:
            self._transport.write(response)
            return
        if isinstance(response, mmap.mmap):
            self._transport.write(_head(len(response), b'ETag: "fedcba9876543210fedcba9876543210"\r\n'))
        view = memoryview(response)
        self._large = (view[start : start + PIECE] for start in range(0, len(view), PIECE))
        self._send_pieces()

    def _send_pieces(self) -> None:
        while not self._paused and (piece := next(self._large, None)) is not None:
            self._transport.write(piece)

    def pause_writing(self) -> None:
        self._paused = True

    def resume_writing(self) -> None:
        self._paused = False
        self._send_pieces()


def _bound(port: int) -> socket.socket:
    """Return a socket that is bound to a port which several may share."""
    bound = socket.socket()
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    bound.bind(("127.0.0.1", port))
    return bound


def _number(name: str) -> int:
    return int(name[-12:])


def _kind(parts: list[str]) -> str:
    """Return the kind of a request by its path, as the faults name it."""
    if parts[1] == "storage":
        return "storage"
    return {"signedurls": "signing", "workItems": "listing"}.get(parts[-1], parts[-1])


def _page(kind: str, entries: list[bytes], query: str) -> bytes:
    asked = parse_qs(query)
    limit = int(asked.get("limit", ["20"])[0])
    start = int(asked.get("cursor", ["0"])[0])
    following = f'"{start + limit}"' if start + limit < len(entries) else "null"
    page = '"NEXT"' if start else "null"
    meta = f'"meta":{{"object":"{kind}","limit":{limit},"page":{page},"cursorNext":{following},"cursorPrev":null}}'
    return b"".join(
        (b'{"items":[', b",".join(entries[start : start + limit]), f'],"total":{len(entries)},{meta}}}'.encode())
    )


def _head(length: int, headers: bytes = b"") -> bytes:
    return b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n%s\r\n" % (length, headers)


def _response(body: bytes, headers: bytes = b"") -> bytes:
    return _head(len(body), headers) + body


async def serve(archives: Path) -> None:
    """Serve on two free ports of this machine and print both origins; ends when the process that started it does."""
    world = World(archives)
    loop = asyncio.get_running_loop()
    await world.port.open()
    control = await loop.create_server(lambda: Connection(world, set()), "127.0.0.1", 0)
    ports = world.port.number, control.sockets[0].getsockname()[1]
    world.origin, _ = origins = [f"http://127.0.0.1:{port}" for port in ports]
    print(*origins, flush=True)
    ended = asyncio.Event()
    # Nothing is ever sent, so it becomes readable when the other end is closed.
    loop.add_reader(sys.stdin.fileno(), ended.set)
    await ended.wait()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="The server of the benchmarks.")
    parser.add_argument("archives", type=Path, help="the folder of <MiB>.zip")
    uvloop.run(serve(parser.parse_args().archives))
