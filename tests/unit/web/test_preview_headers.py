"""Headers of previews: nothing goes on that is ours, nothing comes back that reaches further."""

import h11
import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters.web.preview.headers import (
    back,
    body_of,
    cookie_in,
    is_foreign,
    onward,
)

ORIGIN = "https://ws-k3v9--5173.example.com"
PAGES = "https://samovar.example.com"
token = st.from_regex(r"[a-z][a-z0-9-]{0,12}", fullmatch=True).map(str.encode)
value = st.text(st.characters(codec="latin-1", categories=("L", "N", "P", "S")), max_size=20).map(
    lambda text: text.encode("latin-1")
)
known = st.sampled_from(
    [
        *(b"connection", b"keep-alive", b"te", b"trailer", b"transfer-encoding", b"upgrade"),
        *(b"content-length", b"host", b"forwarded", b"x-forwarded-for", b"cookie", b"expect"),
        *(b"set-cookie", b"location", b"origin", b"referer", b"proxy-authorization"),
    ]
)
headers = st.lists(st.tuples(token | known, value), max_size=12)
ONCE = {b"host", b"forwarded", b"cookie"}


def go(*pairs: tuple[bytes, bytes]) -> list[tuple[bytes, bytes]]:
    return onward(pairs, origin=ORIGIN, port=5173)


def come(*pairs: tuple[bytes, bytes]) -> list[tuple[bytes, bytes]]:
    return back(pairs, pages=PAGES, port=5173)


@given(headers)
def test_what_goes_on_is_one_request_whatever_came(given: list[tuple[bytes, bytes]]) -> None:
    gone = go(*given)
    names = [name for name, _ in gone]
    assert gone[0] == (b"host", b"localhost:5173")
    assert all(names.count(name) <= 1 for name in ONCE)
    assert not {b"connection", b"transfer-encoding", b"content-length", b"expect", b"te"} & {*names}
    assert not any(name.startswith(b"x-forwarded-") for name in names)
    framed = h11.Request(method="GET", target="/", headers=gone)
    written = h11.Connection(h11.CLIENT).send(framed)
    assert written is not None
    assert written.count(b"\r\n") == len(gone) + 2, "a header became two"


@given(headers, st.lists(token, max_size=3))
def test_what_the_connection_names_goes_no_further(
    given: list[tuple[bytes, bytes]], named: list[bytes]
) -> None:
    all_of = [*given, (b"connection", b", ".join(named))]
    kept = {b"host", b"forwarded", b"cookie", b"origin", b"referer"}
    assert not {name for name, _ in go(*all_of)} & ({*named} - kept)
    kept = {b"set-cookie", b"location", b"content-security-policy", b"x-robots-tag"}
    assert not {name for name, _ in come(*all_of)} & ({*named} - kept)


@given(st.lists(value.filter(lambda v: not {59, 44} & {*v}), max_size=5))
def test_our_cookie_never_goes_on(others: list[bytes]) -> None:
    for ours in (b"samovar-preview=secret", b"__Host-samovar-preview=secret"):
        gone = dict(go((b"cookie", b"; ".join([*others, ours, b"theirs=1"]))))
        assert b"secret" not in gone[b"cookie"]
        assert gone[b"cookie"].endswith(b"theirs=1")


def test_no_cookies_are_no_header() -> None:
    assert b"cookie" not in dict(go((b"cookie", b"samovar-preview=x")))


@given(st.lists(st.sampled_from([b"Domain=example.com", b"domain = x", b"Path=/", b"HttpOnly"])))
def test_a_cookie_of_an_app_stays_at_its_origin(attributes: list[bytes]) -> None:
    (kept,) = [v for n, v in come((b"set-cookie", b"; ".join([b"a=1", *attributes])))][:1]
    assert kept.startswith(b"a=1")
    assert b"domain" not in kept.lower()
    assert kept.count(b"HttpOnly") == attributes.count(b"HttpOnly")


@pytest.mark.parametrize("name", [b"samovar-preview", b"__Host-samovar-preview"])
def test_an_app_cannot_set_our_cookie(name: bytes) -> None:
    assert b"set-cookie" not in dict(come((b"set-cookie", name + b"=mine; Path=/")))


def test_the_app_sees_one_origin_and_is_told_the_other() -> None:
    gone = dict(
        go(
            (b"host", b"ws-k3v9--5173.example.com"),
            (b"origin", ORIGIN.encode()),
            (b"referer", ORIGIN.encode() + b"/a?b"),
            (b"x-forwarded-host", b"evil"),
            (b"forwarded", b"host=evil"),
        )
    )
    assert gone[b"host"] == b"localhost:5173"
    assert gone[b"origin"] == b"http://localhost:5173"
    assert gone[b"referer"] == b"http://localhost:5173/a?b"
    assert gone[b"forwarded"] == b'host="ws-k3v9--5173.example.com";proto=https'
    foreign = b"https://ws-k3v9--5173.example.com.evil/"
    assert dict(go((b"referer", foreign)))[b"referer"] == foreign


