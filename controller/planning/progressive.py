"""A progressive rollout: by which steps a new version, the canary, takes over behind an alias.

One look at the gateway's counters after the other, each judged from the state before it and from
nothing else. The canary takes one step at a time, once the step has lasted and the canary has had
requests enough; it goes back to 0 at once when it is worse than it may be, and is held there. Where
that is not certain it stays where it is, and says what it waits for.

A state is plain data. It must be kept whenever its share, `since` or verdict changes, before that
is acted upon; kept more seldom than looked, it only forgets what a restart of the gateway took away
meanwhile. Who keeps none of what was counted can neither skip nor repeat a step: the share is the
step.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, Final, Literal, Self

from controller.planning.traffic import Counters, surely_more, surely_slower

if TYPE_CHECKING:
    from controller.config.aliases import ProgressiveRollout

CANARY_FAILED: Final = "CanaryFailed"
CANARY_ADVANCED: Final = "CanaryAdvanced"
CANARY_PROMOTED: Final = "CanaryPromoted"
WAITING_FOR_TIME: Final = "WaitingForTime"
WAITING_FOR_REQUESTS: Final = "WaitingForRequests"
COUNTERS_UNKNOWN: Final = "CountersUnknown"
FORMER_FAILING: Final = "FormerFailing"

_NOTHING: Final = Counters()


@dataclass(frozen=True, slots=True)
class Look:
    """What the gateway has counted, in one reading."""

    epoch: str
    """Since when it counts, in any words: other ones mean that it began anew from nothing. Falling
    counters alone do not show every restart."""
    canary: Counters
    former: Counters


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a canary has come."""

    canary: str
    """Its version."""
    former: str
    """The version that it replaces."""
    share: int
    """Percent of the alias' requests that the canary gets."""
    since: float
    """When it got this share, in seconds of the steady clock."""
    seen: Look
    """The gateway's counters when they were last read."""
    of_canary: Counters = _NOTHING
    """What the canary did since then; of what came just before the gateway's counters began anew,
    nothing is known."""
    of_former: Counters = _NOTHING
    reference: Counters | None = None
    """What the former version did in the last step in which it had requests enough."""
    verdict: Literal["", "failed", "promoted"] = ""
    why: str = ""
    """The sentence of the verdict."""

    def document(self) -> dict[str, Any]:
        """As plain data, for the journal."""
        return asdict(self)

    @classmethod
    def read(cls, document: object) -> Self:
        """Of what `document` made, also by way of JSON.

        Raises:
            ValueError: it is nothing of the kind.
        """
        if not isinstance(document, dict) or document.keys() != set(cls.__slots__):
            raise ValueError(f"{document!r} is no progress of a rollout")
        share, since, seen = document["share"], document["since"], document["seen"]
        is_placed = type(share) is int and 0 <= share <= 100 and type(since) in {int, float}
        if not is_placed or document["verdict"] not in {"", "failed", "promoted"}:
            raise ValueError(f"{document!r} is no progress of a rollout: it is nowhere")
        if not isinstance(seen, dict) or seen.keys() != {"epoch", "canary", "former"}:
            raise ValueError(f"{document!r} has no counters")
        counted = {name: Counters.read(document[name]) for name in ("of_canary", "of_former")}
        look = Look(
            str(seen["epoch"]), Counters.read(seen["canary"]), Counters.read(seen["former"])
        )
        known = document["reference"]
        reference = None if known is None else Counters.read(known)
        return cls(**{**document, **counted, "seen": look, "reference": reference})

    def after(self, look: Look) -> Self:
        """The same with what came since the last look."""
        anew = look.epoch != self.seen.epoch
        canary, former = (
            now if anew else now.since(before)
            for now, before in (
                (look.canary, self.seen.canary),
                (look.former, self.seen.former),
            )
        )
        return replace(
            self,
            seen=look,
            of_canary=self.of_canary + canary,
            of_former=self.of_former + former,
        )

    def at(self, share: int, now: float) -> Self:
        """At a step's begin, with nothing counted yet."""
        return replace(self, share=share, since=now, of_canary=_NOTHING, of_former=_NOTHING)


@dataclass(frozen=True, slots=True)
class Decision:
    """What follows of a look: the state to keep, and why it is so."""

    progress: Progress
    reason: str
    message: str


def begin(
    canary: str, former: str, rollout: ProgressiveRollout, look: Look, now: float
) -> Progress:
    """The first step of a canary that is live."""
    return Progress(canary, former, rollout.steps[0], now, look)


