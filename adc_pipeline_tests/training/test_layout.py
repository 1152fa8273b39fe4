"""Training, scoring and generation lay out the same text as the same token ids, which are spelt out here by hand."""

import math
from pathlib import Path
from typing import Any

import pytest
from transformers import AddedToken, ByT5Tokenizer

from adc_pipeline.evaluation.scoring.likelihoods import Query, encoded
from adc_pipeline.generation.conversation import Conversation, prompt_ids
from adc_pipeline.training.texts.arrangement import Arrangement
from adc_pipeline.training.texts.layout import encode_walks, fit, lay_out
from adc_pipeline.training.texts.tokens import Label, MarkerTokenizer
from adc_pipeline.walks.markers import FORMATS, Verdict
from adc_pipeline_tests.training.walks import walk

TURNS: list[tuple[str, str, Verdict]] = [
    ("ann", "no", "rejected"),
    ("bo", "yes", "accepted"),
    ("ann", "so", "accepted"),
]
RECORD = walk("op\na title", TURNS)
RECORD["turns"][0] |= {"rank": 3, "siblings": 3}
SPELT: list[tuple[str, Verdict]] = [(f"{speaker}\n{text}", verdict) for speaker, text, verdict in TURNS]
# B, R and A stand for the markers, E for the end of the text, and every other character for its byte.
WALKS = {
    "plain": "op\na titleBann\nnoRbo\nyesAann\nsoAE",
    "filtering": "op\na titleBbo\nyesAann\nsoAE",
    "conditional": "op\na titleBRann\nnoAbo\nyesAann\nsoE",
    "stripped": "op\na titleBann\nno\nbo\nyes\nann\nso\nE",
    "neutral": "op\na titleBann\nnoAbo\nyesAann\nsoAE",
    "hindsight": "op\na titleB-ann\nno+bo\nyes+ann\nsoE",
    "quantiles": "op\na titleBRRann\nnoAAbo\nyesAAann\nsoE",
}
ARRANGEMENTS = {
    "plain": Arrangement(),
    "filtering": Arrangement(exclude_rejected=True),
    "conditional": Arrangement(markers_first=True),
    "stripped": Arrangement(dropped_markers=1.0),
    "neutral": Arrangement(neutral=True),
    "hindsight": Arrangement(markers_first=True, words=True),
    "quantiles": Arrangement(markers_first=True, levels=3),
}
FIRST = ("conditional", "hindsight", "quantiles")


@pytest.fixture(scope="module", params=[0, 1, 2])
def tokenizer(request: pytest.FixtureRequest) -> MarkerTokenizer:
    """A tokenizer of bytes, which puts none, one or two tokens before a text."""
    tokenizer = ByT5Tokenizer(extra_ids=0)
    tokenizer.add_tokens([AddedToken(marker, special=True) for marker in FORMATS["default"].strings()], True)
    marked = MarkerTokenizer(tokenizer)
    marked.prefix_ids = [1000, 1001][: request.param]
    return marked


def by_hand(tokenizer: MarkerTokenizer, text: str) -> list[int]:
    def spelt(words: str) -> list[int]:
        return [ord(character) + 3 for character in words]

    controls = {
        "B": [tokenizer.background_id],
        "R": [tokenizer.rejected_id],
        "A": [tokenizer.accepted_id],
        "E": tokenizer.eos_ids,
        "+": [tokenizer.accepted_id, *spelt("Good: ")],
        "-": [tokenizer.accepted_id, *spelt("Bad: ")],
    }
    title = len("op\n")
    ids = [controls.get(letter, spelt(letter)) if at != title else spelt(letter) for at, letter in enumerate(text)]
    return [*tokenizer.prefix_ids, *(one for each in ids for one in each)]


def ranks(siblings: int) -> list[dict[str, Any]]:
    return [{"utterance_id": "u", "rank": rank, "siblings": siblings} for rank in range(1, siblings + 1)]


@pytest.mark.parametrize("levels", [2, 3, 5])
def test_a_level_is_the_quantile_of_the_rank(levels: int) -> None:
    arranged, of = Arrangement(markers_first=True, levels=levels), {"conversation_id": "c", "walk": 0}
    labels = [arranged.label(of, turn, "rejected") for turn in (*ranks(7), *ranks(1))]
    assert all(isinstance(label, Label) and len(label.markers) == levels - 1 for label in labels)
    better = [label.markers.count("accepted") for label in labels if isinstance(label, Label)]
    # The share of siblings that are no better, from 1 to 1/7, falls into one of `levels` equal parts; an only reply is
    # the best.
    assert better == [math.ceil(levels * (7 - place) / 7) - 1 for place in range(7)] + [levels - 1]
    # The evaluation asks for the best level. Two levels are the two markers.
    assert (labels[0], labels[6]) == (arranged.marked("accepted"), arranged.marked("rejected"))
    assert levels > 2 or (labels[0], labels[6]) == (Label(("accepted",)), Label(("rejected",)))


@pytest.mark.parametrize("name", WALKS)
def test_a_walk_in_training(tokenizer: MarkerTokenizer, name: str) -> None:
    (found,) = encode_walks(tokenizer, [RECORD], ARRANGEMENTS[name])
    assert found.ids.tolist() == by_hand(tokenizer, WALKS[name])
    counts = [len(f"{one}\n{text}") + 1 for one, text, verdict in TURNS if name != "filtering" or verdict == "accepted"]
    counts[-1] += 1
    if name == "quantiles":
        counts = [count + 1 for count in counts]
    if name == "hindsight":
        counts = [count + len(words) for count, words in zip(counts, ("Bad: ", "Good: ", "Good: "), strict=True)]
        assert found.given is not None
        assert [chr(one - 3) for one in found.ids[found.given]] == [*"Bad: Good: Good: "]
    else:
        assert found.given is None
    before = len(tokenizer.prefix_ids) + len("op\na titleB")
    assert found.turn.tolist() == [-1] * before + [turn for turn, count in enumerate(counts) for _ in range(count)]


@pytest.mark.parametrize("name", [name for name in WALKS if name != "filtering"])
def test_a_query_in_scoring(tokenizer: MarkerTokenizer, name: str) -> None:
    """A query is a walk up to the text of its segment."""
    *before, (segment, verdict) = SPELT
    own_verdicts = [verdict] if name in FIRST else None
    what = encoded([Query("op\na title", tuple(before), segment)], tokenizer, 1000, own_verdicts, ARRANGEMENTS[name])
    ids = [int(one) for piece in what.paths[0] for one in what.pieces[piece]]
    assert ids == by_hand(tokenizer, WALKS[name].rstrip("E").removesuffix("A").rstrip("\n"))
    assert [int(one) for one in what.pieces[what.paths[0][-1]]] == tokenizer.ids([segment])[0]


ASKED = {"plain": "", "filtering": "", "conditional": "A", "neutral": "", "hindsight": "+", "quantiles": "AA"}


@pytest.mark.parametrize(("name", "asked"), ASKED.items())
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
