"""The paths that a wrapped class is given when a replica loads it: of files that come along."""

from __future__ import annotations

import ast
from pathlib import PurePath
from typing import TYPE_CHECKING, Final

from controller.authoring.modules import data_below

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from controller.authoring.modules import Module, Needs
    from controller.authoring.wrapping import Method, Parameter

_FOLDERS: Final = ("dir", "folder", "directory")
_ENDINGS: Final = ("path", "file", *_FOLDERS)
_NOT_DATA: Final = frozenset({".cfg", ".ini", ".lock", ".md", ".toml", ".txt"})


def folder_of(module: Module) -> str:
    """The folder that a module's files lie in, below `src`."""
    inner = not module.is_package and "." in module.name
    return (module.name.rpartition(".")[0] if inner else module.name).replace(".", "/")


def is_path(method: Method, parameter: Parameter) -> bool:
    """Whether it takes a path, by its type, its name, or a default that names a file."""
    kind = _kind(parameter)
    named = parameter.name.lower().endswith(_ENDINGS) and kind in {"", "str"}
    if named or kind.rpartition(".")[2].startswith(("Path", "os.PathLike")):
        return True
    default = PurePath(default_of(method, parameter))
    return bool(default.suffix) and bool(_ending(data_below(method.module.path.parent), default))


def default_of(method: Method, parameter: Parameter) -> str:
    """The text that it has as its default, such as `models/churn.json`; "" without one."""
    default = method.module.value_of(parameter.default)
    text = default.value if isinstance(default, ast.Constant) else None
    return text if isinstance(text, str) else ""


def path_of(method: Method, parameter: Parameter, needs: Needs) -> tuple[str, str]:
    """The expression of the path that it is given, and a sentence on what lacks ("" for nothing).

    That of what its default names; else of the one file beside the module, where the code names
    none; else of the module's folder. What lies there is `needs.files` from now on.
    """
    place, lacks = _default_place(method.module, PurePath(default_of(method, parameter)), needs), ""
    if not place:
        place, lacks = _place_beside(method, parameter, needs)
    found = f'context.files.parent / "{place}"'
    divided = any(
        isinstance(node, ast.BinOp)
        and isinstance(node.op, ast.Div)
        and ast.unparse(node.left) == parameter.name
        for node in ast.walk(method.node)
    )
    kind = _kind(parameter)
    return found if "Path" in kind or (not kind and divided) else f"str({found})", lacks


def _default_place(module: Module, default: PurePath, needs: Needs) -> str:
    """Where the file or folder comes to lie that a default names, below `src`; "" if there is none.

    The default is a path from where the application was started, which may be a folder above.
    """
    parts, folder = default.parts, module.path.parent
    if not parts or ".." in parts:
        return ""
    below = data_below(folder)
    if named := _ending(below, default):
        file = min(named, key=lambda one: len(one.parts))
        owner = needs.modules[needs.files.setdefault(file, module.name)]
        return f"{folder_of(owner)}/{file.relative_to(owner.path.parent).as_posix()}"
    inside = [file for file in below if file.relative_to(folder).parts[: len(parts)] == parts]
    for file in inside:
        needs.files.setdefault(file, module.name)
    return f"{folder_of(module)}/{default.as_posix()}" if inside else ""


def _ending(files: Iterable[Path], default: PurePath) -> list[Path]:
    parts = default.parts
    return [file for file in files if file.parts[-len(parts) :] == parts]


def _place_beside(method: Method, parameter: Parameter, needs: Needs) -> tuple[str, str]:
    module, files = method.module, needs.files
    place, default = folder_of(module), PurePath(default_of(method, parameter))
    named = default.name if default.suffix else ""
    others = any(name == module.name for name in files.values())
    beside = [
        file
        for file in data_below(module.path.parent)
        if file.parent == module.path.parent and file.suffix not in _NOT_DATA and not others
    ]
    files.update(dict.fromkeys(beside, module.name))
    if len(beside) == 1 and not parameter.name.lower().endswith(_FOLDERS):
        return f"{place}/{beside[0].name}", ""
    if beside or (others and not named):
        return place, ""
    lies = f"{named} does not lie" if others else "no file lies"
    lacks = (
        f"`{method.name}` needs a path, and {lies} beside {module.name}: copy "
        f"{named or 'what it reads'} into src/{place}"
    )
    return f"{place}/{named}" if named else place, lacks


def _kind(parameter: Parameter) -> str:
    return ast.unparse(parameter.annotation) if parameter.annotation else ""
