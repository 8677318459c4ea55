"""What the gateway makes of requests: spelling, routes, aliases, limits, keys, problems."""

from __future__ import annotations

import json
import re
import socket

import pytest

from controller.gateway.routing import Alias, ApiKey, Limit, Route, Routes, Sticky
from tests.support.gateway import RELEASE, Ingress, digest, routes, running, until

pytestmark = pytest.mark.unit

CLOSE = "connection: close\r\n"


@pytest.fixture(scope="module")
def ingress():
    with_all = Ingress()
    yield with_all
    with_all.end()


@pytest.fixture(scope="module")
def front(ingress, tmp_path_factory):
    with running(tmp_path_factory.mktemp("gateway"), ingress) as front:
        yield front


@pytest.fixture(autouse=True)
def as_new(front, ingress):
    """Whatever a test before this one left."""
    front.put(routes("iris/1.0", "iris/1.10", "iris/1.9", "tiny/1.0+cu12"))
    ingress.asked.clear()
    ingress.answers.clear()


def raw(front, text):
    """The answers to bytes as they are, up to the connection's end, which they ask for."""
    host, port = front.options.listen.split(":")
    with socket.create_connection((host, int(port)), timeout=60) as stream:
        stream.sendall(text.encode("latin-1"))
        found = b""
        while piece := stream.recv(65536):
            found += piece
    return found.decode("latin-1")


def problem(answer, status, reason):
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers["x-wheelway-gateway"] == reason
    document = answer.json()
    assert (document["status"], document["reason"]) == (status, reason)
    assert document["instance"] == answer.headers["x-request-id"]
    return document


@pytest.mark.parametrize(
    ("path", "at_ingress"),
    [
        ("/predict/iris/1.0", "/predict/iris/1.0"),
        ("/predict/iris/1.0/", "/predict/iris/1.0"),
        ("/predict/iris/1.0?a=%2F..//b", "/predict/iris/1.0?a=%2F..//b"),
        ("/predict/iris/1%2e0/docs", "/predict/iris/1.0/docs"),
        ("/predict/iris/1.0/docs/", "/predict/iris/1.0/docs/"),
        ("/%70redict/t%69ny/1.0%2Bcu12", "/predict/tiny/1.0+cu12"),
        ("/predict/tiny/1.0%2bcu12/a%20b", "/predict/tiny/1.0+cu12/a%20b"),
        ("/predict/tiny/1.0+cu12", "/predict/tiny/1.0+cu12"),
    ],
)
def test_all_spellings_of_a_path_lead_to_the_route(front, ingress, path, at_ingress):
    answer = raw(front, f"POST {path} HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n{CLOSE}\r\n{{}}")
    assert answer.startswith("HTTP/1.1 200 "), answer
    assert [one["path"] for one in ingress.asked] == [at_ingress]


