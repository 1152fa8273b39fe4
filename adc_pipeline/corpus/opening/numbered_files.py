"""Find files that are missing in a set that is numbered by their names, such as train-00001-of-00003.parquet.

People take some of many files on purpose, so that this is no error, but it is not passed over silently either.
"""

import re
from collections.abc import Iterable
from pathlib import Path

NUMBERED = re.compile(r"(?P<before>.*?)(?P<number>\d+)(?P<of>[-_]of[-_])(?P<total>\d+)(?P<behind>.*)")
# A larger total is no number of files but a part of a name, such as a date.
MOST = 100_000


def missing_files(paths: Iterable[Path]) -> dict[Path, str]:
    """Return the first file that is missing in each set of numbered files, with the reason as the end of a sentence.

    Files of one set may differ in their endings.
    """
    sets: dict[tuple[Path, str, int], dict[int, Path]] = {}
    for path in paths:
        found = NUMBERED.fullmatch(path.name)
        if found and len(found["total"]) == len(found["number"]) and 1 < int(found["total"]) <= MOST:
            sets.setdefault((path.parent, found["before"], int(found["total"])), {})[int(found["number"])] = path
    lacked: dict[Path, str] = {}
    for (folder, before, total), files in sets.items():
        # Sets are numbered from 0 or from 1 on.
        first = 1 if total in files else 0
        missing = sorted(set(range(first, first + total)) - set(files))
        if missing:
            example = NUMBERED.fullmatch(next(iter(files.values())).name)
            number = str(missing[0]).zfill(len(example["number"]))  # type: ignore[index]
            name = f"{before}{number}{example['of']}{example['total']}{example['behind']}"  # type: ignore[index]
            others = f", with {len(missing) - 1} others" if len(missing) > 1 else ""
            lacked[folder / name] = f"is missing{others}, as the names of the files beside it tell"
    return lacked
