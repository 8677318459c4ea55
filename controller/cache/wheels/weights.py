"""Wheels of weights: entry points in the group `wheelway.weights`, and nothing but data.

    [wheelway.weights]
    iris = iris_weights             # the package whose folder the pipeline gets

The folder may hold a `wheelway.toml` with `fits = ">=1,<2"`, the versions of the pipeline that can
take them. Nothing of such a wheel is ever imported or put on `sys.path`, so the `__init__.py` of
that package, and those above it and below (which build backends ask for), may say anything. Any
other Python is a mistake: somebody would expect it to be imported. Native code is let pass:
compiled models come as such.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from packaging.markers import UndefinedComparison, UndefinedEnvironmentName

from controller.cache.author_options import MistakeError, parse_toml
from controller.cache.option_layers import FILENAME
from controller.cache.wheels.entry_points import (
    GROUP,
    PARTS,
    WEIGHTS,
    EntryPointError,
    package_of,
    pipeline_named,
    twice,
)
from controller.config.loading import line_of
from controller.config.requirements import parse_requirement, parse_specifiers
from controller.errors import Rejected
from controller.model import WeightsEntry

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

    from packaging.markers import Marker

_PYTHON = (".py", ".pyc", ".pyi", ".pyw")
_INIT = "__init__.py"
_NOT_DATA = (_INIT, FILENAME, "py.typed")
_NOT_ONLY_DATA = "NotOnlyData"


def read(
    groups: Mapping[str, Sequence[tuple[str, str]]],
    wheel: str,
    paths: Collection[str],
    requires: Iterable[str],
    read_file: Callable[[str], bytes | None],
) -> tuple[WeightsEntry, ...]:
    """The weights of a wheel, sorted by pipeline.

    Args:
        groups: all its entry points.
        wheel: its file name.
        paths: of its files.
        requires: its `Requires-Dist`, each of which can be parsed.
        read_file: the bytes of one of the files.

    Raises:
        EntryPointError: an entry names no pipeline or package, or two name one pipeline.
        Rejected: `NotOnlyData`, `WeightsMissing`, `WishesInvalid`.
    """
    packages: dict[str, str] = {}
    for written, value in groups.get(WEIGHTS, ()):
        pipeline = pipeline_named(written, WEIGHTS)
        if pipeline in packages:
            raise EntryPointError(f"group `{WEIGHTS}`: {twice(pipeline)}")
        packages[pipeline] = package_of(written, value, WEIGHTS)
    if not packages:
        return ()
    _check_only_data(groups, wheel, paths, requires)
    folders = {name: package.replace(".", "/") for name, package in packages.items()}
    for pipeline, folder in folders.items():
        _check_folder(pipeline, folder, wheel, paths)
    _check_foreign(folders.values(), wheel, paths)
    try:
        _check_strays(folders, paths)
        fits = {folder: _fits(folder, read_file) for folder in folders.values()}
    except MistakeError as mistake:
        raise Rejected(
            "WishesInvalid", f"{wheel}: {mistake}; mend it and rebuild the wheel"
        ) from mistake
    return tuple(
        WeightsEntry(name, package, fits[folders[name]])
        for name, package in sorted(packages.items())
    )


def _check_only_data(
    groups: Mapping[str, Sequence[tuple[str, str]]],
    wheel: str,
    paths: Iterable[str],
    requires: Iterable[str],
) -> None:
    for group in (GROUP, PARTS):
        if groups.get(group):
            raise Rejected(
                _NOT_ONLY_DATA,
                f"{wheel} has entry points both in `{WEIGHTS}` and in `{group}`; weights come in a "
                "wheel of their own, with a version of their own: publish two wheels",
            )
    code = list(filter(_is_code, paths))
    if code:
        more = f" and {len(code) - 1} more" if len(code) > 1 else ""
        raise Rejected(
            _NOT_ONLY_DATA,
            f"{wheel} has weights and holds {code[0]!r}{more}; a wheel of weights holds only data, "
            "of which nothing is imported: move the code into the pipeline's wheel",
        )
    for requirement in requires:
        if _is_wanted(parse_requirement(requirement).marker):
            raise Rejected(
                _NOT_ONLY_DATA,
                f"{wheel} has weights and requires {requirement[:200]!r}; a wheel of weights is "
                "not installed: let the pipeline's wheel require what loads them",
            )


def _check_foreign(folders: Collection[str], wheel: str, paths: Iterable[str]) -> None:
    """Raise for packages that no pipeline is given, neither as they are nor as part of another."""
    packages = (path.removesuffix(f"/{_INIT}") for path in paths if path.endswith(f"/{_INIT}"))
    foreign = [
        package
        for package in packages
        if not any(f"{one}/".startswith(f"{package}/") for one in folders)
        and not any(package.startswith(f"{one}/") for one in folders)
    ]
    if foreign or _INIT in paths:
        path = f"{foreign[0]}/{_INIT}" if foreign else _INIT
        named = ", ".join(sorted(set(folders)))
        raise Rejected(
            _NOT_ONLY_DATA,
            f"{wheel} has weights in {named} and holds {path!r}, a package besides, of which "
            "nothing is imported: move code into the pipeline's wheel, data into the named folder",
        )


def _is_code(path: str) -> bool:
    """Whether a file is code, or has an effect where an installer puts it. Deeper inside, `.pth` is
    what PyTorch calls its models.
    """
    top, inside, _ = path.partition("/")
    if top.endswith(".data") if inside else top.lower().endswith(".pth"):
        return True
    return path.lower().endswith(_PYTHON) and path.rpartition("/")[2] != _INIT


def _is_wanted(marker: Marker | None) -> bool:
    """Whether a requirement counts without extras; one that nobody can tell of counts."""
    try:
        return marker is None or marker.evaluate({"extra": ""})
    except (UndefinedComparison, UndefinedEnvironmentName):
        return True


def _check_folder(pipeline: str, folder: str, wheel: str, paths: Iterable[str]) -> None:
    inside = sorted(path for path in paths if path.startswith(f"{folder}/"))
    if all(path.rpartition("/")[2] in _NOT_DATA for path in inside):
        what = f"holds only {', '.join(inside[:3])}" if inside else "is not there"
        raise Rejected(
            "WeightsMissing",
            f"{wheel}: the folder {folder!r}, named for the weights for {pipeline}, {what}; name "
            "the package that holds the files, see that the build backend packs them (setuptools "
            "needs package-data for that) and rebuild the wheel",
        )


def _check_strays(folders: Mapping[str, str], paths: Collection[str]) -> None:
    """Raise for a `wheelway.toml` that somebody meant and nobody reads."""
    for folder in folders.values():
        above = ["", *(f"{folder[:at]}/" for at, sign in enumerate(folder) if sign == "/")]
        for parent in above:
            if f"{parent}{FILENAME}" in paths and parent.rstrip("/") not in folders.values():
                raise MistakeError(
                    f"{parent}{FILENAME}: is not read there; move it to {folder}/{FILENAME}"
                )


def _fits(folder: str, read_file: Callable[[str], bytes | None]) -> str:
    """Which versions of their pipeline the weights in a folder say that they fit."""
    path = f"{folder}/{FILENAME}"
    if (body := read_file(path)) is None:
        return ""
    text, said = parse_toml(body, path)
    for key in said.keys() - {"fits"}:
        raise MistakeError(
            f"{path}:{line_of(text, [key])}: {key}: unknown key; of weights only `fits` is known, "
            "the versions of the pipeline that can take them"
        )
    fits, where = said.get("fits", ""), f"{path}:{line_of(text, ['fits'])}: fits"
    if not isinstance(fits, str):
        raise MistakeError(f"{where}: must be text, such as '>=1,<2'")
    try:
        parse_specifiers(fits)
    except ValueError as error:
        raise MistakeError(
            f"{where}: {error}; write PEP 440 specifiers, such as '>=1,<2'"
        ) from error
    return " ".join(fits.split())  # as it was written: parsed, it comes in another order
