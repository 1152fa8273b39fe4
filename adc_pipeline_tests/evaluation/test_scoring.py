"""Scores from rows of prefix trees equal the model's own, one sequence at a time."""

from pathlib import Path

import numpy as np
import pytest

from adc_pipeline.core.errors import PipelineError
from adc_pipeline.evaluation import measures
from adc_pipeline.evaluation.cases.case_sets import keep
from adc_pipeline.evaluation.cases.cases import Cases, read_cases
from adc_pipeline.evaluation.scoring.likelihoods import Query, Scorer, encoded
from adc_pipeline.evaluation.scoring.prefix_tree import packed
from adc_pipeline.evaluation.settings import EvaluationSettings
from adc_pipeline.training.texts.arrangement import Arrangement
from adc_pipeline.training.texts.dataset import read_walks
from adc_pipeline.training.texts.layout import encode_walks
from adc_pipeline_tests.evaluation.conftest import Stages
from adc_pipeline_tests.evaluation.reference import by_hand, context_ids, reference


@pytest.fixture(scope="module")
def scorer(model_folder: Path) -> Scorer:
    return Scorer.load(model_folder, EvaluationSettings())


@pytest.mark.slow
def test_scores_equal_one_sequence_at_a_time(scorer: Scorer, cases: Cases) -> None:
    assert scorer.row_tokens
    queries = cases.queries[:110]
    scores = scorer.score(queries, np.ones(110, dtype=bool))
    assert scores.fits.all()
    assert not scores.cut.any()
    expected = [reference(scorer.model, scorer.tokenizer, query) for query in queries]
    assert np.array(expected) == pytest.approx(np.stack([scores.log_probability, scores.log_odds], axis=1), abs=1e-4)
    assert np.ptp(scores.log_odds) > 1
    assert scores.tokens.tolist() == [len(scorer.tokenizer.ids([query.segment])[0]) for query in queries]


def test_a_token_reaches_its_descendants_and_nothing_else(scorer: Scorer, cases: Cases) -> None:
    """Followed link by link: a token sees another if one leads up to it."""
    what = encoded(cases.queries[:80], scorer.tokenizer, scorer.context_tokens)
    for row in packed(what.paths, what.pieces, 300):
        sees = np.eye(len(row.tokens), dtype=bool)
        for place, before in enumerate(row.follows):
            if before >= 0:
                sees[place] |= sees[before]
        places = np.arange(len(row.tokens))
        assert np.array_equal(sees, (places <= places[:, None]) & (places[:, None] < row.reach))
        assert row.positions.tolist() == (sees.sum(axis=1) - 1).tolist()


@pytest.mark.slow
@pytest.mark.parametrize("row_tokens", [64, 300, 5000])
def test_the_length_of_a_row_changes_nothing(model_folder: Path, cases: Cases, row_tokens: int) -> None:
    """Rows of less than a block, of some blocks, and of many conversations."""
    asked = np.ones(200, dtype=bool)
    one, other = (
        Scorer.load(model_folder, EvaluationSettings(row_tokens=tokens)).score(cases.queries[:200], asked)
        for tokens in (row_tokens, 1000)
    )
    assert one.log_probability == pytest.approx(other.log_probability, abs=1e-4)
    assert one.log_odds == pytest.approx(other.log_odds, abs=1e-4)


@pytest.mark.slow
def test_a_model_of_windows_is_scored_in_trees_where_the_window_holds_the_context(scorer: Scorer, cases: Cases) -> None:
    from transformers import MistralConfig, MistralForCausalLM

    for window, in_trees in ((600, True), (40, False)):
        config = MistralConfig(
            vocab_size=scorer.model.config.vocab_size, hidden_size=32, intermediate_size=64, num_hidden_layers=2,
            num_attention_heads=4, num_key_value_heads=2, sliding_window=window, initializer_range=0.3,
            max_position_embeddings=512,
        )  # fmt: skip
        mistral = Scorer(MistralForCausalLM(config), scorer.tokenizer, EvaluationSettings())
        assert (mistral.row_tokens > 0) == in_trees
        scores = mistral.score(cases.queries[:40], np.ones(40, dtype=bool))
        expected = [reference(mistral.model, mistral.tokenizer, query) for query in cases.queries[:40]]
        found = np.stack([scores.log_probability, scores.log_odds], axis=1)
        assert np.array(expected) == pytest.approx(found, abs=1e-4)


def test_scoring_leaves_the_models_own_attention_behind(scorer: Scorer, cases: Cases) -> None:
    before = scorer.model.config._attn_implementation
    scorer.score(cases.queries[:5], np.ones(5, dtype=bool))
    assert scorer.model.config._attn_implementation == before


