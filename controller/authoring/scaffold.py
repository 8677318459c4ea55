"""A new pipeline project, as `wheelway new` makes it: it builds with `uv build` and passes `check`.

The files' text is in `controller/authoring/scaffolding`, one Jinja template a file; `FILES` says
which file it becomes.
"""

from __future__ import annotations

import keyword
import sys
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Final

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from packaging.utils import InvalidName, canonicalize_name

from controller.errors import Stalled

TEMPLATES: Final = Path(__file__).with_name("scaffolding")

FILES: Final = {
    "pyproject.toml": "pyproject.toml.j2",
    "README.md": "README.md.j2",
    ".gitignore": "gitignore.j2",
    "src/{package}/__init__.py": "init.py.j2",
    "src/{package}/pipeline.py": "pipeline.py.j2",
    "src/{package}/wheelway.toml": "wheelway.toml.j2",
    "tests/test_pipeline.py": "test_pipeline.py.j2",
}
"""Path in the project: template."""

_TAKEN_PACKAGES: Final = frozenset(
    {"wheelway", "controller", "ray", "pydantic", "pytest", "tests", "test"}
)
"""Import names that a pipeline's package would hide, in a replica or in its own tests."""

_TAKEN_CLASSES: Final = frozenset(
    {"Any", "BaseModel", "Context", "Field", "Mapping", "Pipeline", "Request", "Result"}
)
"""Names that the templates import or define beside the pipeline's class."""


@dataclass(frozen=True, slots=True)
class Names:
    """What one name becomes in each place that needs one."""

    pipeline: str
    """Normalised (PEP 503): distribution, entry point, route and folder."""
    package: str
    """The import package."""
    cls: str
    """The pipeline's class."""


def names(name: str) -> Names:
    """The names of a project that its author calls `name`.

    Raises:
        Stalled: `NameInvalid`, when it is no distribution name (PEP 508) or its package could not
            be imported.
    """
    try:
        pipeline = str(canonicalize_name(name, validate=True))
    except InvalidName as error:
        raise Stalled(
            "NameInvalid",
            f"{name!r} cannot name a pipeline: use ASCII letters, digits, '-', '_' and '.', "
            f"with a letter first and a letter or digit last, such as 'churn-score'",
        ) from error
    package = pipeline.replace("-", "_")
    if hindrance := _hindrance(package):
        raise Stalled(
            "NameInvalid",
            f"{name!r} cannot name a pipeline: its package would be called {package!r}, "
            f"{hindrance}; choose another name, such as 'acme-{pipeline}'",
        )
    cls = "".join(part.capitalize() for part in package.split("_"))
    return Names(pipeline, package, f"{cls}Model" if cls in _TAKEN_CLASSES else cls)


def _hindrance(package: str) -> str:
    """Why Python could not import a package of this name as meant; empty when it can."""
    if not package.isidentifier():
        return "which does not start with a letter"
    if keyword.iskeyword(package):
        return "a keyword of Python"
    if package in sys.stdlib_module_names:
        return "a module of Python's standard library"
    if package in _TAKEN_PACKAGES:
        return "a package that a pipeline or its tests import themselves"
    return ""


def create(name: str, parent: Path) -> list[Path]:
    """Write a new project into the folder `parent/<normalised name>`.

    Returns:
        The written files, the folder being the common start of all of them.

    Raises:
        Stalled: `NameInvalid` (see `names`); `FolderNotEmpty`, when there is something at the
            folder's place already; `FolderUnwritable`. Nothing that exists is ever overwritten.
    """
    named = names(name)
    folder = parent / named.pipeline
    texts = _render(named)
    written: list[Path] = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not any(folder.iterdir()):
            written = [_write(folder / path, text) for path, text in texts.items()]
    except FileExistsError:  # something else than a folder
        pass
    except OSError as error:
        raise Stalled("FolderUnwritable", f"{folder} cannot be written: {error}") from error
    if not written:
        raise Stalled(
            "FolderNotEmpty",
            f"{folder} exists already and is not an empty folder; nothing was written. "
            f"Choose another name, or move it away",
        )
    return written


def _render(named: Names) -> dict[str, str]:
    # Python, TOML and Markdown, not HTML: autoescape would spoil them, and every value is a name
    # that `names` has let through.
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        undefined=StrictUndefined,
        keep_trailing_newline=True,
        autoescape=False,  # noqa: S701 - see above
    )
    values = {
        "pipeline": named.pipeline,
        "package": named.package,
        "cls": named.cls,
        "wheelway": version("wheelway"),
    }
    return {
        path.format(package=named.package): environment.get_template(template).render(values)
        for path, template in FILES.items()
    }


def _write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("x", encoding="utf-8") as file:  # x: never over a file that exists
        file.write(text)
    return path
