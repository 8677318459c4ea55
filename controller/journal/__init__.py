"""The journal: the durable record of what the daemon saw, decided and did (SQLite).

None of it is needed for being right: a daemon without a journal observes and arrives at the same
state. It dates deadlines, keeps quarantines and what operators ordered over a restart, and tells
the story to `status`, `explain` and `history`. What may change here: tables (by a new migration in
`schema`), queries, bounds. What comes in are the values of `controller.model`; what goes out are
these or the frozen records of `records`.

    records     what comes out
    schema      the file: tables and their migrations, the daemon's lock, damage and how it is met
    connection  one connection to it, which asks nothing twice
    reading     `Reader`: every query; many at a time, in any process
    restoring   a file that was deleted under the daemon is written anew
    keeping     what was last seen, for the next run
    pruning     what is over is forgotten in time
    writing     `Journal`: a reader that writes; the daemon's, or for one short write beside it
    wording     the events that the journal appends by itself
    identity    by what a daemon is known to others
    clock       the clock that deadlines are dated by, over restarts and steps of the wall clock
"""

from controller.journal.clock import boot_id, steady_clock
from controller.journal.identity import identity
from controller.journal.reading import Reader
from controller.journal.records import AppliedConfig, DaemonStatus, ReleaseRecord
from controller.journal.schema import TO_START
from controller.journal.writing import Journal

__all__ = [
    "TO_START",
    "AppliedConfig",
    "DaemonStatus",
    "Journal",
    "Reader",
    "ReleaseRecord",
    "boot_id",
    "identity",
    "steady_clock",
]
