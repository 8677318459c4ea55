"""The control socket: what the daemon knows and takes orders for, over HTTP.

On a Unix socket everything, for whoever may open it (`[api] socket`, `socket_group`); on a loopback
port, if one is configured, what monitoring needs, which changes nothing. What is known comes from
the journal, through a reader of its own; orders go into the journal, through a writer of its own,
and wake the daemon, of which this room knows no more than `Controls`. Errors are problem details
(RFC 9457) with the project's own reasons. What may change here: operations are added, never taken
away; the OpenAPI document follows, for it is made from the same table.

    seam         what the API needs of a daemon and of the rest
    operations   the table: each operation with what it takes and gives
    reading      the operations that tell; `events` is the one that goes on telling
    ordering     the operations that change something
    health       whether the daemon does its work, for monitoring
    application  the table as an ASGI application; `problems` for what goes wrong
    openapi      the table as an OpenAPI 3.1 document
    listening    sockets, and a server in a thread of its own on each
"""

from controller.api.listening import Api
from controller.api.seam import ApiContext, Controls, Liveness, MetricsPage, nothing_measured

__all__ = ["Api", "ApiContext", "Controls", "Liveness", "MetricsPage", "nothing_measured"]
