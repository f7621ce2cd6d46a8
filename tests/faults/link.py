"""A wire between two processes that can be cut: a small TCP proxy."""

import asyncio
from typing import Self

_CHUNK = 256 * 1024  # bytes a side may have waiting before its source is read no further


class Link:
    """Forwards TCP connections from a port of its own to `target`, a port of this machine.

    `cut` is a cut of the network: nothing arrives, nobody is told, and what is sent meanwhile arrives when it heals (as TCP
    would repeat it), unless its sender has given up by then. `refuse` is a host that is away: connections are reset.
    """

    def __init__(self, target: int = 0) -> None:
        self.target = target
        self.port = 0
        self._server: asyncio.Server | None = None
        self._pipes: set[_Pipe] = set()
        self._refusing = False
        self._is_cut = [False, False]  # towards the target, back from it

    async def __aenter__(self) -> Self:
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: _Pipe(self), "127.0.0.1", 0, backlog=1_024)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._server is not None:
            self._server.close()
        self._refusing = True
        self._reset_all()
        await asyncio.sleep(0)  # transports close their sockets at the next turn of the loop

    def cut(self, *, there: bool = True, back: bool = True) -> None:
        """Lets nothing through, in one direction or both."""
        self._is_cut = [there, back]
        self._apply()

    def refuse(self) -> None:
        """Resets all connections, and whoever comes."""
        self._refusing = True
        self._reset_all()

    def heal(self) -> None:
        """Everything goes through again."""
        self._refusing = False
        self._is_cut = [False, False]
        self._apply()

    @property
    def refusing(self) -> bool:
        """Whether connections are reset."""
        return self._refusing

    def is_cut(self, direction: int) -> bool:
        """Whether a direction (0: towards the target, 1: back) is cut."""
        return self._is_cut[direction]

    def joined(self, pipe: "_Pipe") -> None:
        """A connection has come."""
        self._pipes.add(pipe)

    def left(self, pipe: "_Pipe") -> None:
        """A connection is over."""
        self._pipes.discard(pipe)

    def _apply(self) -> None:
        for pipe in list(self._pipes):
            pipe.apply()

    def _reset_all(self) -> None:
        for pipe in list(self._pipes):
            pipe.reset()


class _Pipe(asyncio.Protocol):
    """One connection, seen from who opened it; `_Far` is its other half."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self.near: asyncio.Transport | None = None
        self.far: asyncio.Transport | None = None
        self._opening: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.near = transport
        transport.set_write_buffer_limits(high=_CHUNK)
        if self._link.refusing:
            transport.abort()
            return
        self._link.joined(self)
        transport.pause_reading()
        self._opening = asyncio.create_task(self._open())

    async def _open(self) -> None:
        try:
            loop = asyncio.get_running_loop()
            await loop.create_connection(lambda: _Far(self), "127.0.0.1", self._link.target)
        except OSError:
            self.reset()

    def opened(self, far: asyncio.Transport) -> None:
        """The other half is there."""
        far.set_write_buffer_limits(high=_CHUNK)
        if self.near is None:
            far.abort()
            return
        self.far = far
        self.apply()

    def apply(self) -> None:
        """Reads from where the wire is whole and the other side takes it."""
        if self.near is None or self.far is None:
            return
        for direction, source in enumerate((self.near, self.far)):
            if self._link.is_cut(direction):
                source.pause_reading()
            else:
                source.resume_reading()

    def data_received(self, data: bytes) -> None:
        if self.far is not None:
            self.far.write(data)

    def pause_writing(self) -> None:
        if self.far is not None:
            self.far.pause_reading()

    def resume_writing(self) -> None:
        self.apply()

    def connection_lost(self, exc: Exception | None) -> None:
        self.near = None
        self._end(self.far, exc)

    def far_lost(self, exc: Exception | None) -> None:
        """The other half is gone."""
        self.far = None
        self._end(self.near, exc)

    def reset(self) -> None:
        """Ends both halves at once."""
        for transport in (self.near, self.far):
            if transport is not None:
                transport.abort()
        self._link.left(self)

    def _end(self, other: asyncio.Transport | None, exc: Exception | None) -> None:
        self._link.left(self)
        if other is None:
            return
        if exc is None:
            other.close()
        else:
            other.abort()


class _Far(asyncio.Protocol):
    """The half that was opened to the target."""

    def __init__(self, pipe: _Pipe) -> None:
        self._pipe = pipe

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._pipe.opened(transport)

    def data_received(self, data: bytes) -> None:
        if self._pipe.near is not None:
            self._pipe.near.write(data)

    def pause_writing(self) -> None:
        if self._pipe.near is not None:
            self._pipe.near.pause_reading()

    def resume_writing(self) -> None:
        self._pipe.apply()

    def connection_lost(self, exc: Exception | None) -> None:
        self._pipe.far_lost(exc)
