"""Rows hold every token once, never too many, in an order that depends on seed and epoch only."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from adc_pipeline.core.errors import PipelineError
from adc_pipeline.training.objectives.weights import TurnWeights
from adc_pipeline.training.rows.batches import NOTHING, build_batch
from adc_pipeline.training.rows.packing import RowOrder, Rows, cut_into_pieces, pack
from adc_pipeline.training.texts.dataset import (
    ACCEPTED,
    BACKGROUND,
    REJECTED,
    TokenizedSplit,
    load_split,
    tokenize_split,
)
from adc_pipeline.training.texts.tokens import MarkerTokenizer

ROW = 32


def split_of(walks: list[list[int]]) -> TokenizedSplit:
    """A split whose walk w has a background of walks[w][0] tokens and turns of the lengths that follow."""
    turn = [np.repeat(np.arange(-1, len(lengths) - 1), lengths) for lengths in walks]
    turns = [len(lengths) - 1 for lengths in walks]
    flat = np.concatenate(turn)
    return TokenizedSplit(
        ids=np.arange(100, 100 + len(flat), dtype=np.int32),
        turn=flat.astype(np.int32),
        walk_start=np.cumsum([0, *map(sum, walks)]),
        turn_start=np.cumsum([0, *turns]),
        accepted=np.arange(sum(turns)) % 2 == 0,
        score=np.zeros(sum(turns), dtype=np.int64),
        group=np.concatenate([np.arange(count, dtype=np.int32) for count in turns]),
        conversation_ids=[f"c{number}" for number in range(len(walks))],
        control_ids=[*range(104, 104 + len(flat), 5)],
    )


short = st.lists(st.integers(1, 5), min_size=2, max_size=5)
any_length = st.lists(st.integers(1, 50), min_size=2, max_size=5)
splits = st.lists(st.one_of(short, any_length), min_size=1, max_size=12).map(split_of)


@given(split=splits)
def test_bodies_hold_every_token_once(split: TokenizedSplit) -> None:
    pieces = cut_into_pieces(split, ROW)
    assert pieces.lengths.max() <= ROW
    assert pieces.lengths.min() >= 1
    seen = np.zeros(len(split.ids), dtype=int)
    for begin, end in zip(pieces.body_start, pieces.body_end, strict=True):
        seen[begin:end] += 1
    assert seen.max() == 1
    left_out = np.flatnonzero(seen == 0)
    assert (split.turn[left_out] == -1).all()
    assert len(left_out) == pieces.counts["background_tokens_left_out"]


@pytest.mark.slow
@given(split=splits)
def test_cuts_fall_between_turns_that_have_room(split: TokenizedSplit) -> None:
    pieces = cut_into_pieces(split, ROW)
    for number, walk in enumerate(pieces.walk):
        begin, end = split.walk_start[walk], split.walk_start[walk + 1]
        repeated = slice(pieces.prefix_start[number], pieces.prefix_end[number])
        turns = split.turn[begin:end]
        background = int((turns == -1).sum())
        if end - begin <= ROW:
            assert (pieces.body_start[number], pieces.body_end[number]) == (begin, end)
        kept = min(background, ROW // 2)
        first = split.turn[pieces.body_start[number]] == -1
        assert len(split.ids[repeated]) == (0 if first else kept)
        assert (split.turn[repeated] == -1).all()
        cut = pieces.body_end[number]
        if cut < end and split.turn[cut] == split.turn[cut - 1]:
            assert (turns == split.turn[cut]).sum() > ROW - kept


@given(split=splits, seed=st.integers(0, 3), epoch=st.integers(0, 3))
def test_rows_hold_every_piece_once(split: TokenizedSplit, seed: int, epoch: int) -> None:
    lengths = cut_into_pieces(split, ROW).lengths
    rows = pack(lengths, ROW, seed, epoch)
    assert sorted(rows.piece.tolist()) == list(range(len(lengths)))
    assert max(lengths[rows.piece[a:b]].sum() for a, b in zip(rows.start, rows.start[1:], strict=False)) <= ROW
    again = pack(lengths, ROW, seed, epoch)
    assert (again.piece == rows.piece).all()
    assert (again.start == rows.start).all()


def test_the_order_depends_on_seed_and_epoch() -> None:
    lengths = np.full(200, 5)
    orders = {tuple(pack(lengths, ROW, seed, epoch).piece) for seed in range(3) for epoch in range(3)}
    assert len(orders) == 9


def test_real_lengths_fill_the_rows() -> None:
    lengths = np.minimum(np.random.default_rng(0).lognormal(5, 0.9, 20_000).astype(int) + 10, 1024)
    rows = pack(lengths, 1024, 0, 0)
    assert lengths.sum() / (len(rows) * 1024) > 0.99


@pytest.mark.slow
@given(split=splits, begin=st.integers(0, 30), count=st.integers(1, 30))
def test_the_sequence_of_rows_can_be_entered_anywhere(split: TokenizedSplit, begin: int, count: int) -> None:
    pieces = cut_into_pieces(split, ROW)
    epochs = [pack(pieces.lengths, ROW, 7, epoch) for epoch in range(61)]
    every = [row for rows in epochs for row in _row_lists(rows)]
    order = RowOrder(pieces, ROW, 7)
    assert _row_lists(order.rows(begin, begin + count)) == every[begin : begin + count]
    assert _row_lists(order.rows(0, 2)) == every[:2]


def _row_lists(rows: Rows) -> list[list[int]]:
    return [rows.piece[a:b].tolist() for a, b in zip(rows.start, rows.start[1:], strict=False)]


def some_weights(split: TokenizedSplit) -> TurnWeights:
    """Every turn counts something else, its text and its controls too; every other turn is to become unlikely."""
    numbers = np.arange(len(split.accepted), dtype=np.float32)
    return TurnWeights(text=2 + numbers, controls=-2 - numbers, unlikely=~split.accepted)


@pytest.mark.slow
@given(split=splits, prefix=st.sampled_from([[], [1], [1, 2]]), plain=st.booleans())
def test_a_batch_is_what_a_plain_loop_lays_out(split: TokenizedSplit, prefix: list[int], plain: bool) -> None:
    """Every token maps to its turn's weight, also where long walks are cut."""
    # Every background contains the prefix.
    prefix = prefix[: int(np.add.reduceat(split.turn < 0, split.walk_start[:-1], dtype=np.int64).min())]
    pieces = cut_into_pieces(split, ROW)
    weights = None if plain else some_weights(split)
    rows = pack(pieces.lengths, ROW, 0, 0)
    batch = build_batch(TokenizedSplit(**{**vars(split), "prefix_ids": prefix}), pieces, rows, ROW, weights)
    assert (batch.unlikely is None) == plain
    for row, members in enumerate(_row_lists(rows)):
        at = 0
        for piece in members:
            repeated = range(pieces.prefix_start[piece], pieces.prefix_end[piece])
            source = [*repeated, *range(pieces.body_start[piece], pieces.body_end[piece])]
            ids = [int(split.ids[place]) for place in source]
            ids[: len(prefix)] = prefix
            assert batch.input_ids[row, at : at + len(ids)].tolist() == ids
            assert batch.position_ids[row, at : at + len(ids)].tolist() == list(range(len(ids)))
            for number, place in enumerate(source[1:], start=1):
                here = (row, at + number - 1)
                assert batch.targets[here] == ids[number]
                counted = number >= len(repeated)
                turn = split.turn[place]
                own = split.turn_start[pieces.walk[piece]] + max(turn, 0)
                accepted, control = split.accepted[own], split.ids[place] in split.control_ids
                weight = 1 if plain or turn < 0 else -2 - own if control else 2 + own
                assert batch.weights[here] == (weight if counted else 0)
                if not plain:
                    assert batch.unlikely[here] == (counted and turn >= 0 and not accepted and not control)
                part = BACKGROUND if turn < 0 else ACCEPTED if accepted else REJECTED
                assert batch.parts[here] == (part if counted else NOTHING)
            at += len(ids)
            assert batch.weights[row, at - 1] == 0
            assert batch.parts[row, at - 1] == NOTHING
        assert (batch.weights[row, at:] == 0).all()
        assert (batch.parts[row, at:] == NOTHING).all()
        assert batch.position_ids[row, at:].tolist() == list(range(ROW - at))


