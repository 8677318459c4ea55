"""Files to wrap, and what `wheelway new --wrap` made of them."""

import textwrap


def write(root, files):
    """Write these, by path, their contents dedented."""
    for path, content in files.items():
        place = root / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(textwrap.dedent(content), encoding="utf-8")


def text(made, path="src/scored/pipeline.py"):
    """A generated file's."""
    return (made.folder / path).read_text(encoding="utf-8")
