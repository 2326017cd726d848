"""Words of strangers in every place where a page shows words."""

import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import aiohttp
import pytest

from core.card import CheckLine, Question, Step
from core.ids import DecisionId, RunId, TaskId, WorkspaceId
from core.ledger import Start
from core.wire import EVENT_KINDS
from tests.fakes.commands import START, a_machine, a_person, a_result
from tests.fakes.story import ask, tell
from tests.fakes.web import Setup, Site, a_site

EVIL = [
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "'><svg/onload=alert(1)>",
    "<!channel> @everyone {{7*7}} {% raw %} ${7*7}",
    "\x1b[2J\x1b]0;owned\x07 \x9b31m",
    "invoice\u202egpj.exe \u2066x\u2069 \u200b\u2060 \U000e0041",
    "javascript:alert(1)",
    "[x](javascript:alert(1)) ![p](https://evil.example/p.png) <https://ok.example>",
    "\ud83d alone \udc00",
    "</textarea></pre></style><style>*{display:none}</style>",
    "a" * 1_000_000,
    "../../etc/passwd\r\nSet-Cookie: x=y",
]
FORBIDDEN = {"script", "style", "iframe", "object", "embed", "base", "img", "svg", "link", "meta"}


class Walker(HTMLParser):
    """Collects what a browser would act on."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))


def evil_task(setup: Setup, task: TaskId, evil: str) -> None:
    commands = setup.commands
    commands.begin(task)
    for kind in EVENT_KINDS:
        tasks = [{"id": evil, "kind": evil, "title": evil}]
        data = {"text": evil, "name": evil, "title": evil, "summary": evil, "reason": evil}
        more = {"input": {evil[:50]: evil}, "diff": f"+{evil}\n-{evil}", "tasks": tasks}
        commands.speak(task, kind, tool="t1", message=evil, by=evil, state="ended", **data, **more)
    commands.line(task, evil[:200], evil, receipt=evil)
    commands.line(task, "samovar", evil, kind="end")
    option = {"label": evil, "description": evil}
    question = Question(
        id=DecisionId(f"d:{evil[:100]}"),
        kind="question",
        title=evil,
        detail=evil,
        questions=({"text": evil, "header": evil, "options": [option]},),
        is_open=True,
    )
    several = replace(question, questions=question.questions * 2, id=DecisionId("d2"))
    closed = replace(question, is_open=False, answer=evil, answered_by=evil, id=DecisionId("d3"))
    check = CheckLine(command=evil, ok=False, took_s=1.0, tail=evil)
    commands.change(
        task,
        title=evil,
        facts=(evil, evil),
        notes=(evil,),
        questions=(question, several, closed),
        steps=(Step(name=evil, mark="doing", text=evil, took_s=1.0),),
        result=a_result(headline=evil, advice=evil, says=evil, measured=(evil,), checks=(check,)),
        pull_url=evil,
        state="done",
    )
    workspace = commands.views[task].card.workspace_id or WorkspaceId("")
    commands.spaces[workspace] = replace(
        commands.spaces[workspace],
        branch=evil,
        error=evil,
        recovered=evil,
        notes=(evil,),
        steps=({"step": evil, "state": "failed", "text": evil, "limit_s": "9", "then": evil},),
    )
    took = {"fetch": 1.0, evil: 2.0}
    commands.started = [
        Start(workspace=workspace, task=task, at=START, took_s=took, is_recovered=True)
    ]
    commands.logs[workspace] = evil
    commands.views[task] = replace(
        commands.views[task],
        runs=(
            *commands.views[task].runs,
            replace(commands.views[task].runs[0], outcome=evil, id=RunId("T-1.9")),
        ),
    )
    machine = a_machine(supplier=evil, agent=evil)
    commands.machines[machine.id] = machine


def assert_tame(text: str, site: Site) -> None:
    walker = Walker()
    walker.feed(text)
    own = [attrs for tag, attrs in walker.tags if tag == "script"]
    assert own == [{"type": "module", "src": "/static/app.js"}] or not own
    for tag, attrs in walker.tags:
        is_ours = tag == "img" or (tag == "svg" and attrs.get("role") == "img")
        if tag in FORBIDDEN - {"script", "meta", "link"} and not is_ours:
            pytest.fail(f"{tag} {attrs}")
        assert not [name for name in attrs if name.startswith("on") or name == "style"], (
            tag,
            attrs,
        )
        if tag == "img":
            assert attrs["src"] == "/static/samovar.svg"
        link = attrs.get("href") or attrs.get("action") or ""
        assert not link or re.match(r"(/(?!/)|#|https?://)", link), link
        if re.match(r"https?://", link):
            assert "noopener" in (attrs.get("rel") or "")
    for character in "\x1b\x07\x9b\u202e\u2066\u200b\u2060\U000e0041\ud83d":
        assert character not in text
    assert "{{7*7}}" in text or "49" not in re.findall(r"\b49\b", text)


@pytest.mark.parametrize("evil", EVIL, ids=range(len(EVIL)))
async def test_c10_words_of_strangers_are_only_words(evil: str) -> None:
    setup = Setup(person=a_person(name=evil[:60]))
    task = await ask(setup.commands, setup.person, evil)
    evil_task(setup, task, evil)
    paths = ["/", "/new?repo=x", f"/tasks/{task}", f"/runs/{task}.1", "/nodes", "/workspaces"]
    paths.append(f"/workspaces/{setup.commands.views[task].card.workspace_id}")
    paths.append("/projects/web/starts")
    async with (
        a_site(setup) as site,
        aiohttp.ClientSession(site.url, headers={"Cookie": f"samovar={site.cookie}"})
        if evil.isascii() and evil.isprintable()
        else aiohttp.ClientSession(site.url, headers={"Cookie": _plain(site)}) as http,
    ):
        for path in paths:
            async with http.get(path) as answer:
                assert answer.status == 200, path
                assert "Set-Cookie" not in answer.headers
                text = await answer.text()
                assert_tame(text, site)
                assert len(text) < 3_000_000
        for path in ("/new", "/sign-in"):
            query = {"repo": evil[:2000], "prompt": evil[:2000], "token": evil[:2000]}
            query = {k: v.encode(errors="replace").decode() for k, v in query.items()}
            async with http.get(path, params=query) as answer:
                assert answer.status == 200
                assert_tame(await answer.text(), site)
        session = setup.commands.session(task) if setup.commands.views[task].runs else ""
        async with http.get(f"/api/v1/sessions/{session}/events") as answer:
            assert answer.status == 200
            json.loads(await answer.text())
        for path in ("/api/v1/tasks", f"/api/v1/tasks/{task}", "/api/v1/workspaces"):
            async with http.get(path) as answer:
                assert answer.status == 200, (path, await answer.text())
                assert json.loads(await answer.text())


def _plain(site: Site) -> str:
    site.sign_in.cookies["plain"] = site.person
    return "samovar=plain"


async def test_c10_the_same_words_are_tame_on_the_live_stream() -> None:
    setup = Setup()
    tasks = await tell(setup.commands, setup.person)
    evil = "<script>x</script>\x1b]0;y\x07\r\nevent: put\ndata: <b>\u202e"
    task = tasks["working"]
    setup.commands.speak(task, "message.text", message="m", text=evil)
    setup.commands.speak(task, "notice", level="info", code="", text="the end of it")
    async with (
        a_site(setup) as site,
        aiohttp.ClientSession(site.url, cookies=site.cookies) as http,
        http.get(f"/tasks/{task}/live") as answer,
    ):
        text = ""
        while "the end of it" not in text:
            text += (await answer.content.readany()).decode()
        assert "<script" not in text
        assert "\x1b" not in text
        assert "\u202e" not in text
        assert "\ndata: <b>" not in text
        for line in text.split("\n"):
            assert re.match(r"(event|data|id|retry): |: |$", line), line


def test_no_template_turns_escaping_off() -> None:
    for path in Path("adapters/web/templates").glob("*.html"):
        text = path.read_text()
        assert "|safe" not in text
        assert "autoescape" not in text
        assert "style=" not in text
        assert not re.search(r"<script(?! (type=\"module\"|defer) src=\"/static/)", text)
