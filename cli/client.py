"""A connection to the system that lasts: an asyncio WebSocket client on aiohttp, around the pure `Conversation`."""

import asyncio
import contextlib
import os
import platform
import secrets
import ssl
from collections.abc import AsyncIterator, Callable
from types import TracebackType
from typing import Any, Self, TypeVar

import aiohttp
import msgspec

from cli.access import Access
from cli.clock import local_now
from cli.conversation import Answered, Conversation, Dead, Happening, UpToDate
from cli.errors import BadToken, Busy, Problem, Unreachable, refusal
from cli.pending import Message
from cli.reconnect import TOKEN_EXPIRED

PATIENCE = 15.0
"""Seconds a command may take, reconnects included: a restart of the server takes a few."""

HTTP_WITHIN = 5.0
"""Seconds a plain request over HTTP may take."""

GATEWAY = (502, 503, 504)
"""HTTP statuses that say: the server, or a proxy before it, has nobody to answer just now."""

_CONNECT_WITHIN = 10.0
_SEND_WITHIN = 10.0
_CLOSE_WITHIN = 1.0
_LARGEST_MESSAGE = 64 * 1024 * 1024  # a snapshot of thousands of timers that are shared with hundreds each


Result = TypeVar("Result")


class Link(msgspec.Struct, frozen=True):
    """How it is between us and the server. `retry_at`: local seconds, None while connected or connecting."""

    connected: bool
    why: str = ""
    retry_at: float | None = None


