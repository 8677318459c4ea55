"""Documents of Serve, checked against Ray's schema by what they have in common.

Of an application Ray's schema takes name and route as any text, and the builder's arguments, the
settings and a replica's interpreter and variables as any JSON: it hands them on unseen. Without
these a thousand releases have a handful of outlines, and Ray is asked once for each. (It checks a
route's form when it reports an application; ours have it by construction.) What a later version of
Ray checks must leave `_split`; `tests/unit/test_outline.py` compares.
"""

from __future__ import annotations

import json
from collections import Counter
from typing import TYPE_CHECKING, Any, Final, TypeAlias, TypeGuard

from controller.config.values import not_json
from controller.errors import Rejected
from controller.serve.application import release_of
from controller.serve.canonical import quoted
from controller.serve.schema import Asker, SchemaError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from controller.model import JSON
    from controller.serve.accepted import Accepted

_MOST = 4096
"""Outlines whose answers are kept."""


class Schema:
    """Ray's schema, asked once for each outline.

    Every check may raise Waiting, as its asker. What Ray would refuse, drop or ignore is a
    SchemaError of `application` and `envelope`; what it would refuse is a Rejected
    (`ConfigRefused`) of `validate` and `validate_together`.
    """

    def __init__(self, asker: Asker | None = None, *, kept: Accepted | None = None) -> None:
        """`asker`: by default in this process; `kept`: the answers of former runs."""
        self._asker = asker or Asker()
        self._kept = kept
        self._answers: dict[str, str | tuple[tuple[str | int, ...], str]] = {}
        """By question and outline: what came back, as JSON, or path and message of a refusal."""

    def save(self) -> None:
        """Keep what was asked for since the start."""
        if self._kept is not None:
            self._kept.save({k: v for k, v in self._answers.items() if isinstance(v, str)})

    def expect(self) -> None:
        """Get ready for documents unlike those before."""
        self._asker.expect()

    def application(self, document: Mapping[str, JSON]) -> dict[str, JSON]:
        """The application as Serve will report it back in `deployed_app_config`."""
        outline, taken = _split(document)
        return _whole(self._answer("application", outline), taken)

    def envelope(self, config: Mapping[str, JSON]) -> None:
        """Check all of a config but its applications."""
        self._answer("envelope", {**config, "applications": []})

    def validate(self, document: Mapping[str, JSON]) -> None:
        """Check one application as Serve will when it gets it."""
        name = f"application {document.get('name')!r}"
        try:
            self._answer("taken", _split(document)[0])
            if release_of(document) is not None:  # others' are there: Ray took what they hold
                quoted(document)
        except ValueError as error:
            raise Rejected("ConfigRefused", f"Ray Serve would refuse {name}: {error}") from error

    def validate_together(self, config: Mapping[str, JSON]) -> None:
        """Check all of a config but what is inside its applications."""
        applications = config.get("applications", ())
        names = Counter(document.get("name") for document in applications)
        routes = Counter(document.get("route_prefix", "/") for document in applications)
        del routes[None]
        # Ray compares each with each: of thousands it is shown those alone that it may refuse.
        suspects = [
            {key: document[key] for key in _TOGETHER if key in document}
            for document in applications
            if names[document.get("name")] > 1
            or routes[document.get("route_prefix", "/")] > 1
            or not document.get("name")
            or not document.keys().isdisjoint({"host", "port"})
        ]
        try:
            self._answer("taken_together", {**config, "applications": suspects})
        except SchemaError as error:
            message = f"Ray Serve would refuse the Serve config: {error}"
            raise Rejected("ConfigRefused", message) from error

    def _answer(self, question: str, outline: Mapping[str, JSON]) -> Any:
        if not _is_free(outline):  # YAML has more than JSON
            return self._asker.ask(question, outline)
        key = f"{question} {json.dumps(outline, sort_keys=True)}"
        if key not in self._answers:
            if len(self._answers) >= _MOST:
                self._answers.clear()
            try:
                before = None if self._kept is None else self._kept.answers.get(key)
                self._answers[key] = before or json.dumps(self._asker.ask(question, outline))
            except SchemaError as error:
                self._answers[key] = error.path, error.message
        answer = self._answers[key]
        if isinstance(answer, tuple):
            raise SchemaError(*answer)
        return json.loads(answer)


_TOGETHER = ("name", "route_prefix", "import_path", "host", "port")
"""Keys that Serve compares between applications or with the rest, or that none may lack."""
_HANDED_ON = {"py_executable", "env_vars"}
"""What of a runtime environment Ray's schema does not check."""
_NOTHING: Final = object()

_Taken: TypeAlias = "list[tuple[tuple[str | int, ...], JSON]]"
"""What was taken out of a document, by its path."""


def _split(document: Mapping[str, JSON]) -> tuple[dict[str, JSON], _Taken]:
    """An application's outline, and what was replaced in it."""
    outline, taken = dict(document), []

    def take(holder: dict[Any, JSON], *path: str | int, instead: JSON) -> None:
        taken.append((path, holder.get(path[-1], _NOTHING)))
        holder[path[-1]] = instead

    for key, instead in (("name", "application"), ("route_prefix", "/")):
        if isinstance(outline.get(key), str):
            take(outline, key, instead=instead)
    if _is_free(outline.get("args")):
        take(outline, "args", instead={})
    deployments = outline.get("deployments")
    if not isinstance(deployments, list):
        return outline, taken
    outline["deployments"] = [dict(one) if isinstance(one, dict) else one for one in deployments]
    for number, one in enumerate(outline["deployments"]):
        if not isinstance(one, dict):
            continue
        if _is_free(one.get("user_config")):
            take(one, "deployments", number, "user_config", instead={})
        actor = one.get("ray_actor_options")
        # An environment of its own makes no other outline: the first one needs no new answer.
        runtime = actor.get("runtime_env", {}) if isinstance(actor, dict) else None
        if _is_free(runtime) and runtime.keys() <= _HANDED_ON:
            one["ray_actor_options"] = actor = dict(one["ray_actor_options"])
            path = ("deployments", number, "ray_actor_options", "runtime_env")
            take(actor, *path, instead={})
    return outline, taken


def _whole(outline: dict[str, JSON], taken: _Taken) -> dict[str, JSON]:
    """The document, with what was taken out of it."""
    for (*way, last), value in taken:
        spot: Any = outline
        for key in way:
            spot = spot[key]
        if value is _NOTHING:
            del spot[last]
        else:
            spot[last] = value
    return outline


def _is_free(value: JSON) -> TypeGuard[dict[str, JSON]]:
    """Whether it is an object of strict JSON."""
    return isinstance(value, dict) and _has_texts_as_keys(value) and not_json(value) is None


def _has_texts_as_keys(value: JSON) -> bool:
    if isinstance(value, dict):
        return all(isinstance(key, str) and _has_texts_as_keys(i) for key, i in value.items())
    return not isinstance(value, list) or all(map(_has_texts_as_keys, value))
