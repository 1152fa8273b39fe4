"""Scores from rows of prefix trees equal the model's own, one sequence at a time."""

from pathlib import Path

import numpy as np
import pytest

from adc_pipeline.errors import PipelineError
from adc_pipeline.evaluation import measures
from adc_pipeline.evaluation.cases import Cases, keep
from adc_pipeline.evaluation.prefix_tree import packed
from adc_pipeline.evaluation.scoring import Query, Scorer, encoded
from adc_pipeline.evaluation.settings import EvaluationSettings
from adc_pipeline.training.tokens import MarkerTokenizer


@pytest.fixture(scope="module")
def scorer(model_folder: Path) -> Scorer:
    return Scorer.load(model_folder, EvaluationSettings())


def by_hand(scorer: Scorer, context: list[int], segment: list[int]) -> tuple[float, float]:
    """Log-probability and log-odds with one plain forward pass over one sequence."""
    import torch

    with torch.inference_mode():
        logits = scorer.model(torch.tensor([context + segment])).logits[0].log_softmax(-1)
    places = range(len(context) - 1, len(context) + len(segment) - 1)
    text = sum(logits[place, id].item() for place, id in zip(places, segment, strict=True))
    tokenizer = scorer.tokenizer
    return text, (logits[-1, tokenizer.accepted_id] - logits[-1, tokenizer.rejected_id]).item()


def context_ids(tokenizer: MarkerTokenizer, query: Query) -> list[int]:
    ids = [*tokenizer.bos_ids, *tokenizer.ids([query.background])[0], tokenizer.background_id]
    for text, verdict in query.turns:
        ids += [*tokenizer.ids([text])[0], tokenizer.marker_id(verdict)]
    return ids


def test_scores_equal_one_sequence_at_a_time(scorer: Scorer, cases: Cases) -> None:
    assert scorer.row_tokens
    queries = cases.queries[:150]
    scores = scorer.score(queries, np.ones(150, dtype=bool))
    assert scores.fits.all()
    assert not scores.cut.any()
    expected = []
    for query in queries:
        segment = scorer.tokenizer.ids([query.segment])[0]
        expected.append(by_hand(scorer, context_ids(scorer.tokenizer, query), segment))
    assert np.array(expected) == pytest.approx(np.stack([scores.log_probability, scores.log_odds], axis=1), abs=1e-4)
    assert np.ptp(scores.log_odds) > 1
    assert scores.tokens.tolist() == [len(scorer.tokenizer.ids([query.segment])[0]) for query in queries]


def test_rows_hold_shared_prefixes_once_and_every_query_once(scorer: Scorer, cases: Cases) -> None:
    what = encoded(cases.queries, scorer.tokenizer, scorer.context_tokens)
    rows = list(packed(what.paths, what.pieces, 512))
    assert sorted(query for row in rows for query in row.queries) == list(range(len(cases.queries)))
    plain = sum(len(what.pieces[piece]) for path in what.paths for piece in path)
    assert sum(len(row.tokens) for row in rows) < plain / 2


def test_a_long_context_keeps_the_start_of_the_background_and_the_nearest_turns(
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
    assert ids[:place] == [*tokenizer.bos_ids, *tokenizer.ids([query.background])[0]][:place]
    assert place >= 15
    whole = context_ids(tokenizer, query) + tokenizer.ids([query.segment])[0]
    assert ids[place + 1 :] == whole[len(whole) - (len(ids) - place - 1) :]
    segment = len(tokenizer.ids([query.segment])[0])
    text, odds = by_hand(scorer, ids[:-segment], ids[-segment:])
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


def test_an_empty_segment_has_probability_one_and_a_verdict(scorer: Scorer) -> None:
    query = Query("bob\nA title\n", (("", "accepted"),), "")
    scores = scorer.score([query], np.ones(1, dtype=bool))
    assert scores.log_probability[0] == 0
    assert scores.log_odds[0] == pytest.approx(by_hand(scorer, context_ids(scorer.tokenizer, query), [])[1], abs=1e-4)


def test_a_model_whose_positions_ignore_the_tree_is_scored_one_query_at_a_time(scorer: Scorer, cases: Cases) -> None:
    from transformers import BloomConfig, BloomForCausalLM

    config = BloomConfig(vocab_size=scorer.model.config.vocab_size, hidden_size=32, n_layer=2, n_head=4)
    bloom = Scorer(BloomForCausalLM(config), scorer.tokenizer, EvaluationSettings())
    assert not bloom.row_tokens
    scores = bloom.score(cases.queries[:3], np.ones(3, dtype=bool))
    for index, query in enumerate(cases.queries[:3]):
        segment = bloom.tokenizer.ids([query.segment])[0]
        expected = by_hand(bloom, context_ids(bloom.tokenizer, query), segment)
        assert (scores.log_probability[index], scores.log_odds[index]) == pytest.approx(expected, abs=1e-4)


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
