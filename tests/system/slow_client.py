"""A client whose reading the test controls: it stops, trickles, or vanishes from the network without a word.

The WebSocket protocol is that of the `websockets` library (its part without I/O); only the socket is ours.
"""

import asyncio
import ctypes
import json
import socket
import sys
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

import pytest
from websockets.client import ClientProtocol
from websockets.frames import Frame, Opcode
from websockets.protocol import State
from websockets.uri import parse_uri

from tests.system.client import WITHIN, Message, token

_WINDOW = 4 * 1024  # bytes that our kernel receives while we do not read
_UNSENT = 16 * 1024  # bytes that our kernel keeps while the edge does not read
_SO_ATTACH_FILTER = 26  # <asm-generic/socket.h>
_SO_DETACH_FILTER = 27

can_vanish = pytest.mark.skipif(
    not sys.platform.startswith("linux"), reason="dropping packets takes a Linux socket filter"
)


class _Instruction(ctypes.Structure):
    _fields_ = (("code", ctypes.c_uint16), ("jt", ctypes.c_uint8), ("jf", ctypes.c_uint8), ("k", ctypes.c_uint32))


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_uint16), ("instructions", ctypes.POINTER(_Instruction)))


_DROP_EVERYTHING = _Instruction(0x06, 0, 0, 0)  # "return 0": keep none of the packet's bytes


class SlowClient:
    """One connection that reads only when it is told to. Use as a context manager, then `read_until`."""

    def __init__(self, port: int, user: str, device: str, *, resume: bool = False) -> None:
        self.user = user
        self.received: list[Message] = []
        self.close_code: int | None = None
        self.ended = False
        """The connection is over, with a close code or without."""
        self._port = port
        resuming = "&resume=1" if resume else ""
        uri = f"ws://127.0.0.1:{port}/ws?token={token(user)}&deviceId={device}{resuming}"
        self._protocol = ClientProtocol(parse_uri(uri), max_size=None)
        self._fragments = b""
        self._socket = socket.socket()
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _WINDOW)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _UNSENT)
        self._socket.setblocking(False)  # socket's own signature

    async def __aenter__(self) -> Self:
        await asyncio.get_running_loop().sock_connect(self._socket, ("127.0.0.1", self._port))
        self._protocol.send_request(self._protocol.connect())
        await self._flush()
        while self._protocol.state is State.CONNECTING:
            assert await self.read(256), self._protocol.handshake_exc
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._socket.close()

    @property
    def connection_id(self) -> str:
        """As the first frame said."""
        connection_id: str = self.received[0]["connectionId"]
        return connection_id

    def timers(self, timer_id: str) -> list[Message]:
        """All states of a timer in what was read, in order."""
        states = []
        for message in self.received:
            if message.get("type") == "snapshot":
                states += [timer for timer in message["timers"] if timer["id"] == timer_id]
            elif "timer" in message and message["timer"]["id"] == timer_id:
                states.append(message["timer"])
        return states

    async def send(self, **message: Any) -> None:
        """Sends a message; waits while the edge reads nothing."""
        self._protocol.send_text(json.dumps(message).encode())
        await self._flush()

    async def read(self, most: int) -> bool:
        """Reads once, so many bytes at most; pings are answered. False: there will be nothing more."""
        try:
            data = await asyncio.get_running_loop().sock_recv(self._socket, most)
        except ConnectionError:
            data = b""
        if data:
            self._protocol.receive_data(data)
        else:
            self._protocol.receive_eof()
            self.ended = True
        for event in self._protocol.events_received():
            if isinstance(event, Frame):
                self._take(event)
        self.close_code = self._protocol.close_rcvd.code if self._protocol.close_rcvd else None
        if not self.ended:
            try:
                await self._flush()
            except ConnectionError:
                self.ended = True
        return not self.ended

    async def read_until(self, wanted: Callable[[Message], bool], within: float = WITHIN) -> Message:
        """Reads as fast as it can until a message is there that is wanted; returns that."""
        position = 0
        async with asyncio.timeout(within):
            while True:
                for message in self.received[position:]:
                    if wanted(message):
                        return message
                position = len(self.received)
                assert await self.read(64 * 1024), f"closed {self.close_code}"

    async def read_all(self, within: float = WITHIN) -> None:
        """Reads as fast as it can until nothing more is under way for this connection."""
        marker = f"all-{time.monotonic_ns()}"
        await self.send(type="ping", messageId=marker)
        await self.read_until(lambda message: message.get("messageId") == marker, within)

    async def read_to_the_end(self, within: float = WITHIN) -> int | None:
        """Reads as fast as it can until the connection is over; returns the close code, if it was told one."""
        async with asyncio.timeout(within):
            while await self.read(64 * 1024):
                pass
        return self.close_code

    async def trickle(self, size: int, every: float, seconds: float) -> None:
        """Reads so many bytes at most, again and again, for a while or until the connection is over."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            try:
                async with asyncio.timeout(deadline - time.monotonic()):
                    if not await self.read(size):
                        return
            except TimeoutError:
                return
            await asyncio.sleep(every)

    def vanish(self) -> None:
        """From now on our kernel drops every packet that comes, before TCP sees it: nothing is read, nothing acknowledged, no
        FIN is sent. For the other side it is as if the device had left the network.
        """
        instruction = _DROP_EVERYTHING
        program = _Program(1, ctypes.pointer(instruction))
        self._socket.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, bytes(program))

    def come_back(self) -> None:
        """The network is there again."""
        self._socket.setsockopt(socket.SOL_SOCKET, _SO_DETACH_FILTER, 0)

    def _take(self, frame: Frame) -> None:
        if frame.opcode in (Opcode.TEXT, Opcode.CONT):
            self._fragments += frame.data
            if frame.fin:
                self.received.append(json.loads(self._fragments))
                self._fragments = b""

    async def _flush(self) -> None:
        for data in self._protocol.data_to_send():
            if data:
                await asyncio.get_running_loop().sock_sendall(self._socket, data)
