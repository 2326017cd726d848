"""Who is behind a browser: one cookie, host-only, never readable by scripts."""

from typing import Annotated

from fastapi import Depends, Request
from starlette.requests import HTTPConnection
from starlette.responses import Response

from adapters.web.problems import SignInNeededError
from core.access import Person
from core.ports.commands import SignIn

LIFE_S = 30 * 24 * 3600
"""How long the browser keeps the cookie; whether it is still good is decided behind `SignIn`."""


class Door:
    """The cookie of the pages.

    Attributes:
        is_https: Under https the cookie is `__Host-`: bound to this host, never sent in the clear
            (https://datatracker.ietf.org/doc/html/draft-ietf-httpbis-rfc6265bis#section-4.1.3.2).
    """

    def __init__(self, sign_in: SignIn, *, is_https: bool) -> None:
        self.sign_in = sign_in
        self.is_https = is_https
        self.cookie = "__Host-samovar" if is_https else "samovar"

    async def person(self, request: HTTPConnection) -> Person:
        """Return who asks.

        Raises:
            SignInNeededError: If nobody is signed in.
        """
        person = await self.anybody(request)
        if person is None:
            raise SignInNeededError("Sign in first: run `samovar sign-in` and open its link.")
        return person

    async def anybody(self, request: HTTPConnection) -> Person | None:
        """Return who is signed in; None where nobody is."""
        cookie = request.cookies.get(self.cookie, "")
        return await self.sign_in.person(cookie) if cookie else None

    def let_in(self, answer: Response, cookie: str) -> None:
        """Give the browser its cookie."""
        answer.set_cookie(
            self.cookie,
            cookie,
            max_age=LIFE_S,
            path="/",
            secure=self.is_https,
            httponly=True,
            samesite="lax",
        )

    async def let_out(self, request: Request, answer: Response) -> None:
        """End the browser's session."""
        cookie = request.cookies.get(self.cookie, "")
        if cookie:
            await self.sign_in.leave(cookie)
        answer.delete_cookie(
            self.cookie, path="/", secure=self.is_https, httponly=True, samesite="lax"
        )


async def who(connection: HTTPConnection) -> Person:
    """Return who asks, by request or WebSocket, as the app that was built knows it."""
    person: Person = await connection.app.state.who(connection)
    return person


Actor = Annotated[Person, Depends(who)]
