"""From the end of the work to the pull request: collect, check, push, open. Pure."""

from dataclasses import replace

from core.order import NodeOrder
from core.plan.draft import Draft
from core.plan.names import stop_name
from core.ports.forge import Pull, PullDraft
from core.reasons import reason
from core.receipt import all_passed, checks_in, collected_in, measured_of, pull_body, pull_title
from core.run import Outcome, RunState
from core.session import AgentSession
from core.wire import Checked, Collect, Collected, Push, RunChecks, StopSession, from_json, to_json

COLLECT_TRIES = 2
PUSH_TRIES = 3
MENDABLE = frozenset({"disk_full"})
"""Codes of a node that are said instead of our own, with the node's sentence."""
AUTHOR = ("Samovar", "samovar@localhost")


def check(draft: Draft) -> float | None:
    """Stop the coding agent, take its work out of the workspace, and measure it."""
    view, run = draft.view, draft.run
    is_late = run.deadline_at is not None and view.now >= run.deadline_at
    if not _stopped(draft, is_late=is_late):
        return None
    if run.chat_in is not None:  # Its work stays in the workspace, which others work in too.
        draft.end(run.verdict or Outcome.ANSWER, run.code, run.reason)
        return None
    found = collected_in(run.measured)
    if found is None:
        found = _collect(draft, is_late=is_late)
        if found is None:
            return None
    if found.commits == 0:
        _nothing_to_publish(draft)
    elif run.verdict is not None or not view.project.checks or _checked(draft, found, is_late):
        draft.to(RunState.PUBLISHING, deadline_at=draft.deadline(view.clocks.publish_s))
    return None


def _stopped(draft: Draft, *, is_late: bool) -> bool:
    """Whether the coding agent is out of the way, or its time to go is over."""
    run = draft.run
    if run.session_id is None or run.node_id is None:
        return True
    stop = StopSession(session=run.session_id)
    answer = draft.order(stop_name(run.id), stop, node=run.node_id)
    return answer is not None or is_late


def _collect(draft: Draft, *, is_late: bool) -> Collected | None:
    run = draft.run
    assert run.node_id is not None  # noqa: S101  a run that worked has both
    assert run.workspace_id is not None  # noqa: S101  a run that worked has both
    body = Collect(
        workspace=run.workspace_id,
        run=run.id,
        message=f"{draft.task.title}\n\n{draft.task.id}",
        author=AUTHOR[0],
        email=AUTHOR[1],
    )
    answer = draft.tried("collect", body, node=run.node_id, times=COLLECT_TRIES)
    if answer is not None and answer.ok:
        found = from_json(Collected, answer.result)
        draft.set(measured=measured_of(found))
        return found
    if answer is not None or is_late:
        _refused(draft, answer, "collect_failed")
    return None


def _refused(draft: Draft, answer: NodeOrder | None, code: str) -> None:
    """End with `code`, but for what people can mend by themselves: that is said as it is."""
    if answer is not None and answer.code in MENDABLE:
        code = answer.code
    end_with(draft, Outcome.FAILED, code, "" if answer is None else answer.text)


def end_with(draft: Draft, outcome: Outcome, code: str, text: str = "") -> None:
    """End with the verdict that was there before, and say this too; else with this one."""
    run = draft.run
    if run.verdict is not None:
        draft.end(run.verdict, run.code, run.reason, more=reason(code, text))
    else:
        draft.end(outcome, code, text)


def _nothing_to_publish(draft: Draft) -> None:
    run, session = draft.run, draft.view.session
    if run.verdict is not None:
        draft.end(run.verdict, run.code, run.reason)
    elif _is_answer(draft, session) and not run.code:
        draft.end(Outcome.ANSWER, text=run.summary)
    else:
        draft.end(Outcome.NO_CHANGE, run.code or "no_change")


def _is_answer(draft: Draft, session: AgentSession | None) -> bool:
    has_words = bool(draft.run.summary.strip())
    is_said = session is not None and bool(session.answer)
    return has_words and (is_said or draft.task.kind == "question")