def test_an_overlong_background_keeps_its_end() -> None:
    pieces = cut_into_pieces(split_of([[60, 10, 10]]), ROW)
    assert pieces.counts["backgrounds_cut"] == 1
    assert pieces.counts["background_tokens_left_out"] == 60 - ROW // 2
    assert pieces.body_start.tolist() == [60 - ROW // 2, 70]
    assert pieces.prefix_start.tolist() == [60 - ROW // 2, 60 - ROW // 2]
    assert pieces.prefix_end.tolist() == [60 - ROW // 2, 60]


def test_a_split_on_disk_is_the_split(small_model: Path, dataset: Path, tmp_path: Path) -> None:
    from adc_pipeline.training.texts.dataset import read_walks
    from adc_pipeline.training.texts.layout import encode_walks

    tokenizer = MarkerTokenizer.load(small_model)
    tokenize_split(tokenizer, dataset, "train", tmp_path / "train")
    split = load_split(tmp_path / "train")
    walks = list(encode_walks(tokenizer, read_walks(dataset, "train")))
    assert split.walks == len(walks) == 120
    for number, walk in enumerate(walks):
        tokens = slice(split.walk_start[number], split.walk_start[number + 1])
        turns = slice(split.turn_start[number], split.turn_start[number + 1])
        assert (split.ids[tokens] == walk.ids).all()
        assert (split.turn[tokens] == walk.turn).all()
        assert split.accepted[turns].tolist() == [verdict == "accepted" for verdict in walk.verdicts]
        assert tuple(split.score[turns]) == walk.scores
        assert tuple(split.group[turns]) == walk.groups
        assert split.conversation_ids[number] == walk.conversation_id


@pytest.mark.parametrize("damage", ["cut off", "altered", "a folder", "gone"])
def test_damaged_tokens_are_not_trained_on(small_model: Path, dataset: Path, tmp_path: Path, damage: str) -> None:
    tokenize_split(MarkerTokenizer.load(small_model), dataset, "validation", tmp_path / "validation")
    file = tmp_path / "validation" / "ids.bin"
    content = bytearray(file.read_bytes())
    file.unlink()
    match damage:
        case "cut off":
            file.write_bytes(content[: len(content) // 8 * 4])
        case "altered":
            content[0] ^= 1
            file.write_bytes(content)
        case "a folder":
            file.mkdir()
    with pytest.raises(PipelineError, match="and the next run tokenizes again"):
        load_split(tmp_path / "validation")


def test_an_empty_split_packs_to_nothing(small_model: Path, dataset: Path, tmp_path: Path) -> None:
    tokenize_split(MarkerTokenizer.load(small_model), dataset, "test", tmp_path / "test")
    pieces = cut_into_pieces(load_split(tmp_path / "test"), ROW)
    assert len(pieces.lengths) == 0
    assert RowOrder(pieces, ROW, 0).rows_per_epoch == 0


@pytest.mark.parametrize("row", [16, 64])
def test_a_long_walk_fills_its_rows(row: int) -> None:
    pieces = cut_into_pieces(split_of([[4, *[3] * 50]]), row)
    assert pieces.lengths[:-1].min() > row - 3
