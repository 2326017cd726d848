"""Every sentence that we say to people in threads, apart from why a run ended."""

from collections.abc import Sequence

from core.card import Card, CheckLine, Step
from core.chat import CHATS_MAX
from core.project import Project
from core.terminal import Terminal, TerminalState

_MARKS = {
    "todo": "·",
    "doing": "…",
    "done": "✓",
    "warning": "!",
    "failed": "✗",
    "skipped": "-",
}
AGENT_BUSY = "The agent is at work. Wait until it is idle (--wait), or interrupt it now (--now)."
AGENT_STARTS = "The agent is just starting. Try again in a moment."
NOTHING_TO_STOP = "Nothing is running here. Reply with what you want changed."


def which_project(projects: Sequence[Project]) -> str:
    """Ask for the project of a request that names none."""
    if not projects:
        return (
            "No project is set up yet. An administrator adds one under [[projects]] in the "
            "configuration file."
        )
    names = ", ".join(f"`{project.id}` ({project.repository})" for project in projects)
    return f"Which project is this for? Reply with its name: {names}."


def unknown_project(name: str, projects: Sequence[Project]) -> str:
    """Say that a project does not exist, and which do."""
    if not projects:
        return which_project(projects)
    known = "There is" if len(projects) == 1 else "There are"
    return f"There is no project `{name}`. {known}: {', '.join(p.id for p in projects)}."


def not_allowed(verb: str) -> str:
    """Say that the person's role does not let them do it."""
    if verb == "manage":
        return "You may not manage here. Only administrators may: ask one of them."
    return f"You may not {verb} here. Ask whoever runs Samovar."


def answered_before(by: str, answer: str) -> str:
    """Say that somebody was first."""
    return f"{by} has answered already: {answer}."


def withdrawn(title: str) -> str:
    """Say that a question went away before somebody answered it."""
    return f"It is too late to answer: nobody needs an answer to “{title}” any more."


def in_terminal(terminal: Terminal, by: str, task: str) -> str:
    """Say that somebody else has an agent's conversation, or waits for it."""
    if terminal.state is TerminalState.WAITING:
        said = f"{by} waits for it already: it goes to their terminal when the agent is idle."
    else:
        since = f"{terminal.state_since:%H:%M} UTC"
        said = f"{by} has it in the terminal {terminal.id} since {since}. Look at it there."
    return f"{said} To give it back: samovar session return {task}"


def session_over(task: str) -> str:
    """Say that an agent's conversation has ended."""
    return (
        f"The agent's conversation of {task} is over. Reply in its thread: the agent goes on, and "
        "then you can open it in a terminal."
    )


def no_such(thing: str, name: str) -> str:
    """Say that something does not exist."""
    return f"There is no {thing} {name}."


def card_text(card: Card) -> str:
    """Return the whole card in plain words: for screen readers, notifications and terminals."""
    lines = [f"{card.task_id} · {card.title}", " · ".join(card.facts)]
    if card.position:
        lines.append(f"Waiting, number {card.position} in the queue.")
    lines += [_step_line(step) for step in card.steps]
    lines += list(card.notes)
    for question in card.questions:
        if question.is_open:
            lines.append(f"Question: {question.title}")
    if card.result is not None:
        lines.append(card.result.headline)
        lines += [text for text in (card.result.advice, card.pull_url) if text]
        if card.result.says:
            lines.append(f"The agent says: {card.result.says}")
        lines += [f"Measured: {line}" for line in card.result.measured]
        lines += [_check_line(check) for check in card.result.checks]
    return "\n".join(lines)


def _check_line(check: CheckLine) -> str:
    how = "passed" if check.ok else "failed"
    return f"Measured: `{check.command}` {how}, {seconds(check.took_s)}"


def _step_line(step: Step) -> str:
    took = "" if step.took_s is None else f", {seconds(step.took_s)}"
    usual = f" (usually {seconds(step.usual_s)})" if step.usual_s and step.mark == "doing" else ""
    text = f" {step.text}" if step.text else ""
    return f"  {_MARKS[step.mark]} {step.name}:{text}{took}{usual}"


def seconds(value: float) -> str:
    """Return a duration as people say it: `0.4 s`, `38 s`, `7 m 12 s`."""
    if value < 10:
        return f"{value:.1f} s"
    minutes, rest = divmod(round(value), 60)
    if not minutes:
        return f"{rest} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} m" if hours else f"{minutes} m {rest} s"


def away(node: str, error: str) -> str:
    """Return what is said when something is on a machine that cannot be asked."""
    return f"It is on {node}, which does not answer ({error}). Try again in a moment."


def not_in_checkout(path: str) -> str:
    """Return what is said of a file outside of the repository's folder."""
    return f"{path:.200} is not in the workspace's checkout. Open a terminal to look at it."


def gone_workspace(workspace: str, branch: str, task: str) -> str:
    """Say that a workspace is gone, and where its work is."""
    reply = f" Or reply in the thread of {task}." if task else ""
    return (
        f"Workspace {workspace} was deleted. What was pushed is on the branch {branch}. For 30 "
        f"days its copy is in `samovar rescue list`; restoring it makes a new workspace.{reply}"
    )


def too_many_chats(workspace: str) -> str:
    """Say that a workspace has as many chats as it may have."""
    return f"There are {CHATS_MAX} chats in {workspace} already. Close one first, then try again."


