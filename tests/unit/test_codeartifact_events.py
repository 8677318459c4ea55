"""Push: EventBridge's events through a real SQS (moto's) make the source look at one package."""

from __future__ import annotations

import json
import logging
import threading

import boto3
import pytest
from moto.server import ThreadedMotoServer

from controller.reconcile.artifacts import Artifacts, Means
from controller.reconcile.jobs import Jobs
from controller.sources.codeartifact import events
from tests.support.codeartifact import to_queue
from tests.support.head import eventually

pytestmark = pytest.mark.unit

POLL = "ListPackageVersions"


@pytest.fixture(scope="module")
def moto():
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def sqs(moto, at_standin):
    return boto3.client("sqs", endpoint_url=moto, region_name=at_standin.address.region)


@pytest.fixture
def queue(sqs, request):
    url = sqs.create_queue(QueueName=f"events-{abs(hash(request.node.name))}")["QueueUrl"]
    yield url
    sqs.delete_queue(QueueUrl=url)


@pytest.fixture
def publish(publish):
    return lambda name="acme-a", version="1.0": publish(name, version)


@pytest.fixture
def pushed(opened, queue, monkeypatch):
    """A source that listens; a poll would come much later than any test lasts. Whoever closes it
    waits for a question to SQS that is under way: a second at most.
    """
    monkeypatch.setattr("controller.sources.codeartifact.events.LONG_POLL", 1)
    return opened(packages=["acme-*"], events_queue_url=queue, poll_interval=3600)


def told(at_standin):
    """Collects the events of every change from now on."""
    found = []
    at_standin.subscribe(found.append)
    return found


def left(sqs, queue):
    names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
    counts = sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=names)["Attributes"]
    return sum(int(count) for count in counts.values())


def test_a_published_wheel_is_noticed_without_a_poll_and_only_its_package_is_looked_at(
    at_standin, pushed, sqs, queue, publish
):
    publish("acme-a")
    publish("acme-b")
    pushed.list()
    before = pushed.calls[POLL]
    at_standin.subscribe(to_queue(sqs, queue))
    woken = threading.Event()
    pushed.watch(woken.set)
    publish("acme-a", "2.0")
    assert woken.wait(60)
    assert [str(one.version) for one in pushed.list().revisions] == ["1.0", "2.0", "1.0"]
    assert pushed.calls[POLL] - before == 1
    eventually(lambda: left(sqs, queue) == 0)
    assert pushed.watch_note == ""


def test_the_supply_lists_the_source_again_because_of_an_event(
    at_standin, pushed, sqs, queue, publish
):
    def wake():
        artifacts.request_poll(pushed.name)
        artifacts.poll()

    artifacts = Artifacts(
        [pushed],
        Jobs(1, lambda: None),
        Means(receive=None, prepare=None, is_sound=None, mend=None, prune=None),
        remembered={},
    )
    artifacts.poll()
    eventually(artifacts.complete)
    at_standin.subscribe(to_queue(sqs, queue))
    pushed.watch(wake)
    publish("acme-a")
    eventually(lambda: artifacts.listings()[pushed.name].revisions)


def test_the_same_event_twice_is_one_poll(at_standin, pushed, sqs, queue, publish):
    found = told(at_standin)
    publish("acme-a")
    pushed.list()
    for _ in range(3):
        sqs.send_message(QueueUrl=queue, MessageBody=json.dumps(found[0]))
    pushed.watch(lambda: None)
    eventually(lambda: left(sqs, queue) == 0)
    before = pushed.calls[POLL]
    pushed.list()
    assert pushed.calls[POLL] - before == 1


@pytest.mark.parametrize(
    "change",
    [
        {"repositoryName": "other"},
        {"domainName": "other"},
        {"domainOwner": "999999999999"},
        {"packageFormat": "npm"},
        {"packageName": "not-ours"},
    ],
)
def test_events_of_others_wake_nobody_and_are_deleted(
    at_standin, opened, sqs, queue, publish, change
):
    source = opened(
        packages=["acme-*"], events_queue_url=queue, domain_owner=at_standin.address.owner
    )
    found = told(at_standin)
    publish("acme-a")
    found[0]["detail"] |= change
    sqs.send_message(QueueUrl=queue, MessageBody=json.dumps(found[0]))
    woken = threading.Event()
    source.watch(woken.set)
    eventually(lambda: left(sqs, queue) == 0)
    assert not woken.is_set()


def test_events_of_another_kind_are_let_go_without_a_word(pushed, caplog):
    body = {"source": "aws.s3", "detail-type": "Object Created", "detail": {}}
    assert not pushed._events._hinted(json.dumps(body))
    assert caplog.records == []


