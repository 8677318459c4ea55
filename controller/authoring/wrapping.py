"""An existing model class as `wheelway new --wrap` takes it over: which method is which stage.

Found by looking at its text (see `modules`): the class, and those of its bases that lie in the same
root. Names decide: `ROLES` lists them, and all others (`fit`, `save`, ...) are left alone.
"""

from __future__ import annotations

import ast
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, cast

from controller.authoring.modules import Needs, Root, needs
from controller.errors import Stalled

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from controller.authoring.modules import Module

ROLES: Final = {
    "load": ("load", "load_model", "setup"),
    "pre_process": ("pre_process", "preprocess"),
    "infer": ("infer", "predict", "predict_proba", "__call__"),
    "post_process": ("post_process", "postprocess"),
    "unload": ("unload", "close", "shutdown"),
}
"""What each method of a pipeline may be called in a class that is wrapped, the likeliest first."""

_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
_BARE_BASES = {"object", "ABC", "Protocol", "Generic"}


@dataclass(frozen=True, slots=True)
class Parameter:
    """One that a method takes besides `self`."""

    name: str
    annotation: ast.expr | None
    default: ast.expr | None
    by_name: bool
    """Whether it may be given by its name."""
    by_position: bool = True

    @property
    def required(self) -> bool:
        """Whether it has no default."""
        return self.default is None


@dataclass(frozen=True, slots=True)
class Method:
    """A method, with the module whose names its annotations are of."""

    name: str
    node: ast.FunctionDef | ast.AsyncFunctionDef
    module: Module

    @property
    def awaited(self) -> bool:
        """Whether its result is to be awaited; a generator's is not."""
        return isinstance(self.node, ast.AsyncFunctionDef) and not any(
            isinstance(node, (ast.Yield, ast.YieldFrom)) for node in _own(self.node)
        )

    @property
    def parameters(self) -> list[Parameter]:
        """What it takes, without `self`, `*args` and `**kwargs`."""
        given = self.node.args
        positional = [*given.posonlyargs, *given.args]
        without: list[ast.expr | None] = [None] * (len(positional) - len(given.defaults))
        found = [
            Parameter(one.arg, one.annotation, default, one not in given.posonlyargs)
            for one, default in zip(positional, [*without, *given.defaults], strict=True)
        ][0 if self._has("staticmethod") else 1 :]
        return found + [
            Parameter(one.arg, one.annotation, default, by_name=True, by_position=False)
            for one, default in zip(given.kwonlyargs, given.kw_defaults, strict=True)
        ]

    @property
    def takes_any_name(self) -> bool:
        """Whether it has `**kwargs`."""
        return self.node.args.kwarg is not None

    @property
    def makes_instance(self) -> bool:
        """Whether it is called on the class, as `Model.load(path)` is."""
        return self._has("classmethod")

    def calls(self) -> Iterator[str]:
        """Methods of its own object that it calls."""
        for node in _own(self.node):
            called = node.func if isinstance(node, ast.Call) else None
            if isinstance(called, ast.Attribute) and ast.unparse(called.value) in {"self", "cls"}:
                yield called.attr

    def _has(self, decorator: str) -> bool:
        return any(
            isinstance(one, ast.Name) and one.id == decorator for one in self.node.decorator_list
        )


def _own(function: ast.AST) -> Iterator[ast.AST]:
    """What a function consists of, without the functions in it."""
    for node in ast.iter_child_nodes(function):
        if not isinstance(node, (*_FUNCTIONS, ast.Lambda)):
            yield node
            yield from _own(node)


@dataclass(frozen=True, slots=True)
class Wrapped:
    """A class that a pipeline is written around."""

    module: Module
    name: str
    doc: str
    """The first line of its docstring, or ""."""
    constructor: Method | None
    stages: dict[str, Method]
    """By the pipeline's method; `infer` is always there."""
    needs: Needs
    left_out: tuple[str, ...] = field(default=())
    """Sentences on what else was found and not taken over."""


