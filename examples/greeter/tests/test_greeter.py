"""What the greeter promises, without a server."""

import pytest
from greeter.pipeline import Greeter
from pydantic import ValidationError

from wheelway.local import loaded, run


def test_it_greets_by_name() -> None:
    assert run(Greeter, {"name": "Ada"}) == {"text": "Hello, Ada."}


def test_it_gets_excited_when_asked_to() -> None:
    assert run(Greeter, {"name": "Ada", "excited": True}) == {"text": "Hello, Ada!"}


def test_the_greeting_is_a_setting() -> None:
    with loaded(Greeter, settings={"greeting": "Bonjour"}) as greeter:
        assert greeter({"name": "Ada"}) == {"text": "Bonjour, Ada."}
        assert greeter.reconfigure({"greeting": "Servus"}) == ""
        assert greeter({"name": "Ada"}) == {"text": "Servus, Ada."}


def test_a_senseless_greeting_is_refused_and_the_former_one_stays() -> None:
    with loaded(Greeter) as greeter:
        assert "greeting" in greeter.reconfigure({"greeting": " "})
        assert greeter({"name": "Ada"}) == {"text": "Hello, Ada."}


@pytest.mark.parametrize("request_", [{}, {"name": ""}, {"name": 1}, ["Ada"]])
def test_a_request_without_a_proper_name_is_refused(request_: object) -> None:
    with loaded(Greeter) as greeter, pytest.raises(ValidationError):
        greeter(request_)
