"""The bodies of requests, which may be larger than the memory."""

from __future__ import annotations

from starlette.types import Message, Receive

from .recorder import MAX_BODY


class RequestBody:
    """Hands a body on as it arrives, and keeps what the log wants to know of it."""

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._ended = False
        self._head = bytearray()
        self.size = 0

    @property
    def head(self) -> bytes:
        """The beginning of the body."""
        return bytes(self._head)

    async def receive(self) -> Message:
        """Return the next message of the server."""
        message = await self._receive()
        part = message.get("body", b"")
        self.size += len(part)
        self._head += part[: MAX_BODY - len(self._head)]
        self._ended = not message.get("more_body", False)
        return message

    async def drain(self) -> None:
        """Read what nobody asked for, because some clients only read an answer when they have sent everything."""
        while not self._ended:
            await self.receive()