class Client:
    """Use as a context manager: inside, it is connected and has the timers, or raises Problem when that is not to be had.

    From then on it reconnects by itself, and sends again what was not answered. `on_happening` is called with whatever
    happens, `on_link` when the connection comes and goes. Both are called from the reading task: as long as they don't
    return, nothing is read, so that a slow terminal slows the server's sending, and gets states conflated, instead of
    filling our memory.

    Before it is connected for the first time, a server that can't be reached is a Problem at once (the address may be wrong),
    and one that is not ready is waited for; later on both are, without end. `lasting`: the link is watched by pings, as is
    needed by who waits for others and not for replies.
    """

    def __init__(
        self,
        access: Access,
        *,
        lasting: bool = False,
        on_happening: Callable[[Happening], None] | None = None,
        on_link: Callable[[Link], None] | None = None,
    ) -> None:
        self.conversation = Conversation(pings=lasting)
        self.access = access
        self._on_happening = on_happening or (lambda _: None)
        self._on_link = on_link or (lambda _: None)
        # Each process is a device of its own: it is told what other terminals of the same user do.
        host = platform.node().encode("ascii", "ignore").decode()[:60] or "host"
        self._device = f"bubble-{host}-{os.getpid()}-{secrets.token_hex(3)}"
        self._token = access.token
        self._http: aiohttp.ClientSession | None = None
        self._task: asyncio.Task[None] | None = None
        self._ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._replies: dict[str, asyncio.Future[Message]] = {}
        self._wake = asyncio.Event()
        self._why = ""  # the system took no connection yet
        self._dead = ""  # the connection was given up

    @property
    def now(self) -> int:
        """The server's time, in microseconds since 1970."""
        return self.conversation.clock.now(local_now())

    async def __aenter__(self) -> Self:
        self._http = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=HTTP_WITHIN))
        self._task = asyncio.create_task(self._stay_connected())
        try:
            await self._or_failed(self._ready, PATIENCE)
        except TimeoutError:
            await self._end()
            raise Unreachable(
                f"{self._why or f'{self.access.host} does not answer'} (for {PATIENCE:g} s by now).",
                hint="Whoever runs the system sees with `bubble doctor` what is wrong.",
            ) from None
        except BaseException:
            await self._end()
            raise
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._end()

    async def forever(self) -> None:
        """Stays until the connection is lost for good, which raises Problem."""
        assert self._task is not None  # noqa: S101  # inside the context manager
        await asyncio.shield(self._task)

    async def command(self, message: Message, *, patience: float = PATIENCE) -> Message:
        """Sends a command and returns the reply to it. It is sent again after a reconnect, and has its effect once.

        Raises Problem when it is refused, and Unreachable when there is no answer within `patience` seconds: then it may
        have had its effect or not.
        """
        message_id = self.conversation.request(message, local_now() + patience)
        reply: asyncio.Future[Message] = asyncio.get_running_loop().create_future()
        self._replies[message_id] = reply
        self._wake.set()
        try:
            answer = await self._or_failed(reply, patience)
        except TimeoutError:
            raise Unreachable(
                f"{self.access.host} did not answer within {patience:g} s.",
                hint="It may have been done or not: look with `bubble list` before you repeat it.",
            ) from None
        finally:
            del self._replies[message_id]
            self.conversation.pending.forget(message_id)
        if answer.get("status") == "error":
            raise refusal(
                answer.get("code", 500),
                str(answer.get("error", "The server refused it")),
                field=str(answer.get("field", "")),
                retry_after=answer.get("retryAfter", 0.0),
                trace_id=answer.get("traceId", ""),
            )
        return answer

    async def _or_failed(self, wanted: asyncio.Future[Result], within: float) -> Result:
        """The future's result, unless the connection is lost for good before. Raises TimeoutError, or what it was lost by."""
        assert self._task is not None  # noqa: S101  # inside the context manager
        both: list[asyncio.Future[Any]] = [wanted, self._task]
        await asyncio.wait(both, timeout=within, return_when=asyncio.FIRST_COMPLETED)
        if wanted.done():
            return wanted.result()
        if self._task.done():
            self._task.result()
        raise TimeoutError

    async def _end(self) -> None:
        if self._task is not None:
            self._task.cancel()
            # How it ended has been told to whoever waited for it.
            await asyncio.gather(self._task, return_exceptions=True)
        if self._http is not None:
            await self._http.close()

    # --- connecting ---------------------------------------------------------------------------------------------------

    async def _stay_connected(self) -> None:
        """Until it is lost for good, which raises Problem."""
        has_new_token = False
        while True:
            try:
                code, why = await self._one_connection()
                has_new_token = False
            except BadToken:
                # A token of a development system may be of one that was set up anew since.
                if self.access.token is not None or has_new_token:
                    raise
                self._token, has_new_token = None, True
                continue
            except (Unreachable, Busy) as error:
                if not self._ready.done() and isinstance(error, Unreachable):
                    raise
                code, why = None, error.message.rstrip(".")
                self._why = why
                retry_after = error.retry_after if isinstance(error, Busy) else 0.0
            else:
                retry_after = 0.0
            if code == TOKEN_EXPIRED:
                if self.access.token is not None:
                    raise BadToken("The token has expired.", hint=f"It is from {self.access.source}: set a new one.")
                self._token = None
            wait = self.conversation.lost(code, local_now(), retry_after=retry_after)
            self._on_link(Link(connected=False, why=why, retry_at=local_now() + wait))
            await asyncio.sleep(wait)
            self._on_link(Link(connected=False, why=why))

    async def _one_connection(self) -> tuple[int | None, str]:
        """From the handshake to the end: the close code, if there was one, and the reason for people."""
        token = self._token or await self._development_token()
        resumes = self.conversation.resumes
        self.conversation.opened(local_now(), resumed=resumes)
        async with self._socket(token, resumes=resumes) as socket:
            writing = asyncio.create_task(self._write(socket))
            try:
                code, why = await self._read(socket)
                return code, self._dead or why
            finally:
                self._dead = ""
                writing.cancel()
                await asyncio.gather(writing, return_exceptions=True)

    @contextlib.asynccontextmanager
    async def _socket(self, token: str, *, resumes: bool) -> AsyncIterator[aiohttp.ClientWebSocketResponse]:
        assert self._http is not None  # noqa: S101  # inside the context manager
        query = {"deviceId": self._device} | ({"resume": "1"} if resumes else {})
        headers = {"Authorization": f"Bearer {token}"}
        try:
            async with asyncio.timeout(_CONNECT_WITHIN):
                socket = await self._http.ws_connect(
                    self.access.socket_url,
                    params=query,
                    headers=headers,
                    max_msg_size=_LARGEST_MESSAGE,
                    timeout=aiohttp.ClientWSTimeout(ws_close=_CLOSE_WITHIN),
                )
        except aiohttp.WSServerHandshakeError as error:
            raise await self._why_refused(error.status, headers) from error
        except (aiohttp.ClientError, OSError) as error:
            raise unreachable(self.access, error) from error
        try:
            yield socket
        finally:
            await socket.close(message=b"bye")

    async def _why_refused(self, status: int, headers: dict[str, str]) -> Problem:
        """A refused handshake says in its body why, which aiohttp throws away. A plain GET is answered in the same way."""
        assert self._http is not None  # noqa: S101  # inside the context manager
        told: dict[str, Any] = {}
        with contextlib.suppress(aiohttp.ClientError, OSError, msgspec.DecodeError, TypeError):
            url = f"{self.access.url}/ws"
            async with self._http.get(url, headers=headers, params={"deviceId": self._device}) as response:
                if response.status == status:
                    told = msgspec.json.decode(await response.read(), type=dict[str, Any])
        error = str(told.get("error", "")).removeprefix("Not now: ")
        if status == 401:
            return BadToken(
                f"The server does not accept the token: {error or 'it says no more'}.",
                hint=f"The token is from {self.access.source}. `bubble token NAME` makes one where you have the secret.",
            )
        if status in GATEWAY:
            return Busy(f"{self.access.host} takes no connections now: {error or f'HTTP {status}'}.")
        if error:
            return Problem(f"The server refused the connection: {error}.")
        return not_ours(self.access, status)

    async def _development_token(self) -> str:
        """A token in the user's name, kept for the next connection."""
        assert self._http is not None  # noqa: S101  # inside the context manager
        self._token = await development_token(self._http, self.access, self.access.user)
        return self._token

    # --- connected ----------------------------------------------------------------------------------------------------

    async def _read(self, socket: aiohttp.ClientWebSocketResponse) -> tuple[int | None, str]:
        async for message in socket:
            if message.type not in (aiohttp.WSMsgType.TEXT, aiohttp.WSMsgType.BINARY):
                break
            was_up = self._ready.done()
            for happening in self.conversation.received(message.data, local_now()):
                if isinstance(happening, Dead):
                    return None, happening.why
                self._tell(happening, first=not was_up)
            self._wake.set()
        code = socket.close_code
        reason = _REASONS.get(code or 0, "the connection was cut")
        return (None if code == 1006 else code), reason

    async def _write(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        """Sends what there is to send, and lets time pass. Ends with the connection; a dead one it ends itself."""
        with contextlib.suppress(ConnectionError, aiohttp.ClientError):
            while True:
                for happening in self.conversation.tick(local_now()):
                    if isinstance(happening, Dead):
                        self._dead = happening.why
                if self._dead:
                    break
                try:
                    async with asyncio.timeout(_SEND_WITHIN):
                        for text in self.conversation.outgoing():
                            await socket.send_str(text)
                except TimeoutError:
                    break
                due = self.conversation.due
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(None if due is None else max(due - local_now(), 0)):
                        await self._wake.wait()
                self._wake.clear()
        await socket.close(code=aiohttp.WSCloseCode.GOING_AWAY)

    def _tell(self, happening: Happening, *, first: bool) -> None:
        if isinstance(happening, Answered):
            reply = self._replies.get(happening.reply["messageId"])
            if reply is not None and not reply.done():
                reply.set_result(happening.reply)
            return
        self._on_happening(happening)
        if isinstance(happening, UpToDate):
            self._on_link(Link(connected=True))
            if first and not self._ready.done():
                self._ready.set_result(None)


_REASONS = {
    1000: "the server said good-bye",
    1011: "the server made a mistake",
    1012: "the server is being restarted",
    1013: "a part of the system is away",
    4401: "the token has expired",
    4408: "the server had heard nothing for too long",
    4409: "there are too many connections of this user",
    4410: "the server found this connection idle",
    4411: "the server found this connection too old",
    4413: "this terminal reads too slowly",
    4429: "too many messages",
}


async def development_token(http: aiohttp.ClientSession, access: Access, user: str) -> str:
    """A token that a development system gives to anybody. Raises Problem when this is none."""
    try:
        async with http.post(f"{access.url}/dev/token", json={"user": user}) as response:
            body = await response.read()
    except (aiohttp.ClientError, OSError) as error:
        raise unreachable(access, error) from error
    if response.status in GATEWAY:
        raise Busy(f"{access.host} takes no connections now: HTTP {response.status}.")
    if response.status != 200:
        raise BadToken(
            f"{access.host} gives out no development tokens, and there is no other.",
            hint="Set a token with --token, BUBBLE_TOKEN or the config file; or is the address wrong?",
        )
    try:
        token = msgspec.json.decode(body, type=dict[str, Any])["token"]
    except (msgspec.DecodeError, KeyError) as error:
        raise not_ours(access, response.status) from error
    return str(token)


def unreachable(access: Access, error: Exception) -> Unreachable:
    """Why there is no connection, in a sentence."""
    hint = f"Does it run? `make run` starts one here; for another one set --url or BUBBLE_URL (it is {access.url} now)."
    if isinstance(error, aiohttp.ClientConnectorCertificateError | ssl.SSLError):
        return Unreachable(
            f"{access.host} has a certificate that is not trusted here.", hint="Is SSL_CERT_FILE needed?"
        )
    if isinstance(error, TimeoutError):
        return Unreachable(f"{access.host} does not answer.", hint=hint)
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        return Unreachable(f"There is no host {access.host.rsplit(':', 1)[0]}.", hint=hint)
    if isinstance(error, aiohttp.ClientConnectorError) and error.os_error.errno:
        return Unreachable(f"{access.host} can't be reached: {os.strerror(error.os_error.errno).lower()}.", hint=hint)
    return Unreachable(f"{access.host} can't be reached: {error or type(error).__name__}.", hint=hint)


def not_ours(access: Access, status: int) -> Unreachable:
    """Something else listens there: at another address, or before a system that is away just now."""
    return Unreachable(
        f"What answers at {access.url} is no Bubble Timer (HTTP {status}).",
        hint="Set --url or BUBBLE_URL to the address of the page.",
    )
