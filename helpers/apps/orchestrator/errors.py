"""What a caller is told when there is no answer: one class a cause, with its status and code."""

from __future__ import annotations

from helpers.apps.orchestrator.decisions import Failure


class BackendFailed(Exception):
    """A backend did not do what it was asked; `failure` says how."""

    def __init__(self, message: str, failure: Failure) -> None:
        super().__init__(message)
        self.failure = failure


class NoAnswer(Exception):
    """A request that was not answered; `code` is for programs, the message for people."""

    status, code = 500, "internal"

    def __init__(self, message: str, *, retry_after_s: float | None = None, code: str = "") -> None:
        super().__init__(message)
        self.code = code or self.code
        self.retry_after_s = retry_after_s


class BadRequest(NoAnswer):
    """It is no request: not JSON, or a header that says nothing known."""

    status, code = 400, "bad_request"


class Unauthorized(NoAnswer):
    """It did not come through the gateway."""

    status, code = 401, "unauthorized"


class ThreadNotFound(NoAnswer):
    """This tenant has no such thread."""

    status, code = 404, "thread_not_found"


class Conflict(NoAnswer):
    """The key or the thread belongs to another request."""

    status, code = 409, "key_in_use_by_other_request"


class TooLarge(NoAnswer):
    """The body is longer than any question."""

    status, code = 413, "too_large"


class NotJson(NoAnswer):
    """The content type is not application/json."""

    status, code = 415, "unsupported_media_type"


class Unprocessable(NoAnswer):
    """JSON, but not a question: a field is missing or of the wrong kind."""

    status, code = 422, "unprocessable"


class QueueFull(NoAnswer):
    """Too many wait already."""

    status, code = 429, "queue_full"


class Refused(NoAnswer):
    """A backend failed, and nothing may stand in for it."""

    status, code = 503, "unavailable"


class StateUnavailable(NoAnswer):
    """Redis did not take or give what the run needs; nothing was acknowledged."""

    status, code = 503, "state_unavailable"


class HandedOver(NoAnswer):
    """This pod ends; another one finishes the thread. Ask again with the same key."""

    status, code = 503, "handed_over"


class DeadlinePassed(NoAnswer):
    """The time of the request's budget class is used up."""

    status, code = 504, "deadline"