@pytest.mark.parametrize(
    "path",
    [
        *("/predict/iris/1.0/../2.0", "/predict/./iris/1.0", "/predict/iris/1.0/%2e%2E/x"),
        *("/predict//iris/1.0", "/predict/iris/1.0//", "//predict/iris/1.0", "/predict/iris/1.0/."),
        *("/predict/iris%2f1.0", "/predict/iris/1.0/a%2Fb", "/predict/iris/1.0/a%5cb"),
        *("/predict/iris/1.0%00", "/predict/iris/1.0/%0d%0ax", "/predict/iris/1.0/a%7f"),
        *("/predict/iris/1.0/a\\b", "/predict/iris/%zz", "/predict/iris/1.0/%"),
    ],
)
def test_what_can_be_read_in_two_ways_is_refused(front, ingress, path):
    answer = raw(front, f"GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
    assert answer.startswith("HTTP/1.1 400 "), answer
    assert '"reason":"PathRefused"' in answer or '"reason":"BadRequest"' in answer
    assert ingress.asked == []


@pytest.mark.parametrize(
    "path",
    [
        *("/predict/iris/2.0", "/predict/iris/1.00", "/predict/IRIS/1.0", "/predict/iris/1.0%2530"),
        *("/predict/iris/1.0 ", "/predict/iris/|", "/predict/iris/*"),
    ],
)
def test_what_is_not_served_is_told_with_what_is(front, path):
    document = problem(front.get(path.replace(" ", "%20")), 404, "NoSuchRelease")
    assert document["known"] == (["1.0", "1.9", "1.10"] if "iris" in path else ["iris", "tiny"])


def test_an_unknown_pipeline_is_told_with_those_that_are_known(front):
    assert problem(front.get("/predict/no/1.0"), 404, "NoSuchRelease")["known"] == ["iris", "tiny"]
    assert problem(front.get("/predict"), 404, "NoSuchRelease")["known"] == ["iris", "tiny"]
    problem(front.get("/other"), 404, "NoSuchPath")


def test_an_empty_table_answers_too(ingress, tmp_path):
    with running(tmp_path / "g", ingress) as front:
        assert problem(front.get("/predict/iris/1.0"), 404, "NoSuchRelease")["known"] == []


def test_a_request_has_an_id_which_the_client_may_give(front, ingress):
    given = front.get("/predict/iris/1.0", headers={"x-request-id": "a:b/1"})
    assert given.headers["x-request-id"] == "a:b/1"
    made = front.get("/predict/iris/1.0", headers={"x-request-id": 'no"no'}).headers["x-request-id"]
    assert re.fullmatch(r"[0-9a-f-]{36}", made)
    assert [one["headers"]["x-request-id"] for one in ingress.asked] == ["a:b/1", made]


def test_who_asked_comes_from_the_connection_and_not_from_headers(front, ingress):
    lies = {
        "x-forwarded-for": "1.2.3.4",
        "x-forwarded-proto": "https",
        "forwarded": "for=1.2.3.4",
        "X-Wheelway-Client": "root",
        "x-wheelway-release": "iris@9",
        "host": "models.example",
    }
    front.get("/predict/iris/1.0", headers=lies)
    seen = ingress.asked[0]["headers"]
    assert seen["x-forwarded-for"] == "127.0.0.1"
    assert seen["x-forwarded-proto"] == "http"
    assert seen["x-forwarded-host"] == "models.example"
    assert not [name for name in seen if name.startswith("x-wheelway") or name == "forwarded"]


def test_rays_own_answers_are_not_the_clients_mistakes(front, ingress):
    path = "/predict/iris/1.0"
    for status in (404, 500, 502, 503, 504):
        ingress.answers[path] = (status, {"content-type": "text/plain"}, "Ray")
        answer = front.get(path)
        problem(answer, 503, "NotServedThere")
        assert answer.headers["retry-after"] == "1"
    for status in (404, 500, 503):
        ingress.answers[path] = (status, {RELEASE: "iris@1.0", "x-wheelway-gateway": "lie"}, "mine")
        answer = front.get(path)
        assert (answer.status_code, answer.text) == (status, "mine")
        assert "x-wheelway-gateway" not in answer.headers
    told = {"content-type": "application/problem+json", "retry-after": "7"}
    ingress.answers[path] = (503, told, '{"reason":"NotReady"}')
    answer = front.get(path)
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "7")
    assert answer.json() == {"reason": "NotReady"}


def test_a_connection_that_breaks_is_a_problem_and_only_what_may_be_is_repeated(front, ingress):
    once = Route("iris", "1.0", "/predict/iris/1.0", ("ray",))
    again = Route("tiny", "1.0", "/predict/tiny/1.0", ("ray",), repeatable=True)
    front.put(Routes(("ray",), (once, again)))
    for route in (once, again):
        ingress.answers[route.path] = "break"
        # On a kept connection HAProxy would only end the client's as well.
        text = f"POST {route.path} HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n{CLOSE}\r\n{{}}"
        answer = raw(front, text)
        assert answer.startswith("HTTP/1.1 502 ")
        assert '"reason":"BrokenOff"' in answer
    paths = [one["path"] for one in ingress.asked]
    assert paths.count(once.path) == 1
    assert paths.count(again.path) == 4


def test_nobody_there_is_a_problem(tmp_path):
    gone = Ingress()
    gone.end()
    with running(tmp_path / "g", gone) as front:
        front.put(routes("iris/1.0"))
        answer = front.get("/predict/iris/1.0")
        problem(answer, 503, "ClusterDown")
        assert answer.headers["retry-after"] == "1"


