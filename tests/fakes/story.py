"""Tasks in every state that a page can show, told through the levers of `FakeCommands`."""

from datetime import timedelta
from decimal import Decimal
from typing import Any

from core.access import Person
from core.card import CheckLine
from core.ids import ProjectId, TaskId
from core.ports.commands import Words
from tests.fakes.commands import FakeCommands, a_machine, a_result

DIFF = """--- a/shop/cart.py
+++ b/shop/cart.py
@@ -12,5 +12,6 @@ class Cart:
     def total(self) -> Decimal:
-        return round(sum(line.price for line in self.lines), 2)
+        total = sum((line.price for line in self.lines), Decimal(0))
+        return total.quantize(CENT, rounding=ROUND_HALF_UP)
"""
SAYS = """Totals were rounded **per line** with `round()`, which rounds half to even.

- `Cart.total` now sums exact decimals and rounds once, half up
- 12 tests cover half cents, refunds and empty carts

See [the tax rules](https://example.org/rounding) for why half up.
"""


async def ask(commands: FakeCommands, person: Person, text: str, project: str = "web") -> TaskId:
    key = f"k{len(commands.heard)}"
    words = Words(
        key=key, surface="web", channel="chat", message=key, text=text, project=ProjectId(project)
    )
    heard = await commands.say(person, words)
    assert heard.task_id is not None
    return heard.task_id


async def tell(commands: FakeCommands, person: Person) -> dict[str, TaskId]:
    """Make one task of each kind; return them by what they show."""
    tasks = {
        "done": await ask(commands, person, "Fix failing checkout tests"),
        "failed": await ask(commands, person, "Move the till to Python 3.13", "till"),
        "asking": await ask(commands, person, "Add a dark theme to the receipt page"),
        "working": await ask(
            commands, person, "Cart totals are a cent off when a line has a half cent"
        ),
        "queued": await ask(commands, person, "Why does the nightly job skip Sundays?", "till"),
    }
    _done(commands, tasks["done"])
    _failed(commands, tasks["failed"])
    _asking(commands, tasks["asking"])
    working(commands, tasks["working"])
    machine = a_machine(workspaces=tuple(commands.spaces))
    commands.machines[machine.id] = machine
    lost = a_machine("node-77aa01fe", supplier="joined", link="lost", load=0.0, workspaces=())
    commands.machines[lost.id] = lost
    return tasks


def _ready(commands: FakeCommands, task: TaskId) -> None:
    commands.begin(task)
    commands.step(task, "Machine", "done", "this computer", took_s=0.4)
    commands.step(task, "Workspace", "done", "ready", took_s=8.7, usual_s=9.0)
    commands.speak(task, "session.state", state="starting", reason="")
    commands.speak(task, "message.user", prompt="p-1", text=commands.views[task].prompt)


def tool(commands: FakeCommands, task: TaskId, name: str, title: str, **end: Any) -> None:
    number = f"toolu_{len(commands.told[commands.session(task)])}"
    given = {"command": title} if name == "Bash" else {"file_path": title}
    commands.speak(task, "tool.start", tool=number, name=name, title=title, input=given)
    if end:
        commands.speak(task, "tool.end", tool=number, **{"ok": True, **end})


def working(commands: FakeCommands, task: TaskId) -> None:
    _ready(commands, task)
    commands.step(task, "Agent", "doing", "reading the tests", took_s=41.0, usual_s=180.0)
    commands.speak(
        task, "message.thinking", message="m1", text="Rounding looks like it happens per line."
    )
    commands.speak(task, "message.text", message="m1", text="I look at how totals are **rounded**.")
    tool(commands, task, "Read", "shop/cart.py", summary="214 lines")
    tool(commands, task, "Bash", "pytest -q tests/test_cart.py", ok=False, summary="2 failed")
    tool(commands, task, "Edit", "shop/cart.py", summary="+2 -1", diff=DIFF)
    commands.line(task, "Ben", "Mind the refunds, please.", receipt="the agent has it")
    tool(commands, task, "Bash", "pytest -q")
    commands.speak(
        task, "background", tasks=[{"id": "b1", "kind": "bash", "title": "npm run watch"}]
    )
    commands.change(task, tokens_usd=Decimal("0.31"))


def _asking(commands: FakeCommands, task: TaskId) -> None:
    _ready(commands, task)
    commands.step(task, "Agent", "doing", "waits for your answer", took_s=95.0)
    commands.speak(task, "message.text", message="m1", text="Two palettes would fit. I ask.")
    options = [
        {"label": "Follow the system", "description": "prefers-color-scheme, no switch"},
        {"label": "A switch", "description": "remembered per person"},
    ]
    asked = {"text": "How is it chosen?", "header": "Theme", "options": options, "multiple": False}
    commands.speak(
        task, "question.open", request="r1", kind="question", title="Which theme switch?"
    )
    commands.ask(task, title="Which theme switch?", questions=(asked,))


def _done(commands: FakeCommands, task: TaskId) -> None:
    working(commands, task)
    commands.speak(task, "message.text", message="m9", text=SAYS)
    commands.speak(task, "complete", summary="Totals are exact.")
    commands.speak(task, "turn.end", prompts=["p-1"], ok=True, reason="", text="", cost_usd=0.84)
    commands.speak(task, "session.state", state="ended", reason="done", exit_code=0)
    for name, text, took in (
        ("Agent", "done", 358.0),
        ("Checks", "1 of 3 failed", 65.0),
        ("Pull request", "#3", 1.8),
    ):
        commands.step(task, name, "warning" if name == "Checks" else "done", text, took_s=took)
    checks = (
        CheckLine(command="pytest -q", ok=True, took_s=38.2, tail="412 passed in 37.10s"),
        CheckLine(command="ruff check .", ok=True, took_s=0.6, tail="All checks passed!"),
        CheckLine(
            command="mypy shop", ok=False, took_s=26.0, tail="shop/tax.py:9: error: Missing return"
        ),
    )
    commands.change(task, tokens_usd=Decimal("0.84"), machine_usd=Decimal("0.012"))
    commands.finish(
        task,
        a_result(checks=checks, says=SAYS),
        pull_url="http://127.0.0.1:9/acme/web/pull/3",
    )


def _failed(commands: FakeCommands, task: TaskId) -> None:
    _ready(commands, task)
    commands.step(task, "Workspace", "warning", "recovered", took_s=61.0)
    commands.step(task, "Agent", "failed", "stopped", took_s=12.0)
    note = "The repository's devcontainer did not build; the default image is used."
    commands.change(task, notes=(note,))
    commands.speak(task, "notice", level="error", code="billing_error", text="Credit is used up.")
    commands.speak(
        task,
        "turn.end",
        prompts=["p-1"],
        ok=False,
        reason="error",
        text="Your credit balance is too low.",
        code="billing_error",
    )
    result = a_result(
        outcome="failed",
        headline="Failed",
        advice="The model account has no credit. Add some, then reply here to go on.",
        says="",
        measured=(),
        files=0,
    )
    commands.finish(task, result, state="failed")
    commands.now += timedelta(seconds=1)
