import asyncio

import pytest

from bot.people import LOCAL, fingerprint
from core.access import BrowserSession, Person, Ticket
from core.ids import PersonId
from tests.fakes.desk import Desk
from tests.fakes.nouns import CLOCKS


async def test_c3_of_two_redeems_at_once_one_gets_in(desk: Desk) -> None:
    ana = await desk.person("ana")
    token = (await desk.people.sign_in(ana.id)).reveal()
    cookies = await asyncio.gather(*(desk.people.redeem(token) for _ in range(5)))
    (cookie,) = [cookie for cookie in cookies if cookie is not None]
    assert await desk.people.person(cookie) == ana
    assert await desk.people.redeem(token) is None
    assert len(await desk.store.find(BrowserSession)) == 1


async def test_c3_a_ticket_has_an_end(desk: Desk) -> None:
    ana = await desk.person("ana")
    token = (await desk.people.sign_in(ana.id)).reveal()
    desk.clock.advance(CLOCKS.sign_in_s)
    assert await desk.people.redeem(token) is None


async def test_c2_a_browser_is_signed_in_for_its_time(desk: Desk) -> None:
    ana = await desk.person("ana")
    cookie = await desk.people.redeem((await desk.people.sign_in(ana.id)).reveal())
    assert cookie is not None
    desk.clock.advance(CLOCKS.browser_s - 1)
    assert await desk.people.person(cookie) == ana
    desk.clock.advance(1)
    assert await desk.people.person(cookie) is None


@pytest.mark.parametrize("wrong", ["", "x", "\x00", "ä" * 100])
async def test_what_was_never_given_out_opens_nothing(desk: Desk, wrong: str) -> None:
    assert await desk.people.redeem(wrong) is None
    assert await desk.people.person(wrong) is None
    await desk.people.leave(wrong)


async def test_leaving_in_two_windows_at_once_ends_the_session(desk: Desk) -> None:
    ana = await desk.person("ana")
    cookie = await desk.people.redeem((await desk.people.sign_in(ana.id)).reveal())
    assert cookie is not None
    await asyncio.gather(*(desk.people.leave(cookie) for _ in range(3)))
    assert await desk.people.person(cookie) is None


async def test_c7_secrets_are_kept_as_hashes_alone(desk: Desk) -> None:
    ana = await desk.person("ana")
    token = (await desk.people.sign_in(ana.id)).reveal()
    cookie = await desk.people.redeem(token)
    (ticket,) = await desk.store.find(Ticket)
    (session,) = await desk.store.find(BrowserSession)
    assert (ticket.id, session.id) == (fingerprint(token), fingerprint(cookie or ""))
    assert token not in repr([ticket, session])


async def test_an_enrolment_token_signs_nobody_in(desk: Desk) -> None:
    token = (await desk.people.enrolment(None)).reveal()
    assert await desk.people.redeem(token) is None


async def test_whoever_reads_the_state_folder_is_the_administrator_once(desk: Desk) -> None:
    first, again = await asyncio.gather(desk.people.local("ana"), desk.people.local("ana"))
    assert first == again
    assert (first.id, first.role) == (LOCAL, "admin")
    assert len(await desk.store.find(Person)) == 1


async def test_a_person_whom_we_do_not_know_is_called_by_id(desk: Desk) -> None:
    await desk.person("ana")
    assert await desk.people.name(PersonId("ana")) == "Ana"
    assert await desk.people.name(PersonId("U0815")) == "U0815"
    assert await desk.people.name(None) == "nobody"


async def test_a_sign_in_link_is_for_whoever_asks(desk: Desk) -> None:
    eve = await desk.person("eve", "viewer")
    link = await desk.commands.sign_in_link(eve)
    cookie = await desk.people.redeem(link.partition("token=")[2])
    assert await desk.people.person(cookie or "") == eve
