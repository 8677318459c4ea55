"""What may be refused, and how, whoever refuses it."""

import ast
import inspect
import pickle

import pytest

from wheelway import Refused, problem
from wheelway.refusals import RESERVED, refusal_in

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    ("status", "reason", "why"),
    [
        (200, "No", "one of 400 to 499, not 200"),
        (500, "No", "raise any other exception"),
        (399, "No", "400 to 499"),
        (True, "No", "400 to 499"),
        ("422", "No", "not '422'"),
        (422.0, "No", "not 422.0"),
        (10**200, "No", "400 to 499"),
        (422, "no", "PascalCase"),
        (422, "No Way", "PascalCase"),
        (422, "No\r\n", "PascalCase"),
        (422, "Ünfug", "PascalCase"),
        (422, "", "PascalCase"),
        (422, "N" * 65, "at most 64"),
        (422, None, "not None"),
        (400, "InputInvalid", "said by wheelway itself, with status 422"),
        (404, "PipelineFailed", "said by wheelway itself, with status 500"),
    ],
)
def test_anything_but_a_callers_mistake_is_a_value_error_in_words(status, reason, why):
    with pytest.raises(ValueError, match=why) as caught:
        Refused(status, reason, "no")
    assert len(str(caught.value)) < 300


def test_the_hosts_own_reasons_keep_their_status_and_may_be_said_with_it():
    made = {
        call.args[1].value: call.args[0].value
        for call in ast.walk(ast.parse(inspect.getsource(problem)))
        if isinstance(call, ast.Call)
        and isinstance(call.func, ast.Name)
        and call.func.id == "Problem"
        and isinstance(call.args[0], ast.Constant)
    }
    assert made == RESERVED
    assert Refused(422, "InputInvalid", "no").reason == "InputInvalid"


class _Unknown(Refused):
    def __init__(self, name: str) -> None:
        super().__init__(404, "Unknown", f"{name} is unknown")
        self.name = name


def test_it_arrives_from_another_process_as_what_it_was():
    for sent in (Refused(422, "No", "é" * 9000), _Unknown("ada")):
        arrived = pickle.loads(pickle.dumps(sent))
        assert type(arrived) is type(sent)
        assert arrived.__dict__ == sent.__dict__
        assert str(arrived) == str(sent)
        assert refusal_in(arrived) is arrived
