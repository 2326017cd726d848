"""Why a run ended as it did: one sentence for people by code, with what they can do.

A code that is not here comes with its own sentence from whoever failed.
"""

from collections.abc import Mapping

REASONS: Mapping[str, str] = {
    "cancelled": "Stopped as you asked. Reply in this thread to go on.",
    "chat_closed": "The chat was closed. What was done in it is in the workspace; reply to go on.",
    "chat_without_workspace": "The workspace of this chat was stopped or taken away. "
    "Restart it on its page, and open another chat there.",
    "chat_machine_leaves": "The machine of this chat goes out of service; its workspace is saved. "
    "Restart the workspace on its page, then reply to go on.",
    "no_node": "No machine became ready in time. Look at `samovar node list`, "
    "then reply `try again`.",
    "node_lost": "The machine has not answered for too long. What was not pushed is still on it "
    "and is picked up when it comes back; reply to go on.",
    "workspace_timeout": "The workspace was not ready in time. Its build log is on the workspace's "
    "page; mend the devcontainer or reply `try again`.",
    "no_machine": "No machine became ready in time. Look at `samovar node list`, then try again.",
    "save_timeout": "The copy of its work was not ready in time. Look at its machine, then "
    "try again.",
    "save_failed": "Its machine did not say why. Look at that machine's log, then try again.",
    "copy_lost": "The copy that its machine had made was not whole. Look at that machine's log, "
    "then try again.",
    "not_acknowledged": "The coding agent did not take its first prompt in time. "
    "Reply `try again`; if it happens twice, look at `samovar doctor`.",
    "out_of_time": "The run's time was over. What was done until then is kept; reply to go on.",
    "session_ended": "The coding agent ended before it was done. What it did is kept; "
    "reply to go on.",
    "session_failed": "The coding agent could not be started. Look at `samovar doctor`, "
    "then reply `try again`.",
    "authentication_failed": "The model refused: our key is missing or wrong, or the model has no "
    "price in the settings. The last turn on the task's page has its words; an administrator mends "
    "it, then reply `try again`.",
    "billing_error": "The model's account has no credit or the budget is used up. "
    "Raise it, then reply to go on.",
    "usage_limit_reached": "The model's usage limit is reached. Reply to go on once it is free "
    "again.",
    "overloaded": "The model stayed overloaded. What was done is kept; reply to go on.",
    "server_error": "The model kept failing. What was done is kept; reply to go on.",
    "connection_failed": "The model could not be reached. What was done is kept; reply to go on.",
    "permission_error": "The model is not allowed here. An administrator can allow it in the "
    "settings; then reply `try again`.",
    "collect_failed": "The work could not be taken out of the workspace. It is kept there; "
    "open the workspace or reply `try again`.",
    "push_failed": "The branch could not be pushed. The work is kept in a bundle on the machine; "
    "reply `try again`.",
    "pull_failed": "The branch is pushed, but the pull request could not be opened. "
    "Open it by hand, or reply `try again`.",
    "checks_timeout": "The checks did not end in time. Look at their last lines, then reply "
    "`try again`.",
    "budget": "The budget was used up and not raised. What was done is kept; reply to go on.",
    "no_change": "The coding agent changed nothing. Say more precisely what should be different.",
    "stuck": "Something on our side failed again and again. What was done is kept; reply "
    "`try again`, and an administrator finds the reason in the log.",
}


def reason(code: str, text: str = "") -> str:
    """Return the sentence for `code`; `text` is said instead where we have none of our own."""
    return REASONS.get(code) or text or REASONS["stuck"]
