"""Every error that we raise on purpose.

AppError                     part of our contract; each kind has a stable `code`
├── UserError                the person asked for something we will not do: tell them, never retry
│   ├── NotFoundError          also for "you may not know that it exists"
│   ├── ForbiddenError
│   └── QuotaError
├── ConfigError              the operator must change something; only while starting
├── OutsideError             another system failed us; raised by adapters only, always `from error`
│   ├── UnavailableError       passes; has `retry_after_s`
│   │   └── RateLimitedError
│   └── RefusedError           will be refused again
│       ├── CredentialError      our key is wrong or expired
│       └── CapacityError        no such machine there
└── ConflictError            somebody wrote first: read again; never shown
TransitionError              our own bug
LostLease                    the claim is somebody else's now: stop at once, write nothing
"""


class AppError(Exception):
    """An error of our contract.

    Attributes:
        code: Stable, lower case with underscores; documented in docs/reference/errors.md.
    """

    code = "app_error"

    def __init__(self, message: str, *, code: str | None = None) -> None:
        super().__init__(message)
        self.code = code or type(self).code


class UserError(AppError):
    """The person asked for something that we will not do. The message is said to them."""

    code = "not_possible"


class NotFoundError(UserError):
    """There is no such thing, or the person may not know that there is."""

    code = "not_found"


class ForbiddenError(UserError):
    """The person may not do this."""

    code = "forbidden"


class QuotaError(UserError):
    """A limit is reached."""

    code = "limit_reached"


class ConfigError(AppError):
    """The operator must change a setting before we can start."""

    code = "config"


class OutsideError(AppError):
    """Another system failed us.

    Attributes:
        system: Who failed, as people know it: `GitHub`, `Docker`.
    """

    code = "outside"

    def __init__(self, system: str, message: str, *, code: str | None = None) -> None:
        super().__init__(f"{system}: {message}", code=code)
        self.system = system


class UnavailableError(OutsideError):
    """It will pass.

    Attributes:
        retry_after_s: What the other side asked us to wait, if it did.
    """

    code = "unavailable"

    def __init__(
        self,
        system: str,
        message: str,
        *,
        code: str | None = None,
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(system, message, code=code)
        self.retry_after_s = retry_after_s


class RateLimitedError(UnavailableError):
    """We asked too often."""

    code = "rate_limited"


class RefusedError(OutsideError):
    """It will be refused again: record it and tell people."""

    code = "refused"


class CredentialError(RefusedError):
    """Our key is wrong, expired or may not do this."""

    code = "credential"


class CapacityError(RefusedError):
    """There is no such machine at that place now."""

    code = "capacity"


class ConflictError(AppError):
    """Somebody wrote first. Read again and decide again; never shown to people."""

    code = "conflict"


class TransitionError(AssertionError):
    """A move that the table of moves does not know: our own bug."""


class LostLease(BaseException):
    """The claim under which we work belongs to somebody else now."""
