"""Training, scoring and generation lay out the same text as the same token ids, which are spelt out here by hand."""

from pathlib import Path
from typing import Any

import pytest
from transformers import AddedToken, ByT5Tokenizer

from adc_pipeline.evaluation.scoring import Query, encoded
from adc_pipeline.generation.conversation import Conversation, prompt_ids
from adc_pipeline.training.arrangement import Arrangement
from adc_pipeline.training.layout import encode_walks, fit, lay_out
from adc_pipeline.training.tokens import MarkerTokenizer
from adc_pipeline.walks.markers import FORMATS, Verdict
from adc_pipeline_tests.training.walks import walk

TURNS: list[tuple[str, str, Verdict]] = [
    ("ann", "no", "rejected"),
    ("bo", "yes", "accepted"),
    ("ann", "so", "accepted"),
]
RECORD = walk("op\na title", TURNS)
SPELT: list[tuple[str, Verdict]] = [(f"{speaker}\n{text}", verdict) for speaker, text, verdict in TURNS]
# B, R and A stand for the markers, E for the end of the text, and every other character for its byte.
WALKS = {
    "plain": "op\na titleBann\nnoRbo\nyesAann\nsoAE",
    "filtering": "op\na titleBbo\nyesAann\nsoAE",
    "conditional": "op\na titleBRann\nnoAbo\nyesAann\nsoE",
    "stripped": "op\na titleBann\nno\nbo\nyes\nann\nso\nE",
    "neutral": "op\na titleBann\nnoAbo\nyesAann\nsoAE",
}
ARRANGEMENTS = {
    "plain": Arrangement(),
    "filtering": Arrangement(exclude_rejected=True),
    "conditional": Arrangement(markers_first=True),
    "stripped": Arrangement(dropped_markers=1.0),
    "neutral": Arrangement(neutral=True),
}


@pytest.fixture(scope="module", params=[0, 1, 2])
def tokenizer(request: pytest.FixtureRequest) -> MarkerTokenizer:
    """A tokenizer of bytes, which puts none, one or two tokens before a text."""
    tokenizer = ByT5Tokenizer(extra_ids=0)
    tokenizer.add_tokens([AddedToken(marker, special=True) for marker in FORMATS["default"].strings()], True)
    marked = MarkerTokenizer(tokenizer)
    marked.prefix_ids = [1000, 1001][: request.param]
    return marked


def by_hand(tokenizer: MarkerTokenizer, text: str) -> list[int]:
    controls = {
        "B": tokenizer.background_id,
        "R": tokenizer.rejected_id,
        "A": tokenizer.accepted_id,
        "E": tokenizer.eos_ids[0],
    }
    ids = [ord(character) + 3 for character in text]
    title = len("op\n")
    return [
        *tokenizer.prefix_ids,
        *(
            controls.get(letter, one) if at != title else one
            for at, (letter, one) in enumerate(zip(text, ids, strict=True))
        ),
    ]


@pytest.mark.parametrize("name", WALKS)
def test_a_walk_in_training(tokenizer: MarkerTokenizer, name: str) -> None:
    (found,) = encode_walks(tokenizer, [RECORD], ARRANGEMENTS[name])
    assert found.ids.tolist() == by_hand(tokenizer, WALKS[name])
    counts = [len(f"{one}\n{text}") + 1 for one, text, verdict in TURNS if name != "filtering" or verdict == "accepted"]
    counts[-1] += 1
    before = len(tokenizer.prefix_ids) + len("op\na titleB")
    assert found.turn.tolist() == [-1] * before + [turn for turn, count in enumerate(counts) for _ in range(count)]


@pytest.mark.parametrize("name", ["plain", "conditional", "stripped", "neutral"])
def test_a_query_in_scoring(tokenizer: MarkerTokenizer, name: str) -> None:
    """A query is a walk up to the text of its segment."""
    *before, (segment, verdict) = SPELT
    own_verdicts = [verdict] if name == "conditional" else None
    markers = {"conditional": "before", "stripped": "none", "neutral": "neutral"}.get(name, "after")
    what = encoded([Query("op\na title", tuple(before), segment)], tokenizer, 1000, own_verdicts, markers)
    ids = [int(one) for piece in what.paths[0] for one in what.pieces[piece]]
    assert ids == by_hand(tokenizer, WALKS[name].rstrip("E").removesuffix("A").rstrip("\n"))
    assert [int(one) for one in what.pieces[what.paths[0][-1]]] == tokenizer.ids([segment])[0]


@pytest.mark.parametrize(("name", "asked"), [("plain", ""), ("filtering", ""), ("conditional", "A"), ("neutral", "")])
def test_a_prompt_in_generation(tokenizer: MarkerTokenizer, name: str, asked: str) -> None:
    """A prompt is a walk without its end, and the marker of the turn to write where markers come first."""
    conversation = Conversation("op\na title", tuple(SPELT))
    ids = prompt_ids(conversation, tokenizer, ARRANGEMENTS[name], 1000)
    assert ids == by_hand(tokenizer, WALKS[name].removesuffix("E") + asked)


@pytest.mark.parametrize("room", range(6, 60))
def test_a_context_that_fits_has_the_end_of_its_background_and_its_nearest_turns(
    tokenizer: MarkerTokenizer, room: int
) -> None:
    background, *texts = tokenizer.ids(["op\na title", *(text for text, _ in SPELT)])
    turns: Any = [(text, verdict) for text, (_, verdict) in zip(texts, SPELT, strict=True)]
    kept, near = fit(tokenizer, background, turns, room)
    size = len([one for piece in lay_out(tokenizer, kept, near, ([], None)) for one in piece])
    assert size <= room
    assert kept == background[len(background) - len(kept) :]
    assert list(near) == turns[len(turns) - len(near) :]
    # Nothing more would have fitted.
    assert len(near) == len(turns) or size + len(turns[len(turns) - len(near) - 1][0]) + 1 > room
    whole = len(kept) == len(background)
    assert whole or size == room or len(kept) + len(tokenizer.prefix_ids) + 1 >= room // 2


def test_a_dataset_is_laid_out_in_its_order(tokenizer: MarkerTokenizer, tmp_path: Path) -> None:
    records = [walk("b", [(None, f"turn {number}", "accepted")], f"c{number}") for number in range(700)]
    found = list(encode_walks(tokenizer, records))
    assert [one.conversation_id for one in found] == [f"c{number}" for number in range(700)]
    assert found[650].ids.tolist() == by_hand(tokenizer, "bBturn 650AE")
