"""Errors by cause, with the status codes and the message prefixes that Qdrant uses for them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager


class ApiError(Exception):
    """An answer that is not a success: `status` is the HTTP code, the text is `status.error`."""

    status = 500
    prefix = "Service internal error: "

    def __init__(self, message: str) -> None:
        super().__init__(f"{self.prefix}{message}")


class BadInput(ApiError):
    """The request is well-formed but cannot be carried out as it stands."""

    status = 400
    prefix = "Wrong input: "


class BadFormat(ApiError):
    """The body is not what this path expects."""

    status = 400
    prefix = "Format error in JSON body: "


class Invalid(ApiError):
    """A value is outside what Qdrant allows."""

    status = 422
    prefix = "Validation error in JSON body: "


class InvalidPath(Invalid):
    """The same for a part of the path."""

    prefix = "Validation error in path parameters: "


class BadRequest(ApiError):
    """Refused before it is read as JSON: too long, or sent as something else."""

    status = 400
    prefix = ""


class NotFound(ApiError):
    status = 404
    prefix = "Not found: "


class Conflict(ApiError):
    status = 409
    prefix = "Wrong input: "


class Forbidden(ApiError):
    status = 403
    prefix = "Forbidden: "


class NotImplementedByEngine(ApiError):
    """The real server can do this, this one cannot: said openly rather than approximated."""

    status = 501
    prefix = "Not implemented by Qdrant's engine, embedded server: "


class Loading(ApiError):
    status = 503
    prefix = "Service unavailable: "


class StorageFull(ApiError):
    status = 500


@contextmanager
def engine_errors() -> Iterator[None]:
    """Map what the engine raises to the status code that the real server gives it.

    The engine's binding raises plain `Exception` with the core's own message, so the text decides.
    """
    try:
        yield
    except ApiError:
        raise
    except (AttributeError, KeyError, TypeError, OverflowError) as error:
        raise BadFormat(_in_json_words(str(error))) from error
    except Exception as error:
        text = str(error)
        if text.startswith("No point with id"):
            raise NotFound(f"{text} found") from error
        if "No space left on device" in text:
            raise StorageFull(text) from error
        raise BadInput(text) from error


def _in_json_words(text: str) -> str:
    """What Python says of a value of the wrong kind, as a reader of JSON can use it."""
    if no_object := re.match(r"'(\w+)' object has no attribute", text):
        return f"invalid type: {no_object[1]}, expected an object"
    # The binding lists all that it tried, a line each: the first says what it wanted.
    return f"invalid value: {text.splitlines()[0] if text else 'none'}"
