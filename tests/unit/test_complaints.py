"""What releases say of their requests at their routes, from look to look."""

import pytest

from controller.observed import Answer, Application, ApplicationStatus, Replica
from controller.planning.probing import CLEAN, Complaints

pytestmark = pytest.mark.unit

ROUTE = "/predict/iris/1.0"
HEADER = "iris@1.0+abababab"


def running(replicas):
    status, many = ApplicationStatus.RUNNING, (Replica("RUNNING", 1),) * replicas
    return [Application("iris", status, ROUTE, {}, None, replicas=many)]


def reasons(complaints, failing, applications):
    answer = Answer(HEADER, 200, failing="half of its last 10 requests" if failing else "")
    return [condition.reason for condition in complaints.conditions({ROUTE: answer}, applications)]


@pytest.mark.parametrize("replicas", [0, 1, 2, 5])
def test_it_takes_more_clean_answers_to_end_it_the_more_replicas_may_have_given_them(replicas):
    complaints, applications = Complaints(), running(replicas)
    assert reasons(complaints, False, applications) == []
    for _ in range(3):  # the one that fails is asked in its turn: nothing flaps
        assert reasons(complaints, True, applications) == ["RequestsFailing"]
        for _ in range(CLEAN * max(replicas, 1) - 1):
            assert reasons(complaints, False, applications) == ["RequestsFailing"]
    assert reasons(complaints, False, applications) == []
    assert reasons(complaints, False, applications) == []
