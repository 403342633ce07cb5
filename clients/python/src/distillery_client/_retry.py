"""When a lost connection is opened again."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Reconnect:
    """How often and how soon a lost connection is opened again. The default is half a minute in all."""

    # The number of attempts in a row. 0 never reconnects.
    attempts: int = 10
    # The longest wait before the second attempt, in seconds. It doubles with each attempt.
    delay: float = 0.2
    # The limit of this wait.
    max_delay: float = 5.0


def delay_of(attempt: int, policy: Reconnect) -> float | None:
    """Returns the longest wait before this attempt, which begins with 0. None if there are no more attempts."""
    if attempt >= policy.attempts:
        return None
    return 0 if attempt == 0 else min(policy.max_delay, policy.delay * 2 ** (attempt - 1))