def discarded_workspace(workspace: str, branch: str, task: str) -> str:
    """Say that a workspace was thrown away."""
    reply = f" Reply in the thread of {task} to go on in a new one." if task else ""
    return (
        f"Workspace {workspace} was deleted without a copy. What was pushed is on the branch "
        f"{branch}.{reply}"
    )


def workspace_busy(workspace: str) -> str:
    """Say that a run works in a workspace."""
    return f"A run works in {workspace}. Stop its task first, or wait for its end."


def workspace_not_ready(workspace: str, state: str) -> str:
    """Say that a workspace must be ready for what was asked."""
    if state == "stopped":
        return f"{workspace} is stopped. Restart it first."
    if state == "stopping":
        return f"{workspace} is stopping. Restart it when it is stopped."
    return f"{workspace} is not ready yet: it is {state}. Try again when it is."


def workspace_runs(workspace: str) -> str:
    """Say that there is nothing to restart."""
    return f"{workspace} runs. To make its container anew, rebuild it."


def no_workspace(task: str) -> str:
    """Say that a task has no workspace."""
    return f"{task} has no workspace now. Reply with what you want changed, and it gets one."


def workspace_asked(what: str, workspace: str) -> str:
    """Say what comes of a word about a workspace."""
    return {
        "stop": f"Workspace {workspace} stops. Its repository's folder, conversations and "
        "terminals' histories are saved first; `restart workspace` or a reply puts them back. The "
        "home folder goes; volumes wait on its machine.",
        "restart": f"Workspace {workspace} starts again, with its repository's folder, "
        "conversations and terminals' histories.",
        "rebuild": f"The container of workspace {workspace} is made anew. Its files stay.",
        "delete": f"Workspace {workspace} goes. A copy of its work is made first and kept for "
        "30 days: `samovar rescue list`.",
    }[what]


def no_such_size(size: str, known: Sequence[str]) -> str:
    """Say that there is no workspace of a size."""
    return f"There is no size {size:.40}. Choose one of {', '.join(known)}."


def no_branch_name(branch: str) -> str:
    """Say that git would not take a name."""
    return f"{branch:.80} cannot be the name of a branch. Choose another one."


def base_branch(branch: str) -> str:
    """Say that nobody works on the base branch itself."""
    return (
        f"{branch} takes pull requests and is not worked on directly. Leave the branch out: the "
        "workspace gets one of its own that begins there."
    )


def not_restorable(copy: str) -> str:
    """Say that a copy is not there."""
    return f"There is no rescue copy {copy:.60} any more. Those there are: `samovar rescue list`."


TOO_MUCH = "That is too much to show here. Open a terminal to look at it."


def session_title(run: str) -> str:
    """Name the recording of a coding agent."""
    return f"Agent, run {run}"


def recording_lost(terminal: str, error: str) -> str:
    """Return what is said of a recording that could not be kept."""
    return f"The recording of {terminal} could not be kept: {error}."


def recording_expired(terminal: str) -> str:
    """Return what is said of a recording whose time is over."""
    return f"The recording of {terminal} was removed: recordings are kept for 30 days."


def not_your_preview(port: int) -> str:
    """Say that a port is not open to this person."""
    return (
        f"Port {port} is open to whoever asked for the task alone. Ask them to open it to the "
        "project, or for a link."
    )


_NO_PREVIEW = {
    "nothing_listens": "Nothing listens on port {port} yet. Start the program in a terminal.",
    "workspace_stopped": "Workspace {workspace} does not run. Reply in its task's thread, and it "
    "is started again.",
    "workspace_gone": "Workspace {workspace} is gone: its work is on its branch. Reply in its "
    "task's thread to go on in a new one.",
    "ports_not_reached": "The node agent does not run as root, so it cannot reach port {port}. "
    "Whoever runs Samovar starts it as root.",
}


def no_preview(code: str, workspace: str, port: int) -> str:
    """Say why a port cannot be shown."""
    known = _NO_PREVIEW.get(code, "Port {port} of {workspace} cannot be reached now. Try again.")
    return known.format(workspace=workspace, port=port)


_NOT_PUT = {
    "bad_name": "{path} is no name for a file: give one of at most 255 bytes that is not a folder.",
    "no_such_file": "There is no folder for {path} in the workspace. Make it in a terminal first.",
    "file_exists": "{path} is there already and was left as it is. To replace it, send it again "
    "with --replace or choose *Replace*; or take another name.",
    "not_a_file": "{path} is there and is no file. Choose another name.",
    "disk_full": "The disk of the node has no room for {path}; nothing was written. Delete what is "
    "not needed there, then send it again.",
    "too_large": "{path} is larger than {limit}, the most that is taken. Send it in parts, or let "
    "the workspace fetch it.",
    "upload_cut": "Not all of {path} came, so nothing was written. Send it again.",
    "workspace_stopped": "The workspace stopped while {path} came, so it was not written. Restart "
    "the workspace, then send it again.",
    "workspace_gone": "The workspace is gone. Reply in its task's thread to go on in a new one.",
}


def not_put(code: str, path: str, limit: str) -> str:
    """Say why a file was not written."""
    known = _NOT_PUT.get(code, "{path} was not written. Try again.")
    return known.format(path=f"{path:.200}", limit=limit)