def test_an_ingress_whose_checks_fail_is_tried_all_the_same(tmp_path):
    ingress = Ingress()
    ingress.routes = "{}"
    with running(tmp_path / "g", ingress) as front:
        front.put(routes("iris/1.0"))
        until(
            lambda: (
                "clusters,ray" in (stat := front.running.admin.ask("show stat"))
                and ",DOWN," in stat
            )
        )
        assert front.get("/predict/iris/1.0").status_code == 200
    ingress.end()


def test_a_release_is_asked_at_its_own_path_there(front, ingress):
    front.put(Routes(("ray",), (Route("iris", "1.0", "/pools/a/iris-1", ("ray",)),)))
    for path in ("/predict/iris/1.0", "/predict/iris/1.0/docs?x=1"):
        front.get(path)
    assert [one["path"] for one in ingress.asked] == ["/pools/a/iris-1", "/pools/a/iris-1/docs?x=1"]


# -- smuggling -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "head",
    [
        "content-length: 5\r\ncontent-length: 6\r\n",
        "content-length: +5\r\n",
        "content-length : 5\r\n",
        "transfer-encoding: xchunked\r\n",
        "transfer-encoding: chunked\r\ntransfer-encoding: identity\r\n",
        "transfer-encoding:\x0bchunked\r\n",
        "x: a\x00b\r\n",
        " folded: 1\r\n",
    ],
)
def test_ambiguous_framing_reaches_nobody(front, ingress, head):
    inner = f"GET /predict/tiny/1.0+cu12 HTTP/1.1\r\nhost: x\r\n{CLOSE}\r\n"
    text = f"POST /predict/iris/1.0 HTTP/1.1\r\nhost: x\r\n{head}\r\n0\r\n\r\n{inner}"
    answer = raw(front, text)
    assert not re.search(r"^HTTP/1\.1 2", answer), answer
    assert ingress.asked == []


def test_chunks_win_over_a_length_and_end_where_they_end(front, ingress):
    """RFC 9112, 6.3: the length is removed, and nothing of the body becomes a request."""
    inner = f"GET /predict/tiny/1.0+cu12 HTTP/1.1\r\nhost: x\r\n{CLOSE}\r\n"
    raw(
        front,
        "POST /predict/iris/1.0 HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\n"
        f"transfer-encoding: chunked\r\n\r\n0\r\n\r\n{inner}",
    )
    assert [one["path"] for one in ingress.asked] == ["/predict/iris/1.0"]
    assert "content-length" not in ingress.asked[0]["headers"]


def test_a_bare_length_hides_no_request(front, ingress):
    body = "GET /predict/tiny/1.0+cu12 HTTP/1.1\r\nhost: x\r\n\r\n"
    raw(
        front,
        f"POST /predict/iris/1.0 HTTP/1.1\r\nhost: x\r\ncontent-length: {len(body)}\r\n"
        f"connection: close, x-request-id\r\n\r\n{body}",
    )
    assert [(one["path"], one["body"]) for one in ingress.asked] == [("/predict/iris/1.0", body)]


# -- aliases ---------------------------------------------------------------------------------------


def test_an_alias_leads_to_a_version_with_all_that_is_below(front, ingress):
    aliases = (Alias("iris", "", "1.10"), Alias("iris", "stable", "1.9"))
    front.put(routes("iris/1.0", "iris/1.9", "iris/1.10", aliases=aliases))
    asked = {
        "/predict/iris": "/predict/iris/1.10",
        "/predict/iris/": "/predict/iris/1.10",
        "/predict/iris/docs": "/predict/iris/1.10/docs",
        "/predict/iris/openapi.json": "/predict/iris/1.10/openapi.json",
        "/predict/iris/stable/docs": "/predict/iris/1.9/docs",
        "/predict/iris/st%61ble/": "/predict/iris/1.9",
        "/predict/iris/1.0": "/predict/iris/1.0",
    }
    for path in asked:
        assert front.get(path).status_code == 200
    assert [one["path"] for one in ingress.asked] == list(asked.values())
    known = problem(front.get("/predict/iris/2"), 404, "NoSuchRelease")["known"]
    assert known == ["1.0", "1.9", "1.10", "stable"]


