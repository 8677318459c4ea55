"""The routing table as a value, and its pieces."""

from __future__ import annotations

import json
import random

import pytest

from controller.config.gateway import GatewayLimits
from controller.errors import ConfigError
from controller.gateway.configuration import limits
from controller.gateway.keys import parse, read
from controller.gateway.routing import (
    MOST_OF_ENTRY,
    Alias,
    ApiKey,
    Limit,
    Route,
    Routes,
    Shift,
    TableInvalid,
    bound,
    table,
)
from controller.gateway.runtime import BUFFER, GatewayRefused, payloads
from controller.model import Binding, Slot, Target
from tests.support.gateway import digest, routes

pytestmark = pytest.mark.unit


def test_a_table_says_all_that_is_looked_up():
    of = Routes(
        ("blue", "green"),
        (
            Route("iris", "1.0", "/predict/iris/1.0", ("green", "blue")),
            Route("iris", "1.1", "/pools/a/iris/1.1", ("green",), repeatable=True),
        ),
        (Alias("iris", "next", "1.0", "1.1", 1000), Alias("iris", "", "1.1")),
        {"iris/1.0": Shift("green"), "*": Shift("blue", "green", 2500)},
        {"iris": Limit(100, None)},
        (ApiKey("team", digest("k"), ("iris",)),),
    )
    made = table(of)
    assert made.entries[:-1] == (
        ("A:iris/", "1.1|1.1|0|"),
        ("A:iris/next", "1.0|1.1|1000|"),
        ("K:", '"known":["iris"]'),
        ("K:iris", '"known":["1.0","1.1","next"]'),
        ("L:iris", "100|"),
        (f"P:{digest('k')}", "team"),
        (f"P:{digest('k')}/iris", "1"),
        ("R:iris/1.0", "*|/predict/iris/1.0|"),
        ("R:iris/1.1", "green|/pools/a/iris/1.1|r"),
        ("S:*", "blue|green|2500"),
        ("S:iris/1.0", "green|green|0"),
    )
    assert made.entries[-1] == ("G:", made.digest)


def test_the_same_routes_in_any_order_are_the_same_bytes():
    keys = [f"p{n % 7}/1.{n}" for n in range(100)]
    once = table(routes(*keys))
    random.Random(7).shuffle(keys)
    assert table(routes(*keys)).text == once.text
    assert table(routes(*keys[1:])).digest != once.digest


@pytest.mark.parametrize(
    ("name", "version", "path"),
    [
        *(("a b", "1", "/p"), ("a\n", "1", "/p"), ("a", "1|2", "/p"), ("a", "1", "/p|r")),
        *(("a/b", "1", "/p"), ("", "1", "/p"), ("a", "", "/p"), ("ä", "1", "/p")),
        *(("a", "1", "/p q"), ("a", "1", "/p\x00"), ("a", "1", "/%[src]"), ('"', "1", "/p")),
        *(("a;show", "1", "/p"), ("#a", "1", "/p"), ("a", "1", "/p?x")),
    ],
)
def test_a_name_that_no_path_can_have_is_refused(name, version, path):
    with pytest.raises(TableInvalid, match="stays as it is"):
        table(Routes(("ray",), (Route(name, version, path, ("ray",)),)))


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"aliases": (Alias("a", "s", "2"),)}, "leads to '2', which is not served"),
        ({"aliases": (Alias("b", "s", "1"),)}, "leads to '1', which is not served"),
        ({"aliases": (Alias("a", "docs", "1"),)}, "has the name of a page"),
        ({"aliases": (Alias("a", "1", "1"),)}, "has the name of a version"),
        ({"aliases": (Alias("a", "s", "1", "1", 10_001),)}, "gives 10001 of 10000"),
        ({"aliases": (Alias("a", "s", "1", "", 1),)}, "to nobody"),
        ({"aliases": (Alias("a", "s", "1"), Alias("a", "s", "1"))}, "there twice"),
        ({"shifts": {"*": Shift("red")}}, "'red', which is no cluster"),
        ({"keys": (ApiKey("a b\nc", digest("x")),)}, "characters"),
        ({"keys": (ApiKey("a", digest("x"), ("p" * 5000,)),)}, "more than"),
    ],
)
def test_what_cannot_be_in_force_is_refused_by_name(more, said):
    with pytest.raises(TableInvalid, match=said):
        table(routes("a/1", **more))


def test_a_release_that_is_nowhere_is_refused():
    with pytest.raises(TableInvalid, match="a/1 is on none of the clusters ray"):
        table(Routes(("ray",), (Route("a", "1", "/p", ("blue",)),)))


