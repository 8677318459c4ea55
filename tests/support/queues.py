"""SQS as moto has it, on loopback, with what EventBridge would send there."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import boto3
from moto.server import ThreadedMotoServer

from tests.support.codeartifact import to_queue

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.codeartifact import StandIn


def sqs(standin: StandIn, url: str) -> Any:
    """A client for the server of a queue, or of none yet, with the stand-in's credentials."""
    parts, credentials = urlsplit(url), standin.access.credentials
    return boto3.client(
        "sqs",
        endpoint_url=f"{parts.scheme}://{parts.netloc}",
        region_name=standin.address.region,
        aws_access_key_id=credentials.access_key,
        aws_secret_access_key=credentials.secret_key,
    )


@contextmanager
def events_queue(standin: StandIn) -> Iterator[str]:
    """The URL of a queue that gets the event of every change from now on."""
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        client = sqs(standin, f"http://{host}:{port}")
        url = str(client.create_queue(QueueName="wheelway-events")["QueueUrl"])
        standin.subscribe(to_queue(client, url))
        yield url
    finally:
        server.stop()
