"""The control socket: what the daemon knows and takes orders for, over HTTP.

On a Unix socket everything, for whoever may open it (`[api] socket`, `socket_group`); on a loopback
port, if one is configured, what monitoring needs, which changes nothing. What is known comes from
the journal, through a reader of its own; orders go into the journal, through a writer of its own,
and wake the daemon, of which this room knows no more than `Controls`. Errors are problem details
(RFC 9457) with the project's own reasons. What may change here: operations are added, never taken
away; FastAPI makes the OpenAPI document of them.

    seam         what the API needs of a daemon and of the rest
    requests     what operations take
    operations   all of them; `events` is the one that goes on telling
    routing      what holds for every operation; `problems` for what goes wrong
    application  the operations as ASGI applications
    listening    sockets, and a server in a thread of its own on each
"""

from controller.api.listening import Api
from controller.api.seam import ApiContext, Controls, Liveness

__all__ = ["Api", "ApiContext", "Controls", "Liveness"]
