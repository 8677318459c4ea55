"""Why an application has its place in the next config, or has none any more.

Decisions of policy and failures keep their own reasons (`NotKept`, `LoadFailed`); these are the
rollout's.
"""

from __future__ import annotations

from controller.planning.plan import Cause
from controller.planning.policy import MISSING, STANDS_IN

EVERYTHING = "serve config"
"""The subject of conditions about the whole config."""
SUSPENDED = "Suspended"
"""The reason of whatever an operator's suspension stops."""
NOT_ANSWERING = "RouteNotAnswering"
"""A release that was live does not answer at its route."""
RETIRE_LIMIT = "RetireLimit"
"""So much vanished from its source at once that a person is asked before it is retired."""

STAGED = Cause("BecomingReady", "staged without a route until its examples have passed")
CHECKING_FILES = Cause("CheckingFiles", "its files are looked at once more before it is staged")
PROMOTED = Cause("ExamplesPassed", "promoted: it is ready")
HOLDS_ROUTE = Cause("HoldsRoute", "it is what policy elects for its route")
SETTINGS = Cause("SettingsChanged", "its settings or scaling changed, which restarts nothing")
NEW_WEIGHTS = Cause("NewWeights", "replicas load other weights, which restarts nothing")
WEIGHTS_ROLLED_BACK = Cause("WeightsRolledBack", "it goes back to earlier weights")
NO_WEIGHTS = Cause("WeightsWithdrawn", "it serves without weights from now on")

AWAITS_WEIGHTS = Cause(
    "WeightsAwaited", "runs without a route until it may show again that it takes the weights"
)
AWAITS_PREPARATION = Cause("SuccessorNotPrepared", "kept until what takes its place is prepared")
AWAITS_READINESS = Cause("SuccessorNotReady", "keeps its route until what takes its place is ready")
AWAITS_ANSWER = Cause("SuccessorNotLive", "kept until what takes its place answers at their route")
AWAITS_PROOF = Cause("SuccessorNotProven", "kept until what has its route has answered there")
AWAITS_REPLACEMENT = Cause("SuccessorNotLive", "kept until the versions that push it out are live")
GIVES_ROUTE = Cause(
    "SuccessorReady", "gives its route to what takes its place, and goes on until that answers"
)
KEEPS_ROUTE = Cause(STANDS_IN, "goes on: what should have taken its place is quarantined")
HAS_ROUTE_BACK = Cause("SuccessorFailed", "has its route back: what took its place failed")

SOURCE_UNKNOWN = Cause("SourceUnknown", "kept: nothing is known of its source yet")
LATELY_MISSING = Cause(MISSING, "kept: missing only since a moment ago")
NOTHING_FITTER = Cause("NothingFitter", "kept: nothing fitter is elected")
ROUTE_TAKEN = Cause("RouteConflict", "kept: the route is somebody else's")

HEAD_ENDED = Cause(
    "HeadEnded", "`wheelway up` had started the Ray head that it ran on, which has ended"
)
FOREIGN = Cause("NotOurs", "carried as it is")
ENCODED_ROUTES = Cause(
    "EncodedRoutes", "clients may percent-encode the routes of local versions and epochs"
)
NOTHING_TO_ENCODE = Cause("NothingToEncode", "no route has another spelling any more")
NEVER_SEEN = Cause("ProbeFailed", "it failed, or did not answer, before it was seen at its route")
NO_LONGER_WANTED = Cause(
    "NoLongerWanted", "other bytes, options or policy took its place before it was live"
)
