"""Packages of third parties, as pip leaves them behind: a module and its metadata, in a folder on the path."""

import textwrap
from collections.abc import Mapping
from pathlib import Path

GOOD = """
    from autorelease.model import Release, Result
    from autorelease.provisioners import Kind

    class Good:
        def preflight(self): ...
        def release(self, allocation): return Release(Result.RELEASED, evidence="good")
        def close(self): ...

    KIND = Kind(lambda section: Good())
"""


def install(
    folder: Path, name: str, kinds: Mapping[str, str], source: str = GOOD, *, version: str = "1.0", metadata: str = ""
) -> None:
    """Put a package of one module, named after it, into this folder. kinds: attributes of the module by entry point.

    metadata: instead of the usual ones.
    """
    module = name.replace("-", "_")
    (folder / f"{module}.py").write_text(textwrap.dedent(source), encoding="utf-8")
    information = folder / f"{module}-{version}.dist-info"
    information.mkdir()
    usual = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
    (information / "METADATA").write_text(metadata or usual, encoding="utf-8")
    lines = [f"{kind} = {module}:{attribute}" for kind, attribute in kinds.items()]
    (information / "entry_points.txt").write_text(
        "\n".join(["[autorelease.provisioners]", *lines, ""]), encoding="utf-8"
    )
