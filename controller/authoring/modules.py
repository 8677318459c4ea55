"""An author's modules, read and never run: what one needs of code, files and packages around it.

Importing them would run their code in this process, and would need what they require. So their
text is parsed instead, and what only running could tell (an import by name, a path put together
from variables) is not seen.
"""

from __future__ import annotations

import ast
import functools
import sys
import sysconfig
from dataclasses import dataclass, field
from importlib.machinery import PathFinder
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import TYPE_CHECKING, Final

from controller.errors import Stalled

if TYPE_CHECKING:
    from collections.abc import Iterator

_JOINING: Final = frozenset({"join", "joinpath", "with_name"})
_LONGEST: Final = 255
"""Characters that Linux allows a file's name."""


@dataclass(frozen=True, slots=True)
class Binding:
    """What a name of a module stands for: a module, or something that a module has."""

    module: str
    attribute: str = ""
    """"" for the module itself."""

    @property
    def path(self) -> str:
        """`numpy.ndarray`."""
        return f"{self.module}.{self.attribute}" if self.attribute else self.module

    def imported_as(self, name: str) -> str:
        """The statement that binds it to `name`."""
        if self.attribute:
            alias = "" if self.attribute == name else f" as {name}"
            return f"from {self.module} import {self.attribute}{alias}"
        if name == self.module.partition(".")[0]:  # `import a.b` binds a
            return f"import {self.module}"
        return f"import {self.module} as {name}"


