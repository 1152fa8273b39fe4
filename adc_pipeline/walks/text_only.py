"""Read walks of which only the text is known, such as those of the public datasets of 2023, by their markers.

These datasets have one column, `text`. A walk is cut at its marker strings, whose format is detected. A text in which
somebody wrote a marker string cannot be told from one with another turn. The line with the speaker stays part of a
turn, and every score is 0, so that objectives that use scores learn nothing of the verdicts.
"""

import hashlib
import re
from typing import Any

from adc_pipeline.walks.markers import FORMATS, Markers


def detected_markers(text: str) -> Markers | None:
    """Return the markers of the format that a walk's text has; None if it has none."""
    return next((each for each in FORMATS.values() if each.background in text), None)


def walk_of_text(text: str, markers: Markers, number: int) -> dict[str, Any] | None:
    """Return a row of a dataset, with turns and an id of the conversation from its background; None if it is no walk.

    What stands after the last marker is no turn, since it has no verdict.
    """
    background, found, _ = text.partition(markers.background)
    verdicts = {markers.accepted: "accepted", markers.rejected: "rejected"}
    if not found:
        return None
    turns: list[dict[str, Any]] = []
    start = len(background) + len(found)
    for marker in re.finditer("|".join(map(re.escape, verdicts)), text):
        if marker.start() < start:
            return None
        turns.append(
            {"utterance_id": f"{number}/{len(turns)}", "speaker": None, "verdict": verdicts[marker[0]], "score": 0,
             "rank": 1, "siblings": 1, "start": start, "end": marker.start()}
        )  # fmt: skip
        start = marker.end()
    if not turns:
        return None
    # Equal roots are one conversation, so that they are in one split.
    conversation = hashlib.md5(background.encode(), usedforsecurity=False).hexdigest()
    return {"text": text[:start], "conversation_id": conversation, "walk": 0, "source": "", "turns": turns}
