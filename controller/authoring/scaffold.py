"""A new pipeline project, as `wheelway new` makes it: it builds with `uv build` and passes `check`.

The files' text is in `controller/authoring/scaffolding`, one Jinja template a file; `FILES` says
which file it becomes. Around a class that exists already (`wrapping`, `wrapper`) some of them are
others, and the class's code comes along.
"""

from __future__ import annotations

import keyword
import shutil
import sys
from dataclasses import asdict, dataclass, field, replace
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Final

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from packaging.utils import InvalidName, canonicalize_name

from controller.authoring import wrapper
from controller.authoring.wrapping import wrapped
from controller.errors import Stalled

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from controller.model import JSON

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

_OF_WRAPPED: Final = frozenset({"pipeline.py.j2", "test_pipeline.py.j2", "wheelway.toml.j2"})
"""Templates that `scaffolding/wrapped` has its own of."""

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


@dataclass(frozen=True, slots=True)
class Wrap:
    """An existing class that a project is made around."""

    target: str
    """`module:Class`."""
    root: Path
    """The folder that the module is imported from."""
    examples: Sequence[JSON] = ()
    """Requests as a client would send them."""


@dataclass(frozen=True, slots=True)
class Made:
    """What `create` wrote."""

    folder: Path
    files: list[Path]
    stages: Mapping[str, str] = field(default_factory=dict)
    """Of a wrapped class: the pipeline's methods to those that they call."""
    open_points: Sequence[str] = ()
    """What looking at the class could not tell: a sentence each."""


def create(name: str, parent: Path, wrap: Wrap | None = None) -> Made:
    """Write a new project into the folder `parent/<normalised name>`.

    Raises:
        Stalled: `NameInvalid` (see `names`); `FolderNotEmpty`, when there is something at the
            folder's place already; `FolderUnwritable`; and all that `wrapping.wrapped`
            raises. Nothing that exists is ever overwritten.
    """
    project = _around(name, wrap) if wrap else _Project(names(name))
    folder = parent / project.names.pipeline
    texts = {**project.copies, **_render(project)}
    files: list[Path] = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not any(folder.iterdir()):
            files = [_write(folder / path, text) for path, text in texts.items()]
    except FileExistsError:  # something else than a folder
        pass
    except OSError as error:
        raise Stalled("FolderUnwritable", f"{folder} cannot be written: {error}") from error
    if not files:
        raise Stalled(
            "FolderNotEmpty",
            f"{folder} exists already and is not an empty folder; nothing was written. "
            f"Choose another name, or move it away",
        )
    return Made(folder, files, project.stages, project.open_points)


@dataclass(frozen=True, slots=True)
class _Project:
    """One that is to be written."""

    names: Names
    values: Mapping[str, object] = field(default_factory=dict)
    """What the templates get besides the names."""
    copies: Mapping[str, bytes | Path] = field(default_factory=dict)
    stages: Mapping[str, str] = field(default_factory=dict)
    open_points: Sequence[str] = ()


def _around(name: str, wrap: Wrap) -> _Project:
    found = wrapped(wrap.target, wrap.root)
    tops = {module.partition(".")[0] for module in found.needs.modules}
    for top in sorted(tops):
        if hindrance := _hindrance(top):
            raise Stalled(
                "NameInvalid",
                f"the module {top!r} cannot be packed beside a pipeline: it is called like "
                f"{hindrance.removeprefix('a package that ')}; rename it first",
            )
    named = names(name)
    if named.package in tops:
        named = replace(named, package=f"{named.package}_pipeline")
    if named.cls == found.name:
        named = replace(named, cls=f"{named.cls}Pipeline")
    here = Path.cwd()
    above = [wrap.root, *wrap.root.parents]
    folders = above[: above.index(here) + 1] if here in above else above[:1]
    values, open_points = wrapper.values(found, named.cls, wrap.examples, folders)
    stages = {stage: method.name for stage, method in found.stages.items()}
    return _Project(named, values, wrapper.copies(found), stages, open_points)


def _render(project: _Project) -> dict[str, bytes]:
    # Python, TOML and Markdown, not HTML: autoescape would spoil them, and every value is a name
    # that `names` has let through, or comes of the author's own code.
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        undefined=StrictUndefined,
        keep_trailing_newline=True,
        trim_blocks=True,
        autoescape=False,  # noqa: S701 - see above
    )
    values = {
        **asdict(project.names),
        "wheelway": version("wheelway"),
        "copied": (),
        "requirements": (),
        **project.values,
    }
    wrapping = bool(project.stages)
    return {
        path.format(package=project.names.package): environment.get_template(
            f"wrapped/{template}" if wrapping and template in _OF_WRAPPED else template
        )
        .render(values)
        .encode()
        for path, template in FILES.items()
    }


def _write(path: Path, content: bytes | Path) -> Path:
    """A file with these bytes, or those of another file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("xb") as file:  # x: never over a file that exists
        if isinstance(content, bytes):
            file.write(content)
        else:
            with content.open("rb") as source:
                shutil.copyfileobj(source, file)
    return path
