"""What a pipeline's author imports: `Pipeline`, `Context`, `Refused`, `request`; nothing needs Ray.

The contract, and what is read from it:

    contract.py      what a pipeline is
    inbound.py       what a request brought besides its body
    refusals.py      requests that a pipeline refuses
    loading.py       a verified tree on `sys.path`, and the class that an entry point names
    stages.py        what its methods take and return, read from their signatures
    schema.py        the types of a request and a result, as validation and JSON Schema
    json_schema.py   schemas that are JSON
    results.py       results that are what their schema says
    locations.py     where in a result something is wrong

One loaded pipeline:

    execution.py     load, requests, settings, unload
    trials.py        its examples, before it serves
    underway.py      how far a start has come
    calling.py       how its methods are called: threads, event loops
    limits.py        what a release takes upon itself, and whether most of it fails
    faults.py        whose fault an exception is

One request:

    asgi.py          the HTTP endpoints of a release
    content.py       bodies of requests, compressed or not
    problem.py       errors as clients see them
    deadlines.py     ends requests that take too long or whose client has gone
    watchdog.py      notices code that holds the event loop
    rescue.py        answers the requests that wait for a held loop
    descriptions.py  the endpoints that are only read
    openapi.py       what a release says of itself to programs
    page.py          and to people (with fields.py)

Streams and batches:

    streams.py       what a generator yields, item by item, and how it is closed
    framing.py       how the items of a stream travel, and how a broken one ends
    sending.py       sends streams to their clients
    batches.py       requests that `infer_batch` answers together

Parts:

    parts.py         what a pipeline sees of its parts
    entries.py       which there are, by entry points
    inline.py        parts in its own process
    remote.py        parts in processes of their own: who calls, and who answers
    crossing.py      what goes between both
    handles.py       calls by Serve's handles
    draining.py      parts that stay until their pipeline has drained

Weights:

    weights.py       what a pipeline of other code reads, from a wheel that holds only data
    instances.py     the instance that serves, and another that takes its place

The replica:

    host.py          inside Ray Serve; imports Ray, as handles.py and draining.py do, and no other
    replica.py       what one replica does from start to end
    failure.py       why a release does not start, in words that reach the operator
    direct.py        the way past Serve: a Unix socket of the replica's own
    sockets.py       where that is
    memory.py        how much a replica may allocate, and how much it did
    readonly.py      keeps a pipeline from writing into its own tree
    logs.py          a replica's log, whatever the pipeline does to `logging`
    fallback.py      answers for a release that has no replica
    encoded.py       routes that a client percent-encoded

An author's machine:

    local.py         the same for tests and on a command line
    gates.py         `wheelway check`'s gates
    standalone.py    what a replica has for a pipeline, where there is no replica
    reading.py       reads streams outside of a server

Installing `wheelway` without extras brings pydantic alone, and this package needs no more.
"""

from importlib.metadata import PackageNotFoundError, version

from wheelway.contract import Context, Pipeline
from wheelway.inbound import request
from wheelway.refusals import Refused

try:
    __version__ = version("wheelway")
except PackageNotFoundError:  # a source tree that was never installed
    __version__ = "0+unknown"

__all__ = ["Context", "Pipeline", "Refused", "__version__", "request"]
