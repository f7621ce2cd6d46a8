"""A REST client for tests: what a phone without a socket does."""

from types import TracebackType
from typing import Any, NamedTuple, Self

import aiohttp

from tests.system.client import token


class Answer(NamedTuple):
    """What came back."""

    status: int
    body: Any
    headers: Any


class Rest:
    """One user's requests. Use as a context manager."""

    def __init__(self, port: int, user: str, *, prefix: str = "", bearer: bool = True, **headers: str) -> None:
        self.user = user
        authorization = f"Bearer {token(user)}" if bearer else token(user)
        self._http = aiohttp.ClientSession(headers={"Authorization": authorization, **headers})
        self._url = f"http://127.0.0.1:{port}{prefix}"

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._http.close()

    async def ask(self, method: str, path: str, body: Any = None, **options: Any) -> Answer:
        """One request, and its answer."""
        if body is not None:
            options["json"] = body
        async with self._http.request(method, self._url + path, **options) as response:
            text = await response.text()
            body = await response.json() if text else None
            return Answer(response.status, body, response.headers)

    async def done(self, method: str, path: str, body: Any = None, **options: Any) -> Any:
        """The body of the answer to a request that must be accepted."""
        answer = await self.ask(method, path, body, **options)
        assert answer.status == 200, answer
        return answer.body
