"""What a transport is built of, in a form that can be handed to another process."""

from __future__ import annotations

import pickle
from dataclasses import dataclass, field
from typing import Any

from typing_extensions import Self

from ..exceptions import ConfigurationError


# Without a repr: whoever logs what a worker was given must not log the key.
@dataclass(frozen=True, repr=False)
class Settings:
    """The arguments of a transport, with the API key; equal and hashed by the name of the transport they are of."""

    name: str
    arguments: dict[str, Any] = field(compare=False)

    @classmethod
    def of(cls, name: str, arguments: dict[str, Any]) -> Self:
        """Return the settings.

        Raises:
            ConfigurationError: If they cannot be pickled.
        """
        try:
            pickle.dumps(arguments)
        except Exception as error:
            problem = type(error).__name__
        else:
            return cls(name, arguments)
        # Everything else is checked to be plain values. Raised here, so that no frame or context holds the key.
        raise ConfigurationError(
            f"executor= needs a client whose settings can be pickled ({problem}): pass retries=... as a number, or as "
            "a urllib3.Retry of a class that is importable in the worker processes."
        )
