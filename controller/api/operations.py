"""What an operation is: the rows of the table from which application and OpenAPI document are made.

https://spec.openapis.org/oas/v3.1.1.html
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from controller.api.seam import ApiContext

VERSION: Final = (
    r"^([0-9]+!)?[0-9]+(\.[0-9]+)*((a|b|rc)[0-9]+)?(\.post[0-9]+)?(\.dev[0-9]+)?"
    r"(\+[a-z0-9]+(\.[a-z0-9]+)*)?$"
)
"""A version in its normal form (PEP 440, appendix B)."""

NAME: Final = r"^[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?$"
"""A name as PEP 508 has it; it is normalised (PEP 503)."""


def _truth(value: object) -> object:
    return {"true": True, "false": False}.get(value, value) if isinstance(value, str) else value


def _whole(value: object) -> object:
    return int(value) if isinstance(value, str) and re.fullmatch("[0-9]{1,18}", value) else value


VersionText = Annotated[str, Field(pattern=VERSION, max_length=100, examples=["1.3"])]
Name = Annotated[str, Field(pattern=NAME, max_length=100, examples=["iris"])]
Truth = Annotated[bool, BeforeValidator(_truth)]
"""`true` or `false`, in a query."""
WHOLE: Final = BeforeValidator(_whole)
"""Of an integer in a query: digits; after its bounds, so that the schema has them."""


class Asked(BaseModel):
    """What an operation takes, of the path and the query or as the body; nothing unknown."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, strict=True, use_attribute_docstrings=True
    )


class Nothing(Asked):
    """Of an operation that takes nothing."""


@dataclass(frozen=True, slots=True)
class Text:
    """An answer that is not JSON."""

    body: str | bytes
    media_type: str


@dataclass(frozen=True, slots=True)
class Operation:
    """One method of one path."""

    name: str
    """The OpenAPI operationId."""
    method: Literal["GET", "POST"]
    path: str
    summary: str
    answer: Callable[[ApiContext, Any], object]
    """From what was asked to what is given; called in a thread, raises WheelwayError."""
    asks: type[Asked] = Nothing
    gives: Any = None
    """The type of the JSON document; None when the answer is a `Text`."""
    media_type: str = "application/json"
    open: bool = False
    """Whether it is served on the port as well, to every user of the machine."""
