"""What the proxy itself says to Claude Code, in the Messages API's own form.

Claude Code asks again for many minutes after 401 and 429, and shows 402 and 403 to the person at
once and verbatim; so those two are all that it is told, besides what passes by itself.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field

from core.ports.grants import Grant


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """An error answer.

    Attributes:
        kind: The vendor's word for it, `error.type`.
        message: A sentence that people read in the thread.
    """

    status: int
    kind: str
    message: str
    headers: Mapping[str, str] = field(default_factory=dict)

    def body(self) -> bytes:
        """Return the JSON body."""
        error = {"type": self.kind, "message": self.message}
        return json.dumps({"type": "error", "error": error}).encode()


UNKNOWN_TOKEN = Refusal(
    status=403,
    kind="permission_error",
    message="No run works in this workspace now, so there is no budget to spend. Reply in its "
    "task's thread, or open a chat.",
)
NOT_SERVED = Refusal(
    status=404,
    kind="not_found_error",
    message="Samovar passes on POST /v1/messages and /v1/messages/count_tokens only.",
)
NOT_READABLE = Refusal(
    status=400, kind="invalid_request_error", message="The request body is no JSON object."
)
NO_KEY = Refusal(
    status=403,
    kind="permission_error",
    message="Samovar has no key for Anthropic yet. Its operator has to add one.",
)
KEY_REFUSED = Refusal(
    status=403,
    kind="permission_error",
    message="Anthropic refuses Samovar's key. Its operator has been told and has to renew it.",
)
NO_CREDIT = Refusal(
    status=402,
    kind="billing_error",
    message="Samovar's account at Anthropic has no credit left. Its operator has been told.",
)
UNREACHABLE = Refusal(
    status=502, kind="api_error", message="Anthropic cannot be reached from Samovar right now."
)
SILENT = Refusal(
    status=504, kind="timeout_error", message="Anthropic took the request and stays silent."
)


def too_large(bytes_max: int) -> Refusal:
    """Refuse a request that is larger than `bytes_max`."""
    message = f"The request is larger than {bytes_max >> 20} MiB."
    return Refusal(status=413, kind="request_too_large", message=message)


def no_price(model: str) -> Refusal:
    """Refuse a model whose cost we could not tell."""
    message = (
        f"The model {model[:100]!r} has no price here. Samovar's operator can add it to the "
        "settings as [[model.prices]] with model, input, output, cache_read and cache_write in "
        "USD per million tokens."
    )
    return Refusal(status=403, kind="permission_error", message=message)


def not_allowed(model: str, grant: Grant) -> Refusal:
    """Refuse a model that this project does not use."""
    known = ", ".join(sorted(grant.models or ()))
    message = f"The model {model[:100]!r} is not allowed for {grant.repository}; allowed: {known}."
    return Refusal(status=403, kind="permission_error", message=message)


def budget_spent(grant: Grant) -> Refusal:
    """Refuse because the run has used up what it may cost."""
    message = (
        f"The budget of ${grant.budget_usd:.2f} for {grant.task_id} is used up "
        f"(${grant.spent_usd:.2f} spent). Samovar asks in the thread whether to go on."
    )
    return Refusal(status=402, kind="billing_error", message=message)


def overloaded(*, status: int, waited_s: float, retry_after_s: float | None) -> Refusal:
    """Give up after asking for a while. Claude Code must not begin the same wait anew."""
    reason = "limits how often Samovar may ask" if status == 429 else "is overloaded"
    later = f", which asks to wait {retry_after_s:.0f} s" if retry_after_s else ""
    return Refusal(
        status=529,
        kind="overloaded_error",
        message=f"Anthropic {reason}{later}. Samovar tried for {waited_s:.0f} s.",
        headers={"x-should-retry": "false"},
    )
