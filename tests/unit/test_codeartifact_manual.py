"""What docs/codeartifact.md gives to be copied can be read by those whom it is for."""

from __future__ import annotations

import json
import re
import tomllib
from itertools import chain
from pathlib import Path

import pytest
import yaml
from botocore.session import Session

pytestmark = pytest.mark.unit

TEXT = (Path(__file__).parents[2] / "docs/codeartifact.md").read_text()


def blocks(language):
    return re.findall(rf"^```{language}\n(.*?)^```", TEXT, re.MULTILINE | re.DOTALL)


def statements(policy):
    if isinstance(policy, list):
        return policy
    return policy.get("Statement", [policy])


POLICIES = [statements(json.loads(block)) for block in blocks("json")]
TEMPLATE, WORKFLOW = blocks("yaml")


def actions(statement):
    found = statement["Action"]
    return [found] if isinstance(found, str) else found


def test_the_template_is_one_of_cloudformation():
    from cfnlint.api import ManualArgs, lint  # which takes seconds to load

    assert lint(TEMPLATE, config=ManualArgs(regions=["eu-central-1"])) == []


def test_the_policies_allow_actions_that_there_are():
    session, known = Session(), {"sts:GetServiceBearerToken", "codeartifact:ReadFromRepository"}
    for service in ("codeartifact", "sqs", "sts"):
        names = session.get_service_model(service).operation_names
        known.update(f"{service}:{name}" for name in names)
    assert len(POLICIES) == 5
    for statement in chain(*POLICIES):
        assert statement["Effect"] == "Allow"
        assert "Resource" in statement or "Principal" in statement
        assert set(actions(statement)) <= known


def test_the_daemons_policies_allow_every_call_that_it_makes():
    package = Path(__file__).parents[2] / "controller/sources/codeartifact"
    model = Session().get_service_model("codeartifact")
    code = "".join(path.read_text() for path in package.glob("*.py"))
    called = {
        f"codeartifact:{name}"
        for name in model.operation_names
        if re.search(rf'\.{snake(name)}\(|get_paginator\("{snake(name)}"\)', code)
    }
    assert len(called) > 5
    allowed = {action for policy in POLICIES[:3] for one in policy for action in actions(one)}
    needed = called | {"sqs:ReceiveMessage", "sqs:DeleteMessage", "sts:GetServiceBearerToken"}
    assert allowed == needed | {"codeartifact:ReadFromRepository"}


def snake(name):
    return re.sub(r"(?<!^)(?=[A-Z])", "_", name).lower()


def test_the_workflow_is_yaml_whose_steps_do_something():
    found = yaml.safe_load(WORKFLOW)
    assert found["permissions"]["id-token"] == "write"
    steps = [step for job in found["jobs"].values() for step in job["steps"]]
    assert all(("uses" in step) != ("run" in step) for step in steps)


def test_the_settings_are_toml():
    found = [tomllib.loads(block) for block in blocks("toml")]
    assert found[0]["sources"][0]["type"] == "codeartifact"
