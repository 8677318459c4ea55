"""What an operator may say of aliases, and what is told of a mistake."""

from __future__ import annotations

import pytest
from packaging.version import Version
from pydantic import ValidationError

from controller.config.aliases import AliasOptions, ProgressiveRollout

pytestmark = pytest.mark.unit


def refusal(model, **values):
    with pytest.raises(ValidationError) as refused:
        model(**values)
    return str(refused.value)


def test_an_alias_leads_to_a_version_or_to_the_newest_of_several():
    options = AliasOptions(aliases={"stable": "1.4", "next-big": ">=2.0a", "v-old": "~=1.0"})
    stable, following = options.aliases["stable"], options.aliases["next-big"]
    assert Version("1.4") in stable
    assert Version("1.4.0") in stable
    assert Version("1.5") not in stable
    assert following.contains(Version("2.0a1"))
    assert not following.contains(Version("1.9"))


def test_a_version_before_its_release_may_be_named():
    options = AliasOptions(aliases={"next": "2.0rc1"})
    assert options.aliases["next"].contains(Version("2.0rc1"))


def test_nothing_said_is_no_alias_and_no_rollout():
    assert AliasOptions() == AliasOptions(aliases={}, rollout=None, allow_breaking=False)
    assert ProgressiveRollout() == ProgressiveRollout(
        steps=(5, 25, 50, 100), every=600, max_error_rate=0.01, max_p99_ratio=1.5, min_requests=200
    )


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("", "'' is no alias"),
        ("Stable", "write lower case letters, digits and single dashes"),
        ("a--b", "is no alias"),
        ("a-", "is no alias"),
        ("a/b", "is no alias"),
        ("stable\n", "is no alias"),
        ("1", "is no alias"),
        ("a" * 64, "63 at most"),
        ("v1", "an alias cannot be called 'v1': that is a version (PEP 440)"),
        ("docs", "an alias cannot be called 'docs': that path has a page of its own"),
    ],
)
def test_a_name_that_is_none_is_told(name, told):
    assert told in refusal(AliasOptions, aliases={name: "1.4"})


@pytest.mark.parametrize("target", ["", "newest", "1.x", " ", "1" * 5000, ">=" + "9" * 30])
def test_a_target_that_is_none_is_told(target):
    message = refusal(AliasOptions, aliases={"stable": target})
    assert any(word in message for word in ("names no version; write one", "characters", "digits"))


def test_a_target_that_is_no_text_is_told():
    assert "SpecifierSet" in refusal(AliasOptions, aliases={"stable": 1.4})


@pytest.mark.parametrize(
    ("field", "value", "told"),
    [
        ("steps", (), "at least 1 item"),
        ("steps", (5, 50), "[5, 50] must end with 100"),
        ("steps", (5, 5, 100), "[5, 5, 100] must rise from step to step"),
        ("steps", (50, 25, 100), "must rise from step to step"),
        ("steps", (0, 100), "greater than or equal to 1"),
        ("steps", (50, 101), "less than or equal to 100"),
        ("steps", (2.5, 100), "valid integer"),
        ("every", 0, "greater than 0"),
        ("every", "soon", "'soon' is no duration"),
        ("max_error_rate", 1, "less than 1"),
        ("max_error_rate", -0.1, "greater than or equal to 0"),
        ("max_p99_ratio", 0.5, "greater than or equal to 1"),
        ("max_p99_ratio", float("inf"), "finite"),
        ("min_requests", 0, "greater than or equal to 1"),
        ("step", 5, "Extra inputs are not permitted"),
    ],
)
def test_a_rollout_that_cannot_be_is_told(field, value, told):
    assert told in refusal(ProgressiveRollout, **{field: value})


def test_a_duration_may_say_its_unit():
    assert ProgressiveRollout(every="10m").every == 600.0