def wrapped(target: str, folder: Path) -> Wrapped:
    """The class that `module:Class` names, imported from the folder.

    Raises:
        Stalled: `TargetInvalid`, `ModuleMissing`, `ModuleUnreadable`, `ClassMissing`,
            `NothingToCall`.
    """
    if not re.fullmatch(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*", target):
        raise Stalled(
            "TargetInvalid",
            f"{target!r} is not module:Class, such as models.churn:ChurnModel",
        )
    module_name, _, name = target.partition(":")
    root = Root(folder)
    module, node = _class(root, root.module(module_name), name)
    methods: dict[str, Method] = {}
    strangers = sorted(set(_collect(root, module, node, methods, set())))
    constructor = methods.get("__init__")
    stages, left_out = _stages(methods, constructor)
    if "infer" not in stages:
        wanted = ", ".join(f"`{one}`" for one in ROLES["infer"])
        hint = f"; its base {', '.join(strangers)} is not in {folder}" if strangers else ""
        raise Stalled(
            "NothingToCall",
            f"{target} has none of {wanted}{hint}: name the method that answers a request so, or "
            "write the pipeline's `infer` by hand, after `wheelway new` without --wrap",
        )
    doc = (ast.get_docstring(node) or "").partition("\n")[0]
    needed = needs(root, module_name)
    return Wrapped(root.module(module_name), name, doc, constructor, stages, needed, left_out)


def _class(root: Root, module: Module, name: str) -> tuple[Module, ast.ClassDef]:
    """Where a name of a module is defined as a class, through imports of the same root.

    Raises:
        Stalled: `ClassMissing`; `ModuleUnreadable`.
    """
    seen = {(module.name, name)}
    while True:
        for node in module.statements():
            if isinstance(node, ast.ClassDef) and node.name == name:
                return module, node
        binding = module.names().get(name)
        other = binding and (binding.module, binding.attribute)
        if not other or other in seen or root.find(other[0]) is None:
            what = "is no class that can be seen there" if binding else "is not there"
            raise Stalled(
                "ClassMissing",
                f"{name!r} {what}, in {module.path}: name the class itself, as module:Class",
            )
        seen.add(other)
        module, name = root.module(other[0]), other[1]


def _collect(
    root: Root, module: Module, node: ast.ClassDef, found: dict[str, Method], seen: set[ast.AST]
) -> Iterator[str]:
    """Add the methods of a class and of its bases; yields the bases that are not in the root."""
    seen.add(node)
    for statement in node.body:
        if isinstance(statement, _FUNCTIONS):
            found.setdefault(statement.name, Method(statement.name, statement, module))
    if any("dataclass" in ast.unparse(one) for one in node.decorator_list):
        found.setdefault("__init__", Method("__init__", _constructor(node), module))
    for base in node.bases:
        text = ast.unparse(base.value if isinstance(base, ast.Subscript) else base)
        if text.rpartition(".")[2] in _BARE_BASES:
            continue
        place = _place(root, module, text)
        if place is None:
            yield text
        elif place[1] not in seen:
            yield from _collect(root, *place, found, seen)


def _constructor(node: ast.ClassDef) -> ast.FunctionDef:
    """What `dataclass` makes of a class: its fields, those with a default optional."""
    fields = [
        f"{one.target.id}: {ast.unparse(one.annotation)}{' = ...' if one.value else ''}"
        for one in node.body
        if isinstance(one, ast.AnnAssign) and isinstance(one.target, ast.Name)
    ]
    [function] = ast.parse(f"def __init__({', '.join(['self', *fields])}): ...").body
    return cast("ast.FunctionDef", function)


def _place(root: Root, module: Module, text: str) -> tuple[Module, ast.ClassDef] | None:
    head, _, rest = text.rpartition(".")
    if head:
        binding = module.names().get(head)
        path = binding.path if binding else head
        module_name = path if root.find(path) else ""
    else:
        module_name, rest = module.name, text
    if not module_name:
        return None
    try:
        return _class(root, root.module(module_name), rest)
    except Stalled:  # of a base that cannot be seen: others' code
        return None


def _stages(
    methods: dict[str, Method], constructor: Method | None
) -> tuple[dict[str, Method], tuple[str, ...]]:
    found = {
        stage: methods[name]
        for stage, names in ROLES.items()
        for name in [next((one for one in names if one in methods), None)]
        if name is not None
    }
    answering = _reached(methods, found["infer"]) if "infer" in found else set()
    started = _reached(methods, constructor) if constructor else set()
    left_out = []
    for stage in ("load", "pre_process", "post_process", "unload"):
        method = found.get(stage)
        if method is not None and method.name in (started if stage == "load" else answering):
            del found[stage]  # it is called already
        elif method is not None and (why := _hindrance(stage, method, found.get("infer"))):
            del found[stage]
            left_out.append(f"`{method.name}` is not called: {why}")
    return found, tuple(left_out)


def _hindrance(stage: str, method: Method, infer: Method | None) -> str:
    """Why a method cannot be the stage that its name says; "" where it can."""
    most = {"pre_process": 1, "post_process": 1, "unload": 0}.get(stage)
    if most is not None and _required(method) > most:
        return f"as {stage} it would need more arguments than there are"
    if stage == "pre_process" and infer is not None and _required(infer) > 1:
        return f"it returns one value, and `{infer.name}` takes more"
    return ""


def _required(method: Method) -> int:
    return sum(parameter.required for parameter in method.parameters)


def _reached(methods: dict[str, Method], start: Method) -> set[str]:
    """Names of the object's methods that one calls, directly or through others."""
    found: set[str] = set()
    waiting: list[str] = [*start.calls()]
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            called: Iterable[str] = methods[name].calls() if name in methods else ()
            waiting += called
    return found
