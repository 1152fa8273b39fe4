"""The reference scorer: one sequence at a time, no shared prefix, no cache, every logit, as the formula reads."""

from typing import TYPE_CHECKING

from adc_pipeline.evaluation.scoring.likelihoods import Query
from adc_pipeline.training.texts.tokens import MarkerTokenizer

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def context_ids(tokenizer: MarkerTokenizer, query: Query) -> list[int]:
    """The context's tokens, each turn followed by its marker."""
    ids = [*tokenizer.prefix_ids, *tokenizer.ids([query.background])[0], tokenizer.background_id]
    for text, verdict in query.turns:
        ids += [*tokenizer.ids([text])[0], tokenizer.marker_id(verdict)]
    return ids


def by_hand(
    model: "PreTrainedModel", tokenizer: MarkerTokenizer, context: list[int], segment: list[int]
) -> tuple[float, float]:
    """Log-probability of `segment` after `context` in nats, and log P(accepted) − log P(rejected) behind it."""
    import torch

    with torch.inference_mode():
        logits = (
            model(torch.tensor([context + segment], device=model.device), use_cache=False).logits[0].log_softmax(-1)
        )
    places = torch.arange(len(context) - 1, len(context) + len(segment) - 1)
    text = (
        logits[places.to(model.device), torch.tensor(segment, dtype=torch.long, device=model.device)]
        .double()
        .sum()
        .item()
    )
    return text, (logits[-1, tokenizer.accepted_id] - logits[-1, tokenizer.rejected_id]).item()


def reference(model: "PreTrainedModel", tokenizer: MarkerTokenizer, query: Query) -> tuple[float, float]:
    """`by_hand` for a query."""
    return by_hand(model, tokenizer, context_ids(tokenizer, query), tokenizer.ids([query.segment])[0])
