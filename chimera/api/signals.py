"""What a handler raises to steer its task's outcome.

Any other exception fails the attempt, and another follows as the type's policy allows.
"""

from __future__ import annotations


class RetryAfter(Exception):
    """Fail this attempt and try again after so many seconds, in place of the policy's backoff.

    The attempt counts: after the policy's `max_attempts` the task is a dead letter all the same.
    """

    def __init__(self, seconds: float, message: str = "") -> None:
        super().__init__(seconds, message)
        #: seconds to wait before the next attempt
        self.seconds = float(seconds)
        self.message = message

    def __str__(self) -> str:
        return self.message or f"try again in {self.seconds:g} s"


class PermanentError(Exception):
    """Fail the task for good: no other attempt can help."""


class Cancelled(Exception):
    """End the task as cancelled; what a handler raises when it sees `ctx.is_cancelled`."""
