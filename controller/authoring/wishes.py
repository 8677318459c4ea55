"""What a pipeline of a checked wheel would run with: its wishes, below the operator's word."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from controller.cache import option_layers
from controller.errors import Rejected
from controller.planning.policy import rule_for

if TYPE_CHECKING:
    from collections.abc import Mapping

    from controller.config.serve import DeploymentOptions
    from controller.config.settings import Config, Options, PartOptions
    from controller.model import JSON, PipelineEntry


@dataclass(frozen=True, slots=True)
class Wished:
    """One pipeline of the wheel, with what it would run with."""

    entry: PipelineEntry
    options: Options
    settings: Mapping[str, JSON]
    parts: Mapping[str, PartOptions]
    """The options of each part."""

    @classmethod
    def of(cls, entry: PipelineEntry, config: Config) -> Self:
        """By the wheel and a configuration; raises Rejected."""
        if entry.refusal:
            raise Rejected(entry.refusal.reason, entry.refusal.message)
        rule, serve = rule_for(entry.name, config), config.serve
        return cls(
            entry,
            option_layers.effective(serve, entry.options, rule),
            option_layers.effective_settings(entry.settings, rule),
            option_layers.effective_parts(serve, entry, rule),
        )

    @property
    def detail(self) -> dict[str, JSON]:
        """All that was set, for a script."""
        of_parts = {name: _plain(options) for name, options in self.parts.items()}
        own = {"options": _plain(self.options), "settings": dict(self.settings)}
        return {**own, "parts": of_parts} if of_parts else own

    @property
    def about(self) -> str:
        """Where the parts would run, for a person; empty without parts."""
        inline = [name for name, options in self.parts.items() if options.inline]
        others = [name for name in self.parts if name not in inline]
        kinds = (("parts with deployments of their own", others), ("inline parts", inline))
        return "; ".join(f"{kind}: {', '.join(names)}" for kind, names in kinds if names)


def _plain(options: DeploymentOptions) -> JSON:
    return options.model_dump(mode="json", exclude_none=True)
