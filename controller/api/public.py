"""What may be told to every user of the machine: whoever asks the port has shown no permission.

Names, versions, phases and reasons, times and numbers: what monitoring judges by. Not what was
written freely, by Ray, a wheel, an index or an operator: there stand paths, addresses and causes.
"""

from typing import Final

FREE: Final = {"by", "log_tail", "message", "note", "said", "sentence"}
"""Keys of documents whose values are text for a person."""

CAUSES: Final = "`wheelway status`, for who may use the control socket, and the log tell why"
"""Instead of an error's message."""


def public(document: object) -> object:
    """A JSON document whose free texts are empty."""
    if isinstance(document, dict):
        return {
            key: "" if key in FREE and isinstance(value, str) else public(value)
            for key, value in document.items()
        }
    if isinstance(document, list):
        return [public(item) for item in document]
    return document
