"""What numbers, durations, sizes and tables of the configuration may be."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.cli.reference import text as reference
from controller.config.loading import parse
from controller.config.values import LARGEST, LONGEST, not_json, same, seconds, size
from controller.errors import ConfigError

pytestmark = pytest.mark.unit


def read(text):
    return parse(text, Path("/etc/wheelway/controller.toml"))


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        ("30s", 30.0),
        ("5m", 300.0),
        ("1h30m", 5400.0),
        ("1h 30m", 5400.0),
        ("7d", 7 * 86400.0),
        ("250ms", 0.25),
        ("1.5 h", 5400.0),
    ],
)
def test_a_duration_may_say_its_unit(said, meant):
    assert seconds(said) == pytest.approx(meant)
    assert read(f'[rollout]\ninterval = "{said}"\n').rollout.interval == pytest.approx(meant)


@pytest.mark.parametrize(
    ("said", "meant"),
    [("16MiB", 16 * 2**20), ("2GB", 2 * 10**9), ("1.5 kB", 1500), ("100B", 100), ("1TiB", 2**40)],
)
def test_a_size_may_say_its_unit(said, meant):
    assert size(said) == meant
    assert read(f'[inspection]\nmax_size = "{said}"\n').inspection.max_size == meant


def test_the_environment_says_durations_and_sizes_in_either_form(monkeypatch):
    monkeypatch.setenv("WHEELWAY_ROLLOUT__INTERVAL", "2m")
    monkeypatch.setenv("WHEELWAY_RAY__TIMEOUT", "7")
    monkeypatch.setenv("WHEELWAY_INSPECTION__MAX_SIZE", "1GiB")
    config = read("")
    assert (config.rollout.interval, config.ray.timeout) == (120.0, 7.0)
    assert config.inspection.max_size == 2**30


SECTIONS = {
    "directory": '[[sources]]\ntype = "directory"\npath = "w"\npoll_interval = {}\n',
    "codeartifact": '[[sources]]\ntype = "codeartifact"\ndomain = "acme"\nrepository = "wheels"\n'
    "poll_interval = {}\n",
    "index": '[[sources]]\ntype = "index"\nurl = "https://i.example.com"\npackages = ["a"]\n'
    "timeout = {}\n",
    "ray": "[ray]\ntimeout = {}\n",
    "paths": "[paths]\nretention = {}\n",
    "environments": "[environments]\ntimeout = {}\n",
    "rollout": "[rollout]\nprobe_deadline = {}\n",
    "serve": "[serve.defaults]\nrequest_timeout = {}\n",
    "pipelines": '[[pipelines]]\nname = "a"\noptions = {{ health_check_period = {} }}\n',
    "notifications": '[[notifications]]\ntype = "webhook"\nurl = "http://a.example.com"\n'
    "hold = {}\n",
}


@pytest.mark.parametrize("section", SECTIONS)
def test_every_duration_has_units_and_an_end(section):
    assert read(SECTIONS[section].format('"90s"')) == read(SECTIONS[section].format(90))
    for odd in ("inf", "nan", "1e300", '"inf"', '"soon"', "true", "-1"):
        with pytest.raises(ConfigError, match=r"/etc/wheelway/controller.toml:\d+: "):
            read(SECTIONS[section].format(odd))


def test_a_share_and_a_ratio_are_finite():
    for text in ("[inspection]\nmax_ratio = inf\n", "[rollout]\nretire_limit = nan\n"):
        with pytest.raises(ConfigError, match="finite"):
            read(text)


TABLES = {
    "settings": '[[pipelines]]\nname = "a"\n[pipelines.settings]\n{}\n',
    "http_options": "[serve.http_options]\n{}\n",
    "autoscaling_config": "[serve.defaults.autoscaling_config]\n{}\n",
}


@pytest.mark.parametrize("table", TABLES)
@pytest.mark.parametrize(
    "odd",
    [
        *("2024-01-01", "2024-01-01T00:00:00Z", "07:30:00", "inf", "nan", "[1, {b = -inf}]"),
        *("0x" + 4000 * "f", "[{b = -1" + 1300 * "0" + "}]"),
    ],
)
def test_what_json_cannot_say_is_the_operators_mistake_at_once(table, odd):
    with pytest.raises(ConfigError, match=r"since holds .*, which JSON cannot say"):
        read(TABLES[table].format(f"since = {odd}"))


@pytest.mark.parametrize(
    "odd",
    ["port = 65536", "port = -1", "keep_alive_timeout_s = 2147483648", "port = 1" + "0" * 400],
)
def test_a_number_with_which_serve_would_not_start_is_the_operators_mistake(odd):
    with pytest.raises(ConfigError, match=r"http_options: \w+ must be from 0 to"):
        read(f"[serve.http_options]\n{odd}\n")


@pytest.mark.parametrize(
    "odd",
    [
        "metrics_interval_s = 0.01",
        "look_back_period_s = 0",
        "upscale_delay_s = -1",
        "max_replicas = 0",
    ],
)
def test_a_number_that_would_keep_serves_controller_from_its_work_is_the_operators_mistake(odd):
    with pytest.raises(ConfigError, match=r"autoscaling_config: \w+ must be from [01] to"):
        read(f"[serve.defaults.autoscaling_config]\n{odd}\n")


@pytest.mark.parametrize(
    "text",
    [
        "[serve.defaults]\nrequest_timeout = 901\n",
        "[serve.defaults]\nstream_timeout = 901\n",
        '[[pipelines]]\nname = "slow"\noptions = { request_timeout = "16m" }\n',
    ],
)
def test_a_request_longer_than_the_ingress_lets_finish_is_the_operators_mistake(text):
    with pytest.raises(ConfigError, match="the ingress ends requests after 900 s"):
        read(text)
    assert read("[serve]\nlongest_request = 1000\n" + text)


def test_the_reference_names_the_forms():
    assert 'poll_interval  (number >= 0 | "30s", default 5.0)' in reference()
    assert 'max_size  (integer > 0 | "16MiB", default' in reference()


@given(st.text(max_size=20))
def test_no_text_is_taken_for_a_number_that_it_is_not(text):
    for read_as, most in ((seconds, LONGEST), (size, LARGEST)):
        try:
            value = read_as(text)
        except ValueError as error:
            assert "write" in str(error)  # noqa: PT017 - what it is for any text is not known
        else:
            assert value is text or 0 <= value <= most * 10**20


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.floats(), st.lists))
def test_not_json_finds_what_json_cannot_say(value):
    odd = not_json(value)
    assert (odd is None) == ("inf" not in str(value) and "nan" not in str(value))


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    )
)
def test_what_was_written_as_json_and_read_again_is_the_same(value):
    assert same(json.loads(json.dumps(value)), value)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (1, True),
        (1, 1.0),
        (0, False),
        ([1], [True]),
        ({"a": [0]}, {"a": [0.0]}),
        ({"a": None}, {}),
        ([1], [1, 2]),
    ],
)
def test_what_json_tells_apart_is_not_the_same(one, other):
    assert same(one, one)
    assert not same(one, other)
    assert not same(other, one)
