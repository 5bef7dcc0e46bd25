"""The one error of this package, built in one place."""

from __future__ import annotations

from ..exceptions import WebhookVerificationError


def refused(
    reason: str, message: str, *, parameter: str | None = None, hint: str | None = None
) -> WebhookVerificationError:
    """Return the error for a delivery that is not accepted; its message never repeats what was delivered."""
    error = WebhookVerificationError(f"The webhook delivery was refused: {message}", parameter=parameter, hint=hint)
    error.reason = reason
    return error
