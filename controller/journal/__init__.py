"""The journal: the durable record of what the daemon saw, decided and did (SQLite).

Decisions do not depend on it: a daemon without a journal observes and arrives at the same state.
It dates deadlines, keeps quarantines and orders over a restart, and holds what `status`, `explain`
and `history` tell. Tables change by a new migration only. Values of `controller.model`
come in; these and the frozen records of `records` go out. Rows of what runs on a cluster have its
name in their key, and a reader is one cluster's.

    records     what comes out
    migrations  the tables
    schema      the file: how it is opened, the daemon's lock, damage and how it is met
    connection  one connection to it, which asks nothing twice
    reading     `Reader`: every query; many at a time, in any process
    restoring   a file that was deleted under the daemon is written anew
    keeping     what was last seen, for the next run
    pruning     what is over is forgotten in time
    writing     `Journal`: a reader that writes; the daemon's, or for one short write beside it
    weights_*   the same for weights: what releases are live with, what failed, whose they are
    wording     the events that the journal appends by itself
    permissions what a user who may not read it is told
    identity    the mark by which a daemon is known to others
    clock       the clock that deadlines are dated by, over restarts and steps of the wall clock
"""

from controller.journal.clock import boot_id, steady_clock
from controller.journal.identity import identity
from controller.journal.reading import Reader
from controller.journal.records import AppliedConfig, DaemonStatus, ReleaseRecord
from controller.journal.schema import TO_START, Holder, held, holder, require_unlocked
from controller.journal.writing import Journal

__all__ = [
    "TO_START",
    "AppliedConfig",
    "DaemonStatus",
    "Holder",
    "Journal",
    "Reader",
    "ReleaseRecord",
    "boot_id",
    "held",
    "holder",
    "identity",
    "require_unlocked",
    "steady_clock",
]