@dataclass(frozen=True, slots=True)
class Module:
    """One module's text."""

    name: str
    path: Path
    text: bytes
    tree: ast.Module

    @property
    def is_package(self) -> bool:
        """Whether other modules lie below it."""
        return self.path.name == "__init__.py"

    def absolute(self, statement: ast.ImportFrom) -> str:
        """The module that a `from ... import` names, relative or not; "" beyond the top."""
        if not statement.level:
            return statement.module or ""
        above = statement.level - self.is_package
        parts = self.name.split(".")
        if above >= len(parts):
            return ""
        package = ".".join(parts[: len(parts) - above])
        return f"{package}.{statement.module}" if statement.module else package

    def imports(self) -> Iterator[str]:
        """Every name that it imports anywhere; of `from a import b` both a and a.b."""
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Import):
                yield from (alias.name for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and (module := self.absolute(node)):
                yield module
                yield from (f"{module}.{alias.name}" for alias in node.names)

    def statements(self) -> Iterator[ast.stmt]:
        """Those at the top, and in an `if` or `try` there, such as `if TYPE_CHECKING`."""
        return _statements(self.tree.body)

    def value_of(self, node: ast.expr | None) -> ast.expr | None:
        """An expression; for a name that is set at the top, what it is set to."""
        if not isinstance(node, ast.Name):
            return node
        for one in self.statements():
            if isinstance(one, (ast.Assign, ast.AnnAssign)) and node.id in _bound(one):
                return one.value
        return None

    def names(self) -> dict[str, Binding]:
        """What each name of the module stands for; those of a `*` are not known."""
        found: dict[str, Binding] = {}
        for node in self.statements():
            if isinstance(node, ast.Import):
                for alias in node.names:
                    local = alias.asname or alias.name.partition(".")[0]
                    found[local] = Binding(alias.name)
            elif isinstance(node, ast.ImportFrom) and (module := self.absolute(node)):
                for alias in node.names:
                    found[alias.asname or alias.name] = Binding(module, alias.name)
            else:
                found |= {name: Binding(self.name, name) for name in _bound(node)}
        return found

    def lines_of(self, *paths: str) -> set[int]:
        """Where it uses one of these, such as `os.environ`, by whatever name it has imported it."""
        names = self.names()

        def path_of(node: ast.expr) -> str:
            if isinstance(node, ast.Attribute):
                return f"{path_of(node.value)}.{node.attr}"
            binding = names.get(node.id) if isinstance(node, ast.Name) else None
            return binding.path if binding else ""

        return {
            node.lineno
            for node in ast.walk(self.tree)
            if isinstance(node, (ast.Name, ast.Attribute)) and path_of(node) in paths
        }


def _statements(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    for node in body:
        yield node
        if isinstance(node, (ast.If, ast.Try)):
            yield from _statements([*node.body, *node.orelse])
        if isinstance(node, ast.Try):
            yield from _statements([inner for one in node.handlers for inner in one.body])


def _bound(node: ast.stmt) -> Iterator[str]:
    if isinstance(node, (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
        yield node.name
    elif isinstance(node, ast.Assign):
        yield from (target.id for target in node.targets if isinstance(target, ast.Name))
    elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
        yield node.target.id


class Root:
    """A folder that modules are imported from, as the application does that has them today."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._bases = (folder, folder / "src")
        self._beside: Path | None = None
        self._modules: dict[str, Module] = {}

    def find(self, name: str) -> Path | None:
        """A module's file, in the folder or its `src`; a folder without `__init__.py` has none."""
        for base in self._bases_of(name):
            place = base.joinpath(*name.split("."))
            for file in (place / "__init__.py", place.with_name(f"{place.name}.py")):
                if file.is_file():
                    return file
        return None

    def beside(self, module: Module) -> None:
        """Also import from the folder of that module, as where the application is started there;
        what is installed comes before.
        """
        self._beside = module.path.parent

    def has_modules(self, name: str) -> bool:
        """Whether a folder of that name, which need have no `__init__.py`, has modules in it."""
        return any(any((base / name).rglob("*.py")) for base in self._bases_of(name))

    def _bases_of(self, name: str) -> tuple[Path, ...]:
        if self._beside is None or name.partition(".")[0] in installed():
            return self._bases
        return (*self._bases, self._beside)

    def module(self, name: str) -> Module:
        """A module's text.

        Raises:
            Stalled: `ModuleMissing`, `ModuleUnreadable`.
        """
        if name not in self._modules:
            path = self.find(name)
            if path is None:
                raise Stalled(
                    "ModuleMissing",
                    f"there is no module {name!r} in {self.folder} or its src; `--root DIR` says "
                    "which folder it is imported from",
                )
            try:
                text = path.read_bytes()
                self._modules[name] = Module(name, path, text, ast.parse(text, str(path)))
            except (OSError, SyntaxError, ValueError) as error:
                raise Stalled("ModuleUnreadable", f"{path} cannot be read: {error}") from error
        return self._modules[name]


@dataclass(slots=True)
class Needs:
    """What a module needs, itself included."""

    modules: dict[str, Module] = field(default_factory=dict)
    """Those of its root, by name."""
    packages: set[str] = field(default_factory=set)
    """Import names of others' packages, the standard library's left out."""
    elsewhere: dict[str, Path] = field(default_factory=dict)
    """Import names that are neither of its root nor of an installed package, and where they are."""
    files: dict[Path, str] = field(default_factory=dict)
    """Other files that the modules name, found beside them, and by which module."""
    misplaced: set[str] = field(default_factory=set)
    """Files that they seem to read by a path from the current folder: served, that is another."""


def needs(root: Root, name: str) -> Needs:
    """What the module needs of its root, and which packages besides.

    Raises:
        Stalled: `ModuleMissing`, `ModuleUnreadable`.
    """
    found = Needs()
    waiting = [*_with_packages(root, name)]
    root.beside(root.module(name))
    while waiting:
        one = waiting.pop()
        if one in found.modules:
            continue
        module = found.modules[one] = root.module(one)
        for imported in module.imports():
            own = list(_with_packages(root, imported))
            top = imported.partition(".")[0]
            waiting += own
            if own or root.has_modules(top) or top in sys.stdlib_module_names:
                continue
            if top not in installed() and (place := _on_path(top)):
                found.elsewhere[top] = place
            else:
                found.packages.add(top)
        found.files |= {file: one for file in _named_files(module) if file not in found.files}
        found.misplaced |= {text for text in _opened(module) if _is_file(root.folder, text)}
    return found


@functools.cache
def installed() -> frozenset[str]:
    """Import names of the standard library and of installed packages."""
    return frozenset({*packages_distributions(), *sys.stdlib_module_names, "wheelway"})


def _on_path(top: str) -> Path | None:
    """Where it would be imported from if that is no place for installed packages."""
    paths = sysconfig.get_paths()
    taken = tuple(paths[name] for name in ("stdlib", "platstdlib", "purelib", "platlib"))
    places = [one for one in sys.path if one and not one.startswith(taken)]
    spec = PathFinder.find_spec(top, places)
    return Path(spec.origin) if spec is not None and spec.origin else None


def _with_packages(root: Root, name: str) -> Iterator[str]:
    """A module of the root and the packages around it, whose `__init__.py` run first."""
    parts = name.split(".")
    for end in range(1, len(parts) + 1):
        if root.find(outer := ".".join(parts[:end])):
            yield outer


def _texts(tree: ast.AST) -> Iterator[str]:
    """Texts in the code that may be the name of a file."""
    for node in ast.walk(tree):
        text = node.value if isinstance(node, ast.Constant) else None
        if isinstance(text, str) and 0 < len(text) <= _LONGEST and text.isprintable():
            yield text


def _opened(module: Module) -> Iterator[str]:
    """Texts that are paths from the current folder, by their looks: what is handed to a function
    that does not join paths, such as `open`, and whatever has a slash.
    """
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Call) and node.args:
            called = ast.unparse(node.func).rpartition(".")[2]
            given = module.value_of(node.args[0])
            if called not in _JOINING and isinstance(given, ast.Constant):
                yield from _texts(given)
        elif isinstance(node, ast.Assign):
            yield from (text for text in _texts(node.value) if "/" in text)


def _is_file(folder: Path, text: str) -> bool:
    code = text.endswith((".py", ".pyc"))
    return not code and ".." not in text.split("/") and (folder / text.lstrip("/")).is_file()


def _named_files(module: Module) -> Iterator[Path]:
    """Files beside it that it names, if only by the end of a path, as in `folder + "/model.json"`;
    and all in a folder that it names so: `FOLDER / "weights"`.
    """
    folder = module.path.parent
    for text in _texts(module.tree):
        if _is_file(folder, text):
            yield folder / text.lstrip("/")
    for node in ast.walk(module.tree):
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Div):
            for text in _texts(node.right):
                if "." not in text and not text.startswith("/"):
                    yield from data_below(folder / text)


def data_below(folder: Path) -> list[Path]:
    """The files of a folder and of those in it that are neither code nor hidden."""
    return [file for file in sorted(folder.rglob("*")) if _is_data(file.relative_to(folder), file)]


def _is_data(inner: Path, file: Path) -> bool:
    hidden = any(part.startswith((".", "__pycache__")) for part in inner.parts)
    return not hidden and file.suffix not in {".py", ".pyc"} and file.is_file()