@pytest.mark.parametrize("sticky", [Sticky.HEADER, Sticky.COOKIE])
def test_who_has_a_key_stays_with_a_version_and_keeps_it_when_the_share_grows(front, sticky):
    def has_the_other(share):
        alias = Alias("iris", "next", "1.0", "1.9", share, sticky)
        front.put(routes("iris/1.0", "iris/1.9", aliases=(alias,)))
        said = "x-wheelway-key: {}" if sticky == Sticky.HEADER else "cookie: wheelway={}"
        found = set()
        for user in range(200):
            name, _, value = said.format(f"u{user}").partition(": ")
            for _ in range(2):
                answer = front.get("/predict/iris/next", headers={name: value})
                found.add((user, answer.headers[RELEASE]))
        assert len(found) == 200
        return {user for user, release in found if release == "iris@1.9"}

    some, more = has_the_other(1000), has_the_other(3000)
    assert some < more
    assert 5 < len(some) < 45
    assert has_the_other(0) == set()
    assert len(has_the_other(10_000)) == 200


def test_without_a_key_shares_are_by_chance(front):
    front.put(routes("iris/1.0", "iris/1.9", aliases=(Alias("iris", "next", "1.0", "1.9", 5000),)))
    answers = [front.get("/predict/iris/next").headers[RELEASE] for _ in range(200)]
    assert 50 < answers.count("iris@1.9") < 150


def test_by_address_all_of_one_client_get_the_same(front):
    alias = Alias("iris", "next", "1.0", "1.9", 5000, Sticky.ADDRESS)
    front.put(routes("iris/1.0", "iris/1.9", aliases=(alias,)))
    assert len({front.get("/predict/iris/next").headers[RELEASE] for _ in range(50)}) == 1


# -- limits and keys -------------------------------------------------------------------------------


def test_limits_are_of_a_pipeline(front, ingress):
    limits = {"iris": Limit(3, 10), "tiny": Limit(None, 10)}
    front.put(routes("iris/1.0", "iris/1.9", "tiny/1.0+cu12", "other/1", limits=limits))
    too_large = front.get("/predict/tiny/1.0+cu12", "POST", content=b"x" * 11)
    problem(too_large, 413, "BodyTooLarge")
    assert front.get("/predict/tiny/1.0+cu12", "POST", content=b"x" * 10).status_code == 200
    assert front.get("/predict/other/1", "POST", content=b"x" * 100_000).status_code == 200
    codes = [front.get(f"/predict/iris/{version}").status_code for version in ("1.0", "1.9", "1.0")]
    assert codes == [200, 200, 200]
    limited = until(lambda: (a := front.get("/predict/iris/1.9")).status_code == 429 and a)
    problem(limited, 429, "RateLimited")
    assert limited.headers["retry-after"] == "10"
    assert front.get("/predict/other/1").status_code == 200


def test_keys_say_who_may_ask_what(ingress, tmp_path):
    keys = (
        ApiKey("all", digest("secret-a")),
        ApiKey("one", digest("secret-b"), ("iris",)),
    )
    with running(tmp_path / "g", ingress, api_keys=tmp_path / "keys") as front:
        front.put(routes("iris/1.0", "tiny/1", keys=keys, limits={"iris": Limit(3)}))
        for wrong in ({}, {"x-api-key": "x"}, {"authorization": f"Bearer {digest('secret-a')}"}):
            answer = front.get("/predict/iris/1.0", headers=wrong)
            problem(answer, 401, "KeyRefused")
            assert answer.headers["www-authenticate"] == "Bearer"
            assert "known" not in answer.json()
        for path in ("/predict/tiny/1", "/predict/no/1", "/predict", "/predict/iri%2a/1"):
            answer = front.get(path, headers={"x-api-key": "secret-b"})
            problem(answer, 403, "KeyLimited")
        assert ingress.asked == []
        one, every = {"authorization": "Bearer secret-b"}, {"x-api-key": "secret-a"}
        assert front.get("/predict/iris/1.0", headers=one).status_code == 200
        assert front.get("/predict/tiny/1", headers=every).status_code == 200
        seen = [asked["headers"] for asked in ingress.asked]
        assert [headers["x-wheelway-client"] for headers in seen] == ["one", "all"]
        assert not any("secret" in value for headers in seen for value in headers.values())
        assert front.get("/predict/iris/1.0", headers=one).status_code == 200
        until(lambda: front.get("/predict/iris/1.0", headers=one).status_code == 429)
        assert front.get("/predict/iris/1.0", headers=every).status_code == 200
        front.put(routes("iris/1.0", keys=keys[:1]))
        problem(front.get("/predict/iris/1.0", headers=one), 401, "KeyRefused")