@pytest.mark.parametrize(
    ("there", "here"),
    [
        (b"http://localhost:5173/a?b", b"/a?b"),
        (b"http://127.0.0.1:5173", b"/"),
        (b"http://localhost:5173?x", b"/?x"),
        (b"http://localhost:5173//evil.com", b"/evil.com"),
        (b"http://localhost:51730/a", b"http://localhost:51730/a"),
        (b"/a", b"/a"),
        (b"https://example.org/", b"https://example.org/"),
    ],
)
def test_a_redirect_to_what_the_app_takes_for_itself_stays_here(there: bytes, here: bytes) -> None:
    assert dict(come((b"location", there)))[b"location"] == here


def test_an_app_on_port_80_sees_the_origin_that_a_browser_writes() -> None:
    own = [(b"origin", ORIGIN.encode()), (b"referer", ORIGIN.encode() + b"/a")]
    gone = dict(onward(own, origin=ORIGIN, port=80))
    assert gone[b"host"] == b"localhost"
    assert gone[b"origin"] == b"http://localhost"
    assert gone[b"referer"] == b"http://localhost/a"


@pytest.mark.parametrize(
    ("there", "here"),
    [
        (b"http://localhost/shop/", b"/shop/"),
        (b"http://localhost:80/shop/", b"/shop/"),
        (b"http://127.0.0.1", b"/"),
        (b"http://[::1]?x", b"/?x"),
        (b"http://localhost:8080/", b"http://localhost:8080/"),
        (b"http://localhost.example.org/", b"http://localhost.example.org/"),
    ],
)
def test_a_redirect_of_port_80_stays_here_however_it_is_spelt(there: bytes, here: bytes) -> None:
    assert dict(back([(b"location", there)], pages=PAGES, port=80))[b"location"] == here
    assert dict(come((b"location", b"http://localhost/")))[b"location"] == b"http://localhost/"


def test_what_speaks_for_other_origins_does_not_come_back() -> None:
    names = {
        name
        for name, _ in come(
            (b"clear-site-data", b'"*"'),
            (b"strict-transport-security", b"includeSubDomains"),
            (b"alt-svc", b"h3"),
            (b"etag", b"1"),
        )
    }
    assert names == {b"etag", b"content-security-policy", b"x-robots-tag"}


def test_only_the_pages_may_frame_a_preview_also_where_the_app_has_a_policy() -> None:
    policies = [v for n, v in come((b"content-security-policy", b"x")) if n.endswith(b"policy")]
    assert policies == [b"x", b"frame-ancestors 'self' https://samovar.example.com"]


def test_the_length_of_a_body_is_said_once() -> None:
    length, chunked = (b"content-length", b"5"), (b"transfer-encoding", b"chunked")
    assert body_of([length, chunked]) == [chunked]
    assert body_of([length]) == [length]
    assert body_of([]) == []
    assert b"content-length" not in dict(come(length, chunked))
    assert dict(come(length))[b"content-length"] == b"5"


def test_a_cookie_is_found_by_its_whole_name() -> None:
    given = [(b"cookie", b"a=1; xsamovar-preview=no; samovar-preview=yes=")]
    assert cookie_in(given, "samovar-preview") == "yes="
    assert cookie_in([], "samovar-preview") == ""


OWN = (b"origin", ORIGIN.encode())
OTHER = (b"origin", b"https://ws-other--80.example.com")


@pytest.mark.parametrize(
    ("pairs", "method", "expected"),
    [
        ([], "GET", False),
        ([OWN], "POST", False),
        ([OWN], None, False),
        ([OTHER], "GET", True),
        ([OTHER], None, True),
        ([(b"origin", b"null")], "POST", True),
        ([(b"origin", b"null"), (b"sec-fetch-site", b"same-origin")], "POST", False),
        ([(b"sec-fetch-site", b"same-origin")], "GET", False),
        ([(b"sec-fetch-site", b"none")], "GET", False),
        ([(b"sec-fetch-site", b"same-site")], "GET", True),
        ([(b"sec-fetch-site", b"cross-site"), (b"sec-fetch-mode", b"no-cors")], "GET", True),
        ([(b"sec-fetch-site", b"cross-site"), (b"sec-fetch-mode", b"navigate")], "GET", False),
        ([(b"sec-fetch-site", b"cross-site"), (b"sec-fetch-mode", b"navigate")], "POST", True),
    ],
)
def test_requests_of_other_origins_pages_are_told_from_links(
    pairs: list[tuple[bytes, bytes]], method: str | None, expected: bool
) -> None:
    assert is_foreign(pairs, method, ORIGIN) is expected
