"""The one error of this package, built in one place."""

from __future__ import annotations

from ..exceptions import WebhookVerificationError


def refused(reason: str, message: str) -> WebhookVerificationError:
    """Return the error for a delivery that is not accepted; its message never repeats what was delivered."""
    error = WebhookVerificationError(f"The webhook delivery was refused: {message}")
    error.reason = reason
    return error