@pytest.mark.parametrize(
    ("markers", "arrangement"), [("none", Arrangement(dropped_markers=1.0)), ("neutral", Arrangement(neutral=True))]
)
def test_texts_without_verdicts_are_laid_out_as_the_training_lays_them_out(
    stages: Stages, scorer: Scorer, tmp_path: Path, markers: str, arrangement: Arrangement
) -> None:
    spill, caps = tmp_path / "spill", EvaluationSettings()
    cases = read_cases(
        stages.dataset, stages.utterances, stages.ranked, "default", "names", caps, spill, markers=markers
    )
    assert cases.own_verdicts is None
    assert len(cases.pairs.case) == len(cases.steerings.case) == 0
    what = encoded(cases.queries, scorer.tokenizer, 10_000, arranged=arrangement)
    paths = {tuple(int(id) for piece in path for id in what.pieces[piece]) for path in what.paths}
    arranged = encode_walks(scorer.tokenizer, read_walks(stages.dataset, "test"), arrangement)
    # Without what follows the last turn, of which nothing is asked.
    ends = 1 + len(scorer.tokenizer.eos_ids)
    wholes = {tuple(walk.ids[: len(walk.ids) - ends].tolist()) for walk in arranged}
    assert len(wholes) > 20
    assert wholes <= paths


def test_markers_first_are_laid_out_as_the_training_lays_them_out(
    stages: Stages, scorer: Scorer, tmp_path: Path
) -> None:
    """The last turn's path is the walk as the objective `conditional` learns it, without its end."""
    caps = EvaluationSettings()
    first = read_cases(
        stages.dataset, stages.utterances, stages.ranked, "default", "names", caps, tmp_path / "spill", markers="before"
    )
    assert first.own_verdicts is not None
    assert len(first.pairs.case) == len(first.steerings.case) == 0
    tokenizer = scorer.tokenizer
    what = encoded(first.queries, tokenizer, 10_000, first.own_verdicts)
    paths = {tuple(int(id) for piece in path for id in what.pieces[piece]) for path in what.paths}
    walks = list(read_walks(stages.dataset, "test"))
    arranged = encode_walks(tokenizer, walks, Arrangement(markers_first=True))
    wholes = {tuple(walk.ids[: len(walk.ids) - len(tokenizer.eos_ids)].tolist()) for walk in arranged}
    assert len(wholes) > 20
    assert wholes <= paths
    scores = scorer.score(first.queries, first.ask_text, own_verdicts=first.own_verdicts)
    number = int(first.turns.turn[1])
    segment = [int(id) for id in what.pieces[what.paths[number][-1]]]
    whole = [int(id) for piece in what.paths[number] for id in what.pieces[piece]]
    expected, _ = by_hand(scorer.model, tokenizer, whole[: -len(segment)], segment)
    assert scores.log_probability[number] == pytest.approx(expected, abs=1e-4)
    assert whole[-len(segment) - 1] == tokenizer.marker_id(first.own_verdicts[number])


def test_rows_hold_shared_prefixes_once_and_every_query_once(scorer: Scorer, cases: Cases) -> None:
    what = encoded(cases.queries, scorer.tokenizer, scorer.context_tokens)
    rows = list(packed(what.paths, what.pieces, 512))
    assert sorted(query for row in rows for query in row.queries) == list(range(len(cases.queries)))
    plain = sum(len(what.pieces[piece]) for path in what.paths for piece in path)
    assert sum(len(row.tokens) for row in rows) < plain / 2


def test_a_long_context_keeps_the_end_of_the_background_and_the_nearest_turns(
    model_folder: Path,
) -> None:
    scorer = Scorer.load(model_folder, EvaluationSettings(max_context_tokens=40))
    tokenizer = scorer.tokenizer
    turns = tuple((f"ann\nturn number {number}", "rejected") for number in range(10))
    query = Query("bob\nA title\n" + "background " * 30, turns, "cy\nYes.")  # type: ignore[arg-type]
    what = encoded([query], tokenizer, 40)
    ids = [int(id) for piece in what.paths[0] for id in what.pieces[piece]]
    assert 30 < len(ids) <= 40
    assert what.cut.all()
    place = ids.index(tokenizer.background_id)
    kept = place - len(tokenizer.prefix_ids)
    assert ids[:place] == [*tokenizer.prefix_ids, *tokenizer.ids([query.background])[0][-kept:]]
    assert place >= 15
    whole = context_ids(tokenizer, query) + tokenizer.ids([query.segment])[0]
    assert ids[place + 1 :] == whole[len(whole) - (len(ids) - place - 1) :]
    segment = len(tokenizer.ids([query.segment])[0])
    text, odds = by_hand(scorer.model, scorer.tokenizer, ids[:-segment], ids[-segment:])
    scores = scorer.score([query], np.ones(1, dtype=bool))
    assert (scores.log_probability[0], scores.log_odds[0]) == (
        pytest.approx(text, abs=1e-4),
        pytest.approx(odds, abs=1e-4),
    )