def test_names_that_are_too_many_for_a_problem_document_are_counted():
    made = dict(table(routes(*(f"a/1.{n}" for n in range(5000)))).entries)
    known = json.loads("{" + made["K:a"] + "}")
    assert known["known"][-1] == "1.4999"
    assert len(known["known"]) + known["more"] == 5000
    assert max(len(key) + len(value) for key, value in made.items()) <= MOST_OF_ENTRY


def test_ten_thousand_entries_go_in_pieces_that_fit_a_buffer():
    made = table(routes(*(f"pipeline-{n}/{n}.0.0" for n in range(10_000))))
    pieces = list(payloads(made.entries))
    assert "".join(pieces) == made.text
    assert max(map(len, pieces)) < BUFFER - 1024


def test_an_entry_that_is_a_piece_by_itself_is_refused():
    with pytest.raises(GatewayRefused, match="above"):
        list(payloads([("R:a", "x" * 20_000)]))


def test_the_first_rule_that_matches_limits_a_pipeline():
    rules = [
        GatewayLimits(name="iris", rate=0.5),
        GatewayLimits(name="i*", max_body="1KiB"),
        GatewayLimits(name="*"),
    ]
    assert limits(rules, ["iris", "ivy", "rose"]) == {
        "iris": Limit(5, None),
        "ivy": Limit(None, 1024),
        "rose": Limit(None, None),
    }
    assert limits(rules[:1], ["rose"]) == {}


# -- API keys --------------------------------------------------------------------------------------


def test_a_file_of_keys_is_read(tmp_path):
    file = tmp_path / "keys"
    file.write_text(
        f"# who\n\nweb {digest('a').upper()}  # all of it\nbatch@x {digest('b')} Iris my_model\n"
    )
    assert read(file) == (
        ApiKey("web", digest("a")),
        ApiKey("batch@x", digest("b"), ("iris", "my-model")),
    )


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("web", "keys:2: .* no digest"),
        ("web secret", "what follows web is no SHA-256"),
        ("w/b " + digest("x"), "'w/b' is no name"),
        ("old " + digest("x"), "old is there twice"),
        ("new " + digest("old"), "new has the key of old"),
        (f"web {digest('x')} a*", r"'a\*' is no pipeline's name"),
    ],
)
def test_a_mistake_in_it_is_told_with_its_line_and_without_the_key(tmp_path, line, said):
    file = tmp_path / "keys"
    file.write_text(f"old {digest('old')}\n{line}\n")
    with pytest.raises(ConfigError, match=said) as caught:
        read(file)
    assert "secret" not in str(caught.value)
    assert digest("old") not in str(caught.value)


def test_keys_that_cannot_be_read_are_told(tmp_path):
    with pytest.raises(ConfigError, match="cannot be read"):
        read(tmp_path / "none")
    with pytest.raises(ConfigError, match="no name"):
        parse("\x00 " + digest("x"), tmp_path)


# -- bindings --------------------------------------------------------------------------------------


def binding(path, *clusters, weights=(1, 1), member=None):
    targets = (
        Target(Slot(cluster, "app", member), weight)
        for cluster, weight in zip(clusters, weights, strict=False)
    )
    return Binding(path, tuple(targets))


def test_bindings_of_versions_say_where_releases_are():
    found = bound(
        [
            binding("/predict/iris/1.0", "blue"),
            binding("/predict/iris/1.1", "blue", "green", weights=(3, 1)),
            binding("/predict/iris/1.2", "blue", "green", weights=(0, 1)),
        ],
        {"iris/1.1"},
    )
    assert found.routes == (
        Route("iris", "1.0", "/predict/iris/1.0", ("blue",)),
        Route("iris", "1.1", "/predict/iris/1.1", ("blue", "green"), repeatable=True),
        Route("iris", "1.2", "/predict/iris/1.2", ("green",)),
    )
    assert found.shifts == {"iris/1.1": Shift("blue", "green", 2500)}
    made = dict(table(Routes(("blue", "green"), found.routes, shifts=found.shifts)).entries)
    assert made["R:iris/1.0"] == "blue|/predict/iris/1.0|"
    assert made["S:iris/1.1"] == "blue|green|2500"


@pytest.mark.parametrize(
    "odd",
    [
        binding("/predict/iris", "ray"),
        binding("/predict/iris/1.0/x", "ray"),
        binding("/other/iris/1.0", "ray"),
        binding("/predict/iris/1.0"),
        binding("/predict/iris/1.0", "ray", weights=(0,)),
        binding("/predict/iris/1.0", "ray", "ray"),
        binding("/predict/iris/1.0", "a", "b", "c", weights=(1, 1, 1)),
        binding("/predict/iris/1.0", "ray", member="7"),
    ],
)
def test_a_binding_that_serve_cannot_serve_at_its_path_is_refused(odd):
    with pytest.raises(TableInvalid, match="path"):
        bound([odd])
