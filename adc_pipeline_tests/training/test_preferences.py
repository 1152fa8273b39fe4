"""`dpo` and `kto`: the completions, and the gradient of a step against the papers' formulas, one text at a time."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from adc_pipeline.core.errors import PipelineError
from adc_pipeline.training.architectures.attention import Separation
from adc_pipeline.training.architectures.loading import load_model
from adc_pipeline.training.loop import devices
from adc_pipeline.training.loop.interval import PartLosses
from adc_pipeline.training.loop.run import accumulate_gradients, totals
from adc_pipeline.training.loop.train import train
from adc_pipeline.training.objectives.losses import TokenLosses
from adc_pipeline.training.objectives.preferences import Preference, Reference
from adc_pipeline.training.rows.batches import NOTHING, Batch
from adc_pipeline.training.rows.data import TrainingData
from adc_pipeline.training.rows.packing import cut_into_pieces
from adc_pipeline.training.settings import Objective, TrainingJob, TrainingSettings
from adc_pipeline.training.texts.arrangement import arrangement
from adc_pipeline.training.texts.completions import encode_completions
from adc_pipeline.training.texts.dataset import TokenizedSplit, load_split, tokenize_split
from adc_pipeline.training.texts.layout import segments
from adc_pipeline.training.texts.tokens import MarkerTokenizer
from adc_pipeline.walks.markers import FORMATS
from adc_pipeline_tests.training.walks import walk, write_dataset

OBJECTIVES: tuple[Objective, ...] = ("dpo", "kto")
SETTINGS = TrainingSettings(
    sequence_length=64, tokens_per_step=512, preference_beta=0.3, max_steps=3, checkpoint_every=1, log_every=1
)
# r and a are verdicts; a place ends with its accepted turn.
TURNS = {"one": "rra a ra", "two": "a", "three": "ra rra"}


def records() -> list[dict[str, Any]]:
    spelt = {"r": "rejected", "a": "accepted"}
    found = []
    for name, verdicts in TURNS.items():
        said = [("ann", f"{name} reply {number}", spelt[one]) for number, one in enumerate(verdicts.replace(" ", ""))]
        found.append(walk(f"bo\n{name}\ntext", said, name))
    return found


def expected(objective: Objective) -> list[tuple[list[str], str, bool]]:
    """Of each completion the texts of its context, its own text, and its verdict, by a plain loop over places."""
    found: list[tuple[list[str], str, bool]] = []
    before: list[str] = []
    for record, places in zip(records(), TURNS.values(), strict=True):
        background, *texts = segments(record, FORMATS["default"])
        context, number = [background], 0
        for place in places.split():
            accepted = texts[number + len(place) - 1]
            for at in range(number, number + len(place)):
                own = record["turns"][at]["verdict"] == "accepted"
                if objective == "dpo" and not own:
                    found += [(list(context), accepted, True), (list(context), texts[at], False)]
                elif objective == "kto" and before:
                    found += [(list(context), texts[at], own), (list(context), before[at % len(before)], True)]
            context.append(accepted)
            number += len(place)
        before = texts
    return found


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_completions_are_siblings_behind_the_accepted_turns_above_them(objective: Objective, small_model: Path) -> None:
    tokenizer = MarkerTokenizer.load(small_model)
    found = list(encode_completions(tokenizer, records(), arrangement(replace(SETTINGS, objective=objective))))
    assert len(found) == len(expected(objective)) > 6
    for one, (context, text, accepted) in zip(found, expected(objective), strict=True):
        assert one.given is not None
        parts = [*tokenizer.prefix_ids, *tokenizer.ids([context[0]])[0], tokenizer.background_id]
        for turn in context[1:]:
            parts += [*tokenizer.ids([turn])[0], tokenizer.accepted_id]
        own = [*tokenizer.ids([text])[0], tokenizer.accepted_id]
        assert one.ids.tolist() == [*parts, *own]
        assert one.given.tolist() == [True] * len(parts) + [False] * len(own)
        assert one.verdicts == (*["accepted"] * (len(context) - 1), "accepted" if accepted else "rejected")
        assert one.turn.tolist()[-len(own) :] == [len(context) - 1] * len(own)


def test_both_completions_of_a_unit_keep_the_same_end_of_a_long_context(small_model: Path) -> None:
    tokenizer, settings = MarkerTokenizer.load(small_model), replace(SETTINGS, objective="dpo")
    long = walk("b " * 90, [("s", "word " * 12, "rejected"), ("s", "t", "accepted")])
    first, second = encode_completions(tokenizer, [long], arrangement(settings))
    assert first.given is not None
    assert second.given is not None
    context, other = first.ids[first.given].tolist(), second.ids[second.given].tolist()
    assert context == other
    assert context[-1] == tokenizer.background_id
    assert max(len(first.ids), len(second.ids)) == 64
    too_long = walk("b", [("s", "word " * 90, "rejected"), ("s", "t", "accepted")])
    (nothing,) = encode_completions(tokenizer, [too_long], arrangement(settings))
    assert (len(nothing.ids), nothing.turns_left_out) == (0, 1)


def tokenized(objective: Objective, small_model: Path, folder: Path) -> TokenizedSplit:
    settings = replace(SETTINGS, objective=objective)
    dataset = write_dataset(folder / "d", train=records())
    tokenizer = MarkerTokenizer.load(small_model)
    tokenize_split(tokenizer, dataset, "train", folder / "tokens", arrangement(settings))
    return load_split(folder / "tokens")


def by_formula(objective: Objective, split: TokenizedSplit, model: Any, reference: Any, beta: float) -> torch.Tensor:
    """The mean loss of all units as the papers write it: each text by itself, the completion's tokens summed."""

    def log_p(of: Any, text: int) -> torch.Tensor:
        begin, end = split.walk_start[text : text + 2]
        ids = torch.from_numpy(split.ids[begin:end].astype(np.int64))
        logits = of(input_ids=ids[None]).logits[0].log_softmax(-1)
        own = torch.from_numpy(~split.given[begin:end])
        return logits[:-1].gather(-1, ids[1:, None])[:, 0][own[1:]].sum()

    ratios = []
    for text in range(split.walks):
        with torch.no_grad():
            fixed = log_p(reference, text)
        ratios.append(log_p(model, text) - fixed)
    pairs = list(zip(ratios[::2], ratios[1::2], strict=True))
    if objective == "dpo":
        return torch.stack([-torch.log(torch.sigmoid(beta * (won - lost))) for won, lost in pairs]).mean()
    kl = max(0.0, sum(other.item() for _, other in pairs) / len(pairs))
    assert kl > 0.005
    losses = []
    for number, (own, _) in enumerate(pairs):
        accepted = bool(split.accepted[split.turn_start[2 * number + 1] - 1])
        losses.append(1 - torch.sigmoid(beta * (own - kl) if accepted else beta * (kl - own)))
    return torch.stack(losses).mean()