MALFORMED = [
    "",
    "not JSON",
    "[]",
    "{}",
    '"text"',
    "null",
    '{"source": "aws.codeartifact"}',
    json.dumps({"source": "aws.codeartifact", "detail-type": events.DETAIL_TYPE, "detail": 3}),
    json.dumps(
        {
            "source": "aws.codeartifact",
            "detail-type": events.DETAIL_TYPE,
            "detail": {"packageName": 7},
        }
    ),
    json.dumps(
        {
            "source": "aws.codeartifact",
            "detail-type": events.DETAIL_TYPE,
            "detail": {"packageName": "acme-a"},
        }
    ),
    "[" * 100_000,
]


def test_malformed_bodies_are_told_once_and_deleted(
    at_standin, pushed, sqs, queue, publish, caplog
):
    for body in MALFORMED[1:-1]:
        sqs.send_message(QueueUrl=queue, MessageBody=body)
    woken = threading.Event()
    with caplog.at_level(logging.WARNING):
        pushed.watch(woken.set)
        eventually(lambda: left(sqs, queue) == 0)
        at_standin.subscribe(to_queue(sqs, queue))
        publish("acme-a")
        assert woken.wait(60), "it goes on"
    assert len([one for one in caplog.records if "no event of EventBridge" in one.message]) == 1


@pytest.mark.parametrize("body", MALFORMED)
def test_no_body_is_too_strange(pushed, body, caplog):
    assert not pushed._events._hinted(body)
    assert "no event of EventBridge" in caplog.text


def test_a_queue_that_is_not_there_is_told_and_polling_goes_on(
    at_standin, opened, moto, publish, sqs
):
    url = f"{moto}/111122223333/nowhere"
    source = opened(packages=["acme-*"], events_queue_url=url)
    source.watch(lambda: None)
    eventually(lambda: source.watch_note)
    assert url in source.watch_note
    assert "every 30 s" in source.watch_note
    publish("acme-a")
    assert len(source.list().revisions) == 1


def test_events_come_again_when_the_queue_does(at_standin, opened, moto, sqs, publish, monkeypatch):
    url = sqs.create_queue(QueueName="for-its-url")["QueueUrl"].replace("for-its-url", "late")
    source = opened(packages=["acme-*"], events_queue_url=url)
    woken = threading.Event()
    source.watch(woken.set)
    eventually(lambda: source.watch_note)
    queue = sqs.create_queue(QueueName="late")["QueueUrl"]
    at_standin.subscribe(to_queue(sqs, queue))
    publish("acme-a")
    assert woken.wait(60)
    eventually(lambda: source.watch_note == "")


def test_closing_ends_the_thread(pushed):
    pushed.watch(lambda: None)
    eventually(lambda: pushed.calls.get("ReceiveMessage"))
    thread = pushed._events._thread
    pushed.close()
    assert not thread.is_alive()
    pushed.close()


def test_what_comes_to_a_source_that_closes_is_left_to_the_one_after_it(
    at_standin, opened, pushed, sqs, queue, publish, monkeypatch
):
    monkeypatch.setattr(events, "HIDDEN", 1)
    at_standin.subscribe(to_queue(sqs, queue))
    publish("acme-a")
    pushed.watch(pushed._closing.set)  # it is closed while it handles the event
    pushed._events.join()
    woken = threading.Event()
    after = opened(packages=["acme-*"], events_queue_url=queue, poll_interval=3600)
    after.watch(woken.set)
    assert woken.wait(60)


def test_without_a_queue_nothing_listens(at_standin, opened):
    source = opened(packages=["demo"])
    before = set(threading.enumerate())
    source.watch(lambda: None)
    assert set(threading.enumerate()) <= before
    assert source.watch_note == ""


@pytest.mark.parametrize(
    ("url", "region"),
    [
        ("https://sqs.eu-west-1.amazonaws.com/111122223333/q", "eu-west-1"),
        ("https://eu-north-1.queue.amazonaws.com/111122223333/q", "eu-north-1"),
        ("https://sqs.cn-north-1.amazonaws.com.cn/111122223333/q", "cn-north-1"),
        ("https://sqs.us-gov-west-1.amazonaws.com/111122223333/q", "us-gov-west-1"),
        ("http://127.0.0.1:5000/111122223333/q", "eu-central-1"),
    ],
)
def test_the_queues_region_is_that_of_its_url(at_standin, opened, url, region):
    source = opened(packages=["demo"], events_queue_url=url)
    client = source._connection.sqs()
    assert client.meta.region_name == region
    assert client.meta.endpoint_url == url.rpartition("/111122223333")[0]