def test_a_segment_longer_than_the_context_is_left_out(model_folder: Path) -> None:
    scorer = Scorer.load(model_folder, EvaluationSettings(max_context_tokens=40))
    queries = [Query("bob\nA title\n", (), "word " * 60), Query("bob\nA title\n", (), "word")]
    scores = scorer.score(queries, np.ones(2, dtype=bool))
    assert scores.fits.tolist() == [False, True]
    assert scores.log_probability[0] == 0
    assert scores.log_probability[1] < 0


def test_siblings_are_asked_after_one_context_whatever_their_length(model_folder: Path) -> None:
    """The longest of those that fit decides, so that none has seen more than another."""
    tokenizer = Scorer.load(model_folder, EvaluationSettings()).tokenizer
    turns = tuple((f"ann\nturn number {number}", "accepted") for number in range(10))
    segments = ("cy\nYes.", "cy\nNo, and here is why not.", "cy\n" + "word " * 12, "cy\n" + "word " * 60)
    queries = [Query("bob\nA title\n" + "background " * 30, turns, each, segments) for each in segments]  # type: ignore[arg-type]

    def contexts(asked: list[Query]) -> list[list[int]]:
        what = encoded(asked, tokenizer, 40)
        return [[int(id) for piece in path[:-1] for id in what.pieces[piece]] for path in what.paths]

    alone = contexts([query._replace(siblings=()) for query in queries])
    assert alone[0] != alone[2] != []
    assert contexts(queries) == [alone[2], alone[2], alone[2], []]


def test_an_empty_segment_has_probability_one_and_a_verdict(scorer: Scorer) -> None:
    query = Query("bob\nA title\n", (("", "accepted"),), "")
    scores = scorer.score([query], np.ones(1, dtype=bool))
    assert scores.log_probability[0] == 0
    assert scores.log_odds[0] == pytest.approx(reference(scorer.model, scorer.tokenizer, query)[1], abs=1e-4)


def test_a_model_whose_positions_ignore_the_tree_is_scored_one_query_at_a_time(scorer: Scorer, cases: Cases) -> None:
    from transformers import BloomConfig, BloomForCausalLM

    config = BloomConfig(vocab_size=scorer.model.config.vocab_size, hidden_size=32, n_layer=2, n_head=4)
    bloom = Scorer(BloomForCausalLM(config), scorer.tokenizer, EvaluationSettings())
    assert not bloom.row_tokens
    scores = bloom.score(cases.queries[:3], np.ones(3, dtype=bool))
    for index, query in enumerate(cases.queries[:3]):
        expected = reference(bloom.model, bloom.tokenizer, query)
        assert (scores.log_probability[index], scores.log_odds[index]) == pytest.approx(expected, abs=1e-4)


@pytest.mark.slow
def test_swapping_the_marker_ids_inverts_preference_and_steering(model_folder: Path, cases: Cases) -> None:
    """Exactly so where no other marker stands in the context, which both swaps would change alike."""
    queries = cases.queries
    pairs = keep(cases.pairs, np.array([not queries[query].turns for query in cases.pairs.better]))
    steerings = keep(
        cases.steerings, np.array([len(queries[q].turns) == 1 for q in cases.steerings.sibling_if_rejected])
    )
    results = []
    for swapped in (False, True):
        scorer = Scorer.load(model_folder, EvaluationSettings())
        tokenizer = scorer.tokenizer
        if swapped:
            tokenizer.accepted_id, tokenizer.rejected_id = tokenizer.rejected_id, tokenizer.accepted_id
        scores = scorer.score(queries, cases.ask_text)
        measured = measures.preference_accuracy(pairs, scores.log_odds[pairs.better], scores.log_odds[pairs.worse])
        results.append((measured[0].value, measures.steering(steerings, scores.log_probability).value))
    (preference, steering), (preference_swapped, steering_swapped) = results
    assert len(steering) > 10
    assert preference_swapped.tolist() == (1 - preference).tolist()
    assert steering_swapped.tolist() == (1 - steering).tolist()
    assert not np.all(preference == 0.5)
    assert not np.all(steering == 0.5)


def test_a_model_of_nans_is_refused(model_folder: Path) -> None:
    import torch

    scorer = Scorer.load(model_folder, EvaluationSettings())
    with torch.no_grad():
        scorer.model.get_output_embeddings().weight.fill_(float("nan"))
    with pytest.raises(PipelineError, match="learning_rate"):
        scorer.score([Query("bob\nA title\n", (), "word")], np.ones(1, dtype=bool))