def _checked(draft: Draft, found: Collected, is_late: bool) -> bool:
    """Whether the checks are through; their failure is a result, not an error."""
    view, run = draft.view, draft.run
    if checks_in(run.measured) is not None:
        return True
    assert run.node_id is not None  # noqa: S101  a run that worked has both
    assert run.workspace_id is not None  # noqa: S101  a run that worked has both
    body = RunChecks(
        workspace=run.workspace_id,
        run=run.id,
        commit=found.head,
        commands=view.project.checks,
        time_limit_s=view.clocks.check_s,
    )
    answer = draft.order(f"{run.id}/checks", body, node=run.node_id)
    if answer is None and not is_late:
        return False
    results: list[object] = []
    if answer is not None and answer.ok:
        results = [to_json(result) for result in from_json(Checked, answer.result).results]
    else:
        why = "checks_timeout" if answer is None else answer.code
        text = "They did not end in time." if answer is None else answer.text
        results = [{"command": "all checks", "exit_code": -1, "took_s": 0.0, "tail": text}]
        draft.tell("run.checks_failed", code=why)
    draft.set(measured={**(run.measured or {}), "checks": results})
    return True


def publish(draft: Draft) -> float | None:
    """Push the branch; the pull request is opened by whoever holds the code host's port."""
    run = draft.run
    found = collected_in(run.measured)
    assert found is not None  # noqa: S101  publishing comes after collecting
    assert run.node_id is not None  # noqa: S101  a run that worked has both
    assert run.workspace_id is not None  # noqa: S101  a run that worked has both
    if run.deadline_at is not None and draft.now >= run.deadline_at:
        code = "pull_failed" if is_pushed(draft) else "push_failed"
        end_with(draft, Outcome.PUSHED if is_pushed(draft) else Outcome.FAILED, code)
        return None
    body = Push(workspace=run.workspace_id, run=run.id, commit=found.head, branch=draft.task.branch)
    answer = draft.tried("push", body, node=run.node_id, times=PUSH_TRIES)
    if answer is not None and not answer.ok:
        _refused(draft, answer, "push_failed")
    elif answer is not None and run.verdict is not None:
        draft.end(run.verdict, run.code, run.reason, more=f"It is on `{draft.task.branch}`.")
    return None


def is_pushed(draft: Draft) -> bool:
    """Whether one of the pushes was answered with success."""
    names = (f"{draft.run.id}/push/{number}" for number in range(1, PUSH_TRIES + 1))
    return any(order.ok is True for name in names if (order := draft.view.orders.get(name)))


def wanted_pull(draft: Draft, *, asked_by: str, page_url: str) -> PullDraft | None:
    """Return the pull request that is to be opened now, None if it is not yet time."""
    run, workspace = draft.run, draft.view.workspace
    if run.state is not RunState.PUBLISHING or run.verdict is not None or not is_pushed(draft):
        return None
    return PullDraft(
        head=draft.task.branch,
        base=draft.view.project.branch or (workspace.base if workspace else "") or "main",
        title=pull_title(draft.task),
        body=pull_body(draft.task, run, asked_by=asked_by, page_url=page_url),
        draft=not all_passed(run) or run.code == "budget",
    )


def pulled(draft: Draft, pull: Pull) -> None:
    """End the run with its pull request."""
    draft.task = replace(
        draft.task,
        pull_number=pull.number,
        pull_url=pull.url,
        pull_state=pull.state,
        pull_draft=pull.draft,
    )
    draft.set(measured={**(draft.run.measured or {}), "pull_head": pull.head_sha})
    draft.tell("pull_request.opened", number=pull.number, url=pull.url)
    draft.end(Outcome.PULL_REQUEST, draft.run.code, draft.run.reason)


def not_pulled(draft: Draft, text: str) -> None:
    """End the run with its branch: the code host refused the pull request."""
    draft.end(Outcome.PUSHED, "pull_failed", text)
