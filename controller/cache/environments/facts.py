"""What an interpreter has, as JSON on stdout's last line; run by `base.detect`, not imported.

This file runs inside Ray's interpreter, which may be older than the daemon's and need not have any
of its packages: only the standard library, and `packaging` from the folder given as the argument
when the interpreter has none of its own.
"""

import importlib.metadata
import importlib.util
import json
import platform
import site
import sys
import sysconfig
from typing import Any


def distributions() -> "list[dict[str, Any]]":
    """Name, version, requirements and extras of what is installed, in the order of `sys.path`."""
    found = []
    for distribution in importlib.metadata.distributions():
        headers = distribution.metadata
        if headers["Name"] and headers["Version"]:
            found.append(
                {
                    "name": headers["Name"],
                    "version": headers["Version"],
                    "requires": list(distribution.requires or ()),
                    "extras": list(headers.get_all("Provides-Extra") or ()),
                }
            )
    return found


def site_packages() -> "list[str]":
    """The folders into which packages are installed, in the order of `sys.path`."""
    paths = sysconfig.get_paths()
    folders = {paths["purelib"], paths["platlib"], *site.getsitepackages()}
    return [path for path in sys.path if path in folders]


def facts(packaging_home: str) -> "dict[str, Any]":
    """Everything; the keys are read by `base.Base`."""
    # Looked up first: `packaging_home` may hold the daemon's packages next to `packaging`.
    result: dict[str, Any] = {
        "version": platform.python_version(),
        "site_packages": site_packages(),
        "distributions": distributions(),
        "importable": [name for name in ("ray", "wheelway") if importlib.util.find_spec(name)],
    }
    if importlib.util.find_spec("packaging") is None:
        sys.path.append(packaging_home)
    from packaging import markers, tags  # noqa: PLC0415 - its home is only known by now

    result["markers"] = dict(markers.default_environment())
    result["tags"] = [str(tag) for tag in tags.sys_tags()]
    return result


if __name__ == "__main__":
    sys.stdout.write("\n" + json.dumps(facts(sys.argv[1])) + "\n")