def judge(
    progress: Progress, rollout: ProgressiveRollout, look: Look | None, now: float
) -> Decision:
    """What a look says; None: the gateway's counters could not be read.

    Args:
        progress: as the look before left it.
        rollout: the rule as it is now. One that was edited meanwhile is followed from the share
            that the canary has: never downwards.
        look: the counters, which have grown since `progress`, or begun anew.
        now: seconds of the steady clock.
    """
    if progress.verdict:
        reason = CANARY_FAILED if progress.verdict == "failed" else CANARY_PROMOTED
        return Decision(progress, reason, progress.why)
    # Nothing was in the future: such a date is of an earlier boot, by a clock that was wrong.
    progress = replace(progress, since=min(progress.since, now))
    if look is None:
        told = f"at {progress.share} %: the gateway does not tell what it has counted"
        return Decision(progress, COUNTERS_UNKNOWN, told)
    progress = progress.after(look)
    if (fault := _fault(progress, rollout)) is not None:
        return _blamed(progress, rollout, fault, now)
    return _missing(progress, rollout, now) or _advanced(progress, rollout, now)


# -- bad -------------------------------------------------------------------------------------------


def _fault(progress: Progress, rollout: ProgressiveRollout) -> str | None:
    """What is wrong with the canary: `errors` or `latency`.

    With `min_requests` its error rate is judged as it is; with fewer only if it would hardly look
    so by chance. Its latency is always judged so, since the rarest requests decide on it.
    """
    canary, most = progress.of_canary, rollout.max_error_rate
    enough = canary.requests >= rollout.min_requests and canary.error_rate > most
    if enough or surely_more(canary.errors, canary.requests, most):
        return "errors"
    reference = _reference(progress, rollout)
    if reference is not None and surely_slower(canary, reference, rollout.max_p99_ratio):
        return "latency"
    return None


def _blamed(progress: Progress, rollout: ProgressiveRollout, fault: str, now: float) -> Decision:
    """Back to 0, unless the former version fails as often: what both need has failed then."""
    canary, former = progress.of_canary, progress.of_former
    if fault == "errors":
        told = f"{_errors(canary)} failed, more than {_percent(rollout.max_error_rate)}"
        other = f"; of {progress.former} it was {_errors(former)}"
        alike = not surely_more(canary.errors, canary.requests, former.error_rate)
        if former.error_rate > rollout.max_error_rate and alike:
            message = (
                f"at {progress.share} %: {told}{other}. That says nothing of {progress.canary}: "
                "the step begins anew"
            )
            return Decision(progress.at(progress.share, now), FORMER_FAILING, message)
    else:
        reference = _reference(progress, rollout) or former
        told = f"the 99th percentile of its latency is {_latency(canary)}"
        other = f", more than {rollout.max_p99_ratio:g} times that of {progress.former}, "
        other += _latency(reference)
    message = (
        f"{progress.canary} is back at 0 %, from {progress.share} %: {told}{other}. "
        "It is held there until an operator says otherwise, or its wheel is another"
    )
    held = replace(progress, share=0, since=now, verdict="failed", why=message)
    return Decision(held, CANARY_FAILED, message)


# -- good, or not known ----------------------------------------------------------------------------


def _missing(progress: Progress, rollout: ProgressiveRollout, now: float) -> Decision | None:
    """What keeps a canary of which nothing bad is known from its next step."""
    canary, former, least = progress.of_canary, progress.of_former, rollout.min_requests
    if (left := progress.since + rollout.every - now) > 0:
        told = f"the step lasts for {left:.0f} s more; {_errors(canary)} failed"
        return Decision(progress, WAITING_FOR_TIME, f"at {progress.share} %: {told}")
    if canary.requests < least:
        lacking, has = progress.canary, canary.requests
    elif progress.share < 100 and _reference(progress, rollout) is None:
        lacking, has = progress.former, former.requests
    else:
        return None
    told = f"waits for {least:,} requests to {lacking}, has {has:,}"
    return Decision(progress, WAITING_FOR_REQUESTS, f"at {progress.share} %: {told}")


def _advanced(progress: Progress, rollout: ProgressiveRollout, now: float) -> Decision:
    told = f"{_errors(progress.of_canary)} failed at {progress.share} %"
    following = [step for step in rollout.steps if step > progress.share]
    if not following:
        message = f"{progress.canary} has taken over from {progress.former}: {told}"
        return Decision(
            replace(progress, since=now, verdict="promoted", why=message), CANARY_PROMOTED, message
        )
    message = f"{progress.canary} goes on to {following[0]} %: {told}"
    known = replace(progress, reference=_reference(progress, rollout))
    return Decision(known.at(following[0], now), CANARY_ADVANCED, message)


def _reference(progress: Progress, rollout: ProgressiveRollout) -> Counters | None:
    """What the canary is compared with: the former version in this step, or in one before it when
    it has too few requests now, as at 100 %.
    """
    enough = progress.of_former.requests >= rollout.min_requests
    return progress.of_former if enough else progress.reference


def _errors(counters: Counters) -> str:
    requests = f"{counters.errors:,} of {counters.requests:,} requests"
    return f"{requests} ({_percent(counters.error_rate)})" if counters.errors else requests


def _percent(share: float) -> str:
    return f"{100 * share:.3g} %"


def _latency(counters: Counters) -> str:
    low, high = counters.percentile()
    return f"{low:g} to {high:g} ms" if high < float("inf") else f"more than {low:g} ms"
