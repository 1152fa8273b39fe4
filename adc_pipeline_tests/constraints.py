"""Check that `constraints.txt` holds the version of every package that is installed for this project, or write it.

python -m adc_pipeline_tests.constraints            compare; exit status 1 and one line a difference
python -m adc_pipeline_tests.constraints --write    write the versions that are installed

Only what `pyproject.toml` asks for counts, directly or through other packages; extras count as far as they are
installed, and packages that somebody installed by hand do not. A local version such as torch's `+cpu` is written
without its label, so that the constraint admits every build of that version.
"""

import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).parents[1]
FILE = ROOT / "constraints.txt"
HEADER = """\
# The version of every package that the tests run with, on Python 3.11 and Linux.
# Use: pip install -e '.[dev]' --constraint constraints.txt    Update: make constraints
"""


def requirements() -> Iterator[Requirement]:
    """Yield what `pyproject.toml` asks for, extras included, but for the project itself with one of its extras."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    for asked in (project["dependencies"], *project["optional-dependencies"].values()):
        yield from (each for each in map(Requirement, asked) if each.name != project["name"])


def installed() -> dict[str, str]:
    """Return the public version of every installed package that the project needs, by its canonical name."""
    found: dict[str, str] = {}
    visited: set[tuple[str, str]] = set()
    pending = list(requirements())
    while pending:
        requirement = pending.pop()
        name = canonicalize_name(requirement.name)
        try:
            package = distribution(name)
        except PackageNotFoundError:
            continue
        found[name] = Version(package.version).public
        for extra in {"", *requirement.extras} - {extra for known, extra in visited if known == name}:
            visited.add((name, extra))
            needed = map(Requirement, package.requires or ())
            pending += [each for each in needed if not each.marker or each.marker.evaluate({"extra": extra})]
    return found


def constraints(path: Path = FILE) -> dict[str, str]:
    """Return the versions of a constraints file by canonical name."""
    lines = (line for line in path.read_text().splitlines() if line and not line.startswith("#"))
    return {canonicalize_name(name): version for name, version in (line.split("==") for line in lines)}


def differences(wanted: dict[str, str], found: dict[str, str]) -> Iterator[str]:
    """Describe every installed package that the constraints lack or have in another version."""
    for name, version in sorted(found.items()):
        if name not in wanted:
            yield f"{name} {version} is installed and not in {FILE.name}"
        elif wanted[name] != version:
            yield f"{name} {version} is installed and {FILE.name} has {wanted[name]}"


def main() -> int:
    if "--write" in sys.argv[1:]:
        FILE.write_text(HEADER + "".join(f"{name}=={version}\n" for name, version in sorted(installed().items())))
        return 0
    found = list(differences(constraints(), installed()))
    for line in found:
        print(line, file=sys.stderr)
    if found:
        print("Run `make constraints` and commit the file.", file=sys.stderr)
    return int(bool(found))


if __name__ == "__main__":
    sys.exit(main())