# -- elsewhere -------------------------------------------------------------------------------------


def test_what_is_not_ours_goes_to_the_application_that_was_there_before(ingress, tmp_path):
    before = Ingress("before")
    with running(tmp_path / "g", ingress, fallback=before.url) as front:
        front.put(routes("iris/1.0"))
        for path in ("/", "/a//b/../c%2Fd?x=1", "/predictions/1"):
            text = f"GET {path} HTTP/1.1\r\nhost: old.example\r\nauthorization: x\r\n{CLOSE}\r\n"
            assert raw(front, text).startswith("HTTP/1.1 200 ")
        assert [one["path"] for one in before.asked] == [
            *("/", "/a//b/../c%2Fd?x=1", "/predictions/1"),
        ]
        assert before.asked[0]["headers"]["host"] == "old.example"
        assert before.asked[0]["headers"]["authorization"] == "x"
        before.answers["/no"] = (404, {}, "old")
        assert front.get("/no").text == "old"
        problem(front.get("/predict/no/1"), 404, "NoSuchRelease")
        assert '"reason":"PathRefused"' in raw(
            front, f"GET /predict/../a HTTP/1.1\r\nhost: x\r\n{CLOSE}\r\n"
        )
    before.end()


def test_each_request_is_a_line_of_json(ingress, tmp_path, capfd):
    with running(tmp_path / "g", ingress) as front:
        front.put(routes("iris/1.0", aliases=(Alias("iris", "", "1.0"),)))
        front.get("/predict/iris/?secret=1", headers={"x-request-id": "mine"})
        front.get('/a"\\b%22<')
    lines = [json.loads(line) for line in capfd.readouterr().out.splitlines() if line[:1] == "{"]
    assert [(line["path"], line["status"]) for line in lines] == [
        ("/predict/iris/", 200),
        (lines[1]["path"], lines[1]["status"]),
    ]
    assert (lines[0]["id"], lines[0]["release"], lines[0]["server"]) == ("mine", "iris/1.0", "ray")
    assert lines[1]["status"] in {400, 404}


def test_without_an_access_log_nothing_is_written(ingress, tmp_path, capfd):
    with running(tmp_path / "g", ingress, access_log=False) as front:
        front.put(routes("iris/1.0"))
        front.get("/predict/iris/1.0")
    assert capfd.readouterr().out == ""


def counters(front, key):
    found = front.running.admin.ask("show table by_release")
    line = next((line for line in found.splitlines() if f"key={key} " in line), "")
    return {name: int(n) for name, n in re.findall(r"(http_\w+|gpc\d+)=(\d+)", line)}


def test_requests_are_counted_by_release_and_counts_outlive_a_reload(front, ingress):
    alias = Alias("iris", "counted", "7.0")
    front.put(routes("iris/7.0", aliases=(alias,)))
    for path in ("/predict/iris/7.0", "/predict/iris/counted"):
        front.get(path)
    ingress.answers["/predict/iris/7.0"] = (404, {}, "")
    front.get("/predict/iris/7.0")
    before = counters(front, "iris/7.0")
    assert before["http_req_cnt"] == 3
    assert before["gpc10"] == 1  # the gateway's own 503 counts
    # A worker that has just started first waits for one before it, and passes nothing on.
    until(lambda: "resync_timeout=<PAST>" in front.running.admin.ask("show peers"))
    front.running.reload()
    until(lambda: counters(front, "iris/7.0") == before)