@pytest.mark.parametrize(("separation", "at_once"), [("positions", 4096), ("positions", 64), ("passes", 64)])
@pytest.mark.parametrize("objective", OBJECTIVES)
def test_the_gradient_of_a_step_is_that_of_the_formula(
    objective: Objective, separation: Separation, at_once: int, small_model: Path, tmp_path: Path
) -> None:
    split = tokenized(objective, small_model, tmp_path)
    settings = replace(SETTINGS, objective=objective, tokens_per_forward=at_once, tokens_per_step=4096)
    pieces = cut_into_pieces(split, settings.sequence_length)
    nothing = replace(split, walk_start=split.walk_start[:1], turn_start=split.turn_start[:1], conversation_ids=[])
    held_out = cut_into_pieces(nothing, settings.sequence_length)
    data = TrainingData((split, nothing), (pieces, held_out), None, settings, 1, separation, False)
    threads, accelerator = torch.get_num_threads(), devices.start()
    torch.set_num_threads(threads)
    # The reference is another model, to which completions are less likely by a log-ratio of the order of 1.
    model, reference = load_model(small_model).double(), load_model(small_model).double()
    torch.manual_seed(0)
    for parameter in reference.parameters():
        parameter.data.add_(0.02 * torch.randn_like(parameter))
    starts = {name: weight.clone() for name, weight in model.state_dict().items()}
    model.load_state_dict(reference.state_dict())
    losses = TokenLosses(model)

    def evaluate(batch: Batch) -> torch.Tensor:
        with torch.no_grad():
            return losses(batch).tokens

    preference = Preference(settings, data, tmp_path / "reference", evaluate, accelerator)
    model.load_state_dict(starts)
    loss = by_formula(objective, split, model, reference, 0.3)
    loss.backward()
    wanted = [parameter.grad.clone() for parameter in model.parameters() if parameter.grad is not None]
    model.zero_grad()

    # One step holds all units, three times each.
    rows = data.train.order.rows(0, 3 * data.train.order.rows_per_epoch)
    passes, found = preference.weigh(data.train.passes(rows))
    assert (len(passes) > 1) == (at_once == 64)
    assert float(found) == pytest.approx(loss.item(), rel=1e-5)
    assert abs(loss.item() - {"dpo": math.log(2), "kto": 0.5}[objective]) > 5e-4
    step = totals(accelerator, passes, False, False)._replace(weight=1.0)
    parts = PartLosses(accelerator.device)
    parts._sums = parts._sums.double()
    accumulate_gradients(accelerator, losses, passes, step, parts)
    for parameter, gradient in zip(model.parameters(), wanted, strict=True):
        torch.testing.assert_close(parameter.grad, gradient, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("separation", ["positions", "kernel", "passes"])
@pytest.mark.parametrize("processes", [3, 40])
def test_several_processes_validate_on_every_unit_once(
    processes: int, separation: Separation, small_model: Path, tmp_path: Path
) -> None:
    split = tokenized("dpo", small_model, tmp_path)
    settings = replace(SETTINGS, objective="dpo", tokens_per_forward=256, validation_tokens=100_000)
    pieces = cut_into_pieces(split, settings.sequence_length)
    data = TrainingData((split, split), (pieces, pieces), None, settings, processes, separation, False)
    reference = Reference(data.held_out, np.zeros(len(split.accepted)))
    found = []
    for process in range(processes):
        passes = data.validation_passes(process)
        losses = [torch.zeros(batch.parts.shape) for batch in passes]
        # A process without rows of its own takes one again, which does not count.
        found += reference.units(passes, losses).turns.tolist()
    assert sorted(found) == sorted(split.turn_start[1:] - 1)


@pytest.mark.parametrize("separation", ["positions", "kernel"])
def test_processes_make_equally_many_passes_of_rows_that_are_divided(
    separation: Separation, small_model: Path, tmp_path: Path
) -> None:
    """With FSDP they gather the weights for each pass together, and would wait for one another for ever."""
    split, processes = tokenized("dpo", small_model, tmp_path), 3
    settings = replace(SETTINGS, objective="dpo", tokens_per_forward=64, validation_tokens=100_000)
    pieces = cut_into_pieces(split, settings.sequence_length)
    data = TrainingData((split, split), (pieces, pieces), None, settings, processes, separation, False)
    repeated = []
    for step in (1, 2, 3, None):
        found = [
            data.validation_passes(process) if step is None else data.passes(data.rows(step), process)
            for process in range(processes)
        ]
        assert len(set(map(len, found))) == 1
        repeated += [batch for passes in found for batch in passes if not batch.counts]
        if step:
            rows = data.rows(step)
            weight = sum(float(batch.weights.sum()) for passes in found for batch in passes)
            assert weight == sum(float(batch.weights.sum()) for batch in data.train.passes(rows))
    assert repeated
    assert all((batch.parts == NOTHING).all() and not batch.weights.any() for batch in repeated)


@pytest.mark.slow
@pytest.mark.parametrize("objective", OBJECTIVES)
def test_a_training_prefers_what_was_accepted_and_resumes_with_its_reference(
    objective: Objective, small_model: Path, tmp_path: Path
) -> None:
    dataset = write_dataset(tmp_path / "d", train=records() * 3, validation=records())
    settings = replace(SETTINGS, objective=objective, max_steps=12, learning_rate=1e-2)
    job = TrainingJob(settings, dataset, small_model, tmp_path / "whole", tmp_path / "work")
    facts = train(job)
    assert (facts["markers"], facts["measures_without_meaning"]) == ("neutral", ["verdict_calibration", "steering"])
    assert facts["final"]["validation_loss"] < {"dpo": math.log(2), "kto": 0.5}[objective]
    assert facts["final"]["validation_preference_accuracy"] > 0.5
    # The same from the checkpoint before the last step; the reference is that of the first start.
    newest = max((job.work / "checkpoints").iterdir())
    newest.rename(tmp_path / "gone")
    again = train(replace(job, output=tmp_path / "again"))
    assert again["final"]["validation_loss"] == facts["final"]["validation_loss"]
    weights = [(tmp_path / name / "model.safetensors").read_bytes() for name in ("whole", "again")]
    assert weights[0] == weights[1]


@pytest.mark.slow
def test_a_reference_covers_what_a_run_needs_that_goes_on_with_other_passes(small_model: Path, tmp_path: Path) -> None:
    """Ended before its first checkpoint, as by too little memory, and run again with smaller passes and more texts."""
    dataset = write_dataset(tmp_path / "d", train=records() * 8, validation=records() * 4)
    before = replace(SETTINGS, objective="dpo", max_steps=1, checkpoint_every=0, validation_tokens=1)
    job = TrainingJob(before, dataset, small_model, tmp_path / "one", tmp_path / "work")
    train(job)
    after = replace(before, tokens_per_forward=64, validation_tokens=10_000)
    resumed = train(replace(job, settings=after, output=tmp_path / "two"))
    alone = train(replace(job, settings=after, output=tmp_path / "three", work=tmp_path / "other"))
    assert resumed["final"]["validation_loss"] == alone["final"]["validation_loss"]


@pytest.mark.parametrize(("objective", "lacks"), [("dpo", "beside a rejected one"), ("kto", "of two conversations")])
def test_data_without_any_unit_are_told_by_what_the_objective_needs(
    objective: Objective, lacks: str, small_model: Path, tmp_path: Path
) -> None:
    dataset = write_dataset(tmp_path / "d", train=[walk("bo\none\ntext", [("ann", "yes", "accepted")], "one")])
    job = TrainingJob(
        replace(SETTINGS, objective=objective), dataset, small_model, tmp_path / "output", tmp_path / "work"
    )
    with pytest.raises(PipelineError, match=rf"has nothing for `objective` {objective}, which needs .*{lacks}"):
        train(job)


def test_ablations_of_markers_and_verdicts_are_refused() -> None:
    for wrong in ({"markers": "neutral"}, {"verdicts": "shuffled"}):
        for objective in OBJECTIVES:
            with pytest.raises(PipelineError, match="change one of the two"):
                TrainingSettings(objective=objective, **wrong)  # type: ignore[arg-type]
