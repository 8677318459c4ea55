"""The text of a pipeline around a wrapped class: what the templates are filled with.

The class's code is copied into the project, byte for byte and under its own import names, so that
the wheel holds all that it needs. What looking cannot tell is named.
"""

from __future__ import annotations

import ast
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final

from controller.authoring.paths import default_of, folder_of, is_path, path_of
from controller.authoring.python_text import import_block, tuple_of
from controller.authoring.requirements import guessed, required
from controller.authoring.signatures import (
    ANY,
    PLAIN,
    SCALARS,
    Type,
    name_of,
    request_type,
    result_type,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from controller.authoring.wrapping import Method, Parameter, Wrapped
    from controller.model import JSON

_CONFIGS: Final = frozenset({"cfg", "conf", "config", "configuration", "options", "params"})
_EMPTY: Final = {"bool": "false", "float": "0.0", "int": "0", "dict": "{}", "list": "[]"}
_JSON_ALONE: Final = frozenset({"pydantic", "typing_extensions"})
"""Packages with which a model returns no arrays."""


_GUESSED: Final = (
    "`{name}` is neither beside the code nor installed here, and nothing states it: it stands "
    "among the requirements under that name. Correct that, or if it is a module of yours strike it "
    "there and copy it into src"
)
_USES: Final = {
    "fastapi.HTTPException starlette.exceptions.HTTPException fastapi.exceptions.HTTPException": (
        "HTTPException is named in {places}: here it is a failure of the pipeline, 500; where the "
        "caller is at fault raise `wheelway.Refused(status, reason, message)` instead"
    ),
    "os.environ os.getenv": (
        "the environment is read in {places}: replicas do not have the application's; take it from "
        "`context.settings` in `load` and give it a value in wheelway.toml, [settings]"
    ),
}
"""Names that code may use, and what is to be said of it."""


@dataclass(slots=True)
class Text:
    """What is known of the project that is to be written."""

    cls: str
    wrapped: Wrapped
    imports: set[str] = field(default_factory=set)
    load: list[str] = field(default_factory=list)
    """Statements."""
    stages: list[dict[str, str]] = field(default_factory=list)
    fields: list[str] = field(default_factory=list)
    """Of the request's model, where the method takes several values."""
    settings: dict[str, str] = field(default_factory=dict)
    """Names to TOML values that somebody has to fill in."""
    open_points: list[str] = field(default_factory=list)
    """Sentences on what looking could not tell."""

    def use(self, found: Type) -> Type:
        """A type whose imports the module has from now on."""
        self.imports |= found.imports
        return found


def values(
    wrapped: Wrapped, cls: str, examples: Sequence[JSON], folders: Iterable[Path]
) -> tuple[dict[str, object], list[str]]:
    """What the templates need, by name, and sentences on what looking could not tell.

    Args:
        wrapped: the class.
        cls: what the pipeline's class is called.
        examples: requests as a client would send them.
        folders: where versions of requirements may be stated.
    """
    text = Text(cls, wrapped)
    _write_load(text)
    _write_stages(text)
    if text.fields:
        text.imports.add("from pydantic import BaseModel")
    packages, folders = wrapped.needs.packages - {"wheelway", "ray"}, list(folders)
    text.open_points += [*wrapped.left_out, *_open_points(text, examples)]
    text.open_points += [_GUESSED.format(name=name) for name in guessed(packages, folders)]
    plain = any("plain(" in stage["expression"] for stage in text.stages)
    if plain:
        text.imports |= {*ANY.imports, "from dataclasses import fields, is_dataclass"}
    found = {
        "target": f"{wrapped.module.name}:{wrapped.name}",
        "doc": _sentence(wrapped.doc) or f"`{wrapped.name}` behind wheelway's contract.",
        "imports": import_block(text.imports),
        "examples": tuple_of(examples),
        "load": text.load,
        "asynchronous": any("await " in line for line in text.load),
        "stages": text.stages,
        "fields": text.fields,
        "plain": plain,
        "unload": wrapped.stages.get("unload"),
        "settings": text.settings,
        "copied": sorted({name.partition(".")[0] for name in wrapped.needs.modules}),
        "requirements": required(packages, folders),
    }
    return found, text.open_points


def copies(wrapped: Wrapped) -> dict[str, bytes | Path]:
    """The class's code and the files that it names, by their paths in the project.

    Build backends want packages: a module at the top becomes one, of the same name and content.
    """
    found: dict[str, bytes | Path] = {}
    for module in wrapped.needs.modules.values():
        inner = not module.is_package and "." in module.name
        own = module.name.rpartition(".")[2] if inner else "__init__"
        found[f"src/{folder_of(module)}/{own}.py"] = module.text
    for path in list(found):
        *packages, _ = path.split("/")[1:]
        for end in range(1, len(packages) + 1):
            found.setdefault(f"src/{'/'.join(packages[:end])}/__init__.py", b"")
    for file, name in wrapped.needs.files.items():
        module = wrapped.needs.modules[name]
        there = file.relative_to(module.path.parent).as_posix()
        found[f"src/{folder_of(module)}/{there}"] = file
    return found


# -- load ----------------------------------------------------------------------------------------


def _write_load(text: Text) -> None:
    wrapped = text.wrapped
    cls = text.use(name_of(wrapped.name, wrapped.module, text.cls)).text
    load = wrapped.stages.get("load")
    if load is not None and load.makes_instance:
        text.load = [f"self.model = {_awaiting(load)}{cls}.{load.name}({_given(text, load)})"]
        return
    made = _given(text, wrapped.constructor) if wrapped.constructor else ""
    text.load = [f"self.model = {cls}({made})"]
    if load is not None:
        text.load.append(f"{_awaiting(load)}self.model.{load.name}({_given(text, load)})")


def _given(text: Text, method: Method) -> str:
    """The arguments with which it is called when a replica loads."""
    wanted = [
        one
        for one in method.parameters
        if one.required or (is_path(method, one) and default_of(method, one))
    ]
    if len(wanted) == 1 and wanted[0] == method.parameters[0] and wanted[0].by_position:
        return _argument(text, method, wanted[0])
    return ", ".join(
        f"{one.name}={_argument(text, method, one)}"
        if one.by_name
        else _argument(text, method, one)
        for one in wanted
    )


def _argument(text: Text, method: Method, parameter: Parameter) -> str:
    if is_path(method, parameter):
        found, lacks = path_of(method, parameter, text.wrapped.needs)
        text.open_points += [lacks] if lacks else []
        return found
    if parameter.name in _CONFIGS | {"settings"}:
        return "dict(context.settings)"
    if parameter.name in {"logger", "log"}:
        return "context.logger"
    kind = ast.unparse(parameter.annotation) if parameter.annotation else ""
    text.settings[parameter.name] = _EMPTY.get(kind.partition("[")[0], '""')
    text.open_points.append(
        f"`{method.name}` needs `{parameter.name}`: give it a value in wheelway.toml, [settings]"
    )
    return f'context.settings["{parameter.name}"]'


# -- stages --------------------------------------------------------------------------------------


def _write_stages(text: Text) -> None:
    stages = text.wrapped.stages
    present = [name for name in ("pre_process", "infer", "post_process") if name in stages]
    for name in present:
        method = stages[name]
        parameter, arguments = "request", "request"
        kind = ANY
        if name == present[0]:
            kind, arguments = _request(text, method)
        elif not method.parameters:
            arguments = ""
        elif name == "post_process":
            parameter = arguments = "result"
        called = "self.model" if method.name == "__call__" else f"self.model.{method.name}"
        expression = f"{called}({arguments})"
        returned = ANY
        if name == present[-1]:
            returned = _result(text, method)
        if method.awaited:
            converted = returned.conversion != "{}"
            expression = f"(await {expression})" if converted else f"await {expression}"
        text.use(kind)
        text.use(returned)
        text.stages.append(
            {
                "name": name,
                "def": "async def" if method.awaited else "def",
                "parameter": f"{parameter}: {kind.text}",
                "returns": returned.text,
                "expression": returned.conversion.format(expression),
            }
        )


def _request(text: Text, method: Method) -> tuple[Type, str]:
    """The type of a request, and what the method is called with."""
    parameters = method.parameters
    wanted = [one for one in parameters if one.required]
    if not parameters:
        rows = Type("dict[str, Any]", ANY.imports)
        return (rows, "**request") if method.takes_any_name else (ANY, "")
    if len(parameters) == 1 or (len(wanted) == 1 and not _is_scalar(wanted[0])):
        one = wanted[0] if wanted else parameters[0]
        found = _requested(text, method, one)
        kept = [f"`{other.name}`" for other in parameters if other is not one]
        if kept:
            text.open_points.append(f"`{method.name}` keeps its default of {', '.join(kept)}")
        argument = found.conversion.format("request")
        first = one.by_position and one is parameters[0]
        return found, argument if first else f"{one.name}={argument}"
    given = []
    for one in parameters:
        if not (one.required or _is_literal(one.default)):
            text.open_points.append(f"`{method.name}` keeps its default of `{one.name}`")
            continue
        found = text.use(_requested(text, method, one))
        default = "" if one.default is None else f" = {ast.unparse(one.default)}"
        text.fields.append(f"{one.name}: {found.text}{default}")
        value = found.conversion.format(f"request.{one.name}")
        given.append(f"{one.name}={value}" if one.by_name else value)
    return Type("Request"), ", ".join(given)


def _requested(text: Text, method: Method, parameter: Parameter) -> Type:
    found = request_type(parameter.annotation, method.module, text.cls)
    if found is None:
        text.open_points.append(
            f"the type of `{parameter.name}` in `{method.name}` cannot be told from the text: "
            "annotate the request by hand"
        )
    return found or ANY


def _result(text: Text, method: Method) -> Type:
    found = result_type(method.node.returns, method.module, text.cls)
    if found is None:
        text.open_points.append(
            f"the type that `{method.name}` returns cannot be told from the text: annotate the "
            "result by hand"
        )
    found = found or ANY
    if found.conversion == PLAIN.conversion and not text.wrapped.needs.packages - _JSON_ALONE:
        return replace(found, conversion=ANY.conversion)
    return found


def _is_scalar(parameter: Parameter) -> bool:
    return parameter.annotation is not None and ast.unparse(parameter.annotation) in SCALARS


def _is_literal(node: ast.expr | None) -> bool:
    try:
        ast.literal_eval(node or ast.Constant(None))
    except ValueError:
        return False
    return True


def _awaiting(method: Method) -> str:
    return "await " if method.awaited else ""


# -- the rest ------------------------------------------------------------------------------------


def _open_points(text: Text, examples: Sequence[JSON]) -> Iterable[str]:
    for file in sorted(text.wrapped.needs.misplaced):
        yield (
            f"{file} is read by a path from the folder where the application was started: copy it "
            "beside the code, and read it from `Path(__file__).parent`"
        )
    yield from _outside(text.wrapped)
    if not examples:
        yield (
            "there is no example: give `examples` a request that uses the whole model (or say "
            "`--example JSON`)"
        )


def _outside(wrapped: Wrapped) -> Iterable[str]:
    """What the code has of the application and the machine that it comes from."""
    for name, path in sorted(wrapped.needs.elsewhere.items()):
        yield (
            f"`{name}` is imported from {path}, which is no installed package: copy it into src, "
            "or publish a wheel of it and require that"
        )
    for use, advice in _USES.items():
        places = [
            f"{module.name}:{line}"
            for module in wrapped.needs.modules.values()
            for line in sorted(module.lines_of(*use.split()))
        ]
        if places:
            yield advice.format(places=", ".join(places))


def _sentence(doc: str) -> str:
    return doc.replace("\\", "").replace('"', "'").strip()
