"""What a wrapped method takes and returns, as text for the pipeline that calls it.

An annotation is taken over with the imports that its names need. What has no form in JSON (arrays,
frames, pictures) is made of what has, and made into it again: `REQUESTS`, `RESULTS`.
"""

from __future__ import annotations

import ast
import builtins
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

    from controller.authoring.modules import Module

_ANY_IMPORT = "from typing import Any"


@dataclass(frozen=True, slots=True)
class Type:
    """An annotation as text, and how a value is converted from or to it."""

    text: str
    imports: frozenset[str] = frozenset()
    conversion: str = "{}"
    """Of the expression that is put between the braces."""


ANY: Final = Type("Any", frozenset({_ANY_IMPORT}))
PLAIN: Final = Type("Any", frozenset({_ANY_IMPORT}), "plain({})")
"""Of a result that no annotation describes; `plain` is a function of the generated module."""

_NUMBERS = "list[float] | list[list[float]]"
_ROWS = "list[dict[str, Any]]"
_ARRAYS = ("numpy.ndarray", "numpy.typing.NDArray", "numpy.typing.ArrayLike")
_ARRAY = Type(_NUMBERS, frozenset({"import numpy as np"}), "np.asarray({})")
_LIST = Type("list[Any]", frozenset({_ANY_IMPORT}), "{}.tolist()")

REQUESTS: Final[Mapping[str, Type]] = {
    **dict.fromkeys(_ARRAYS, _ARRAY),
    "torch.Tensor": Type(_NUMBERS, frozenset({"import torch"}), "torch.as_tensor({})"),
    "pandas.DataFrame": Type(
        _ROWS, frozenset({_ANY_IMPORT, "import pandas as pd"}), "pd.DataFrame({})"
    ),
    "PIL.Image.Image": Type(
        "bytes",
        frozenset({"from io import BytesIO", "from PIL import Image"}),
        "Image.open(BytesIO({}))",
    ),
}
"""What a client sends where a method takes something that has no form in JSON."""

RESULTS: Final[Mapping[str, Type]] = {
    **dict.fromkeys((*_ARRAYS, "torch.Tensor", "pandas.Series"), _LIST),
    "pandas.DataFrame": Type(_ROWS, frozenset({_ANY_IMPORT}), '{}.to_dict(orient="records")'),
}
"""What a client gets where a method returns such a thing."""

SCALARS: Final = frozenset({"bool", "float", "int", "str"})

_TAKEN: Final = {
    "Any": "typing.Any",
    "BaseModel": "pydantic.BaseModel",
    "BytesIO": "io.BytesIO",
    "Context": "",
    "Image": "PIL.Image",
    "Pipeline": "",
    "Request": "",
    "fields": "dataclasses.fields",
    "is_dataclass": "dataclasses.is_dataclass",
    "np": "numpy",
    "pd": "pandas",
    "plain": "",
    "torch": "torch",
}
"""Names of the generated module, and what each is there; "" for what only it has."""


def request_type(annotation: ast.expr | None, module: Module, pipeline: str) -> Type | None:
    """The type of a request whose method has this annotation; None where it cannot be told.

    Args:
        annotation: none is any JSON.
        module: whose names it is written in.
        pipeline: the generated class, whose name is taken.
    """
    return ANY if annotation is None else _converted(annotation, module, pipeline, REQUESTS)


def result_type(annotation: ast.expr | None, module: Module, pipeline: str) -> Type | None:
    """The same for what a method returns; without an annotation it may be an array."""
    if annotation is None:
        return PLAIN
    found = _converted(annotation, module, pipeline, RESULTS)
    if found is not None and found.conversion == ANY.conversion and _is_open(annotation):
        return replace(found, conversion=PLAIN.conversion)
    return found


def _is_open(annotation: ast.expr) -> bool:
    """Whether it says no more than none would."""
    return ast.unparse(annotation).strip("'\"") in {"Any", "object", "typing.Any"}


def name_of(attribute: str, module: Module, pipeline: str) -> Type:
    """One of the module's own names, as the generated module has it."""
    found = _Names(module, pipeline)
    return Type(ast.unparse(found.visit(ast.Name(attribute))), frozenset(found.imports))


def _converted(
    annotation: ast.expr, module: Module, pipeline: str, others: Mapping[str, Type]
) -> Type | None:
    if (other := others.get(_path(annotation, module))) is not None:
        return other
    found = _Names(module, pipeline)
    text = ast.unparse(found.visit(_copy(annotation)))
    return None if found.unknown else Type(text, frozenset(found.imports))


def _copy(annotation: ast.expr) -> ast.expr:
    return ast.parse(ast.unparse(annotation), mode="eval").body


def _path(annotation: ast.expr, module: Module) -> str:
    """`numpy.ndarray` of `np.ndarray`, `numpy.typing.NDArray` of `NDArray[np.float64]`."""
    if isinstance(annotation, ast.Constant) and isinstance(annotation.value, str):
        try:
            return _path(ast.parse(annotation.value, mode="eval").body, module)
        except SyntaxError:
            return ""
    if isinstance(annotation, ast.Subscript):
        annotation = annotation.value
    head, _, rest = ast.unparse(annotation).partition(".")
    binding = module.names().get(head)
    if binding is None:
        return ""
    return f"{binding.path}.{rest}" if rest else binding.path


class _Names(ast.NodeTransformer):
    """Finds what the names of an annotation are, and renames those that are taken."""

    def __init__(self, module: Module, pipeline: str) -> None:
        self.imports: set[str] = set()
        self.unknown: set[str] = set()
        self._names = module.names()
        self._taken = {**_TAKEN, pipeline: ""}

    def visit_Name(self, node: ast.Name) -> ast.expr:
        binding = self._names.get(node.id)
        if binding is None:
            if not hasattr(builtins, node.id):
                self.unknown.add(node.id)
            return node
        taken = self._taken.get(node.id, binding.path) != binding.path
        name = f"Model{node.id}" if taken else node.id
        self.imports.add(binding.imported_as(name))
        return ast.Name(name)

    def visit_Constant(self, node: ast.Constant) -> ast.expr:
        if not isinstance(node.value, str):
            return node
        try:
            return self._type(ast.parse(node.value, mode="eval").body)
        except SyntaxError:
            self.unknown.add(node.value)
            return node

    def visit_Subscript(self, node: ast.Subscript) -> ast.expr:
        """Texts are types in quotes, but not in a Literal, nor in what Annotated adds."""
        what = ast.unparse(node.value).rpartition(".")[2]
        inner = node.slice
        if what == "Annotated" and isinstance(inner, ast.Tuple):
            first, *others = inner.elts
            elements = [self._type(first), *(_Values(self).visit(one) for one in others)]
            inner = ast.Tuple(elements)
        elif what != "Literal":
            inner = self._type(inner)
        return ast.Subscript(self._type(node.value), inner)

    def _type(self, node: ast.expr) -> ast.expr:
        found: ast.expr = self.visit(node)
        return found


class _Values(ast.NodeTransformer):
    """Within values only names count."""

    def __init__(self, names: _Names) -> None:
        self._of = names

    def visit_Name(self, node: ast.Name) -> ast.expr:
        return self._of.visit_Name(node)
