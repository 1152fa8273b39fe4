"""The loss of each token from the logits: likelihood, and unlikelihood for the text of rejected turns.

Neither keeps more than one tensor of the logits' size for the backward pass. Unlikelihood, and likelihood in half
precision, work through the logits in chunks.
"""

from typing import TYPE_CHECKING, Any, NamedTuple

import torch

from adc_pipeline.training.rows.batches import Batch

if TYPE_CHECKING:
    from transformers import PreTrainedModel

# Logits converted to float32 at one time: enough for a GPU, and two megabytes, which fit into a CPU's cache.
CHUNK = {"cpu": 1 << 19, "cuda": 1 << 26}


# What models call the weight of the auxiliary loss of their routers.
_COEFFICIENTS = ("router_aux_loss_coef", "aux_loss_coef")


class Losses(NamedTuple):
    """The losses of a forward pass: of each token, and the auxiliary loss of a mixture of experts, already weighted."""

    tokens: torch.Tensor  # float32 (rows, row)
    auxiliary: torch.Tensor | None  # float32 scalar; None if the model asks for none


class TokenLosses(torch.nn.Module):
    """A causal model that returns the loss of each token instead of its logits.

    The loss is computed inside the module that Accelerate wraps, so that neither mixed precision nor data parallelism
    converts the logits of a whole batch to float32.
    """

    def __init__(self, model: "PreTrainedModel", auxiliary_weight: float = 0.0) -> None:
        super().__init__()
        self.model = model
        self.auxiliary_weight = auxiliary_weight

    def forward(self, batch: Batch) -> Losses:
        """Return -log p of each target, or -log(1 - p) where it is to become unlikely.

        If the batch names its walks, the kernel of `architectures.attention` separates them. Otherwise, and without an
        attention mask, transformers derives from the positions where a sequence begins and masks the rest of the row.
        """
        options: dict[str, Any] = {"position_ids": batch.position_ids, "walks": batch.walks}
        given = {name: value for name, value in options.items() if value is not None}
        found = self.model(input_ids=batch.input_ids, use_cache=False, **given)
        logits, targets = found.logits.flatten(0, 1), batch.targets.flatten()  # (tokens, vocabulary), (tokens,)
        losses: torch.Tensor
        if batch.unlikely is None:
            losses = CrossEntropy.apply(logits, targets)
        else:
            losses = Unlikelihood.apply(logits, targets, batch.unlikely.flatten())
        auxiliary = getattr(found, "aux_loss", None) if self.auxiliary_weight else None
        if auxiliary is not None:
            auxiliary = self.auxiliary_weight * auxiliary.float()
        return Losses(losses.view(batch.targets.shape), auxiliary)

    # Accelerate asks these of a model whose weights FSDP shards, to choose what is gathered at a time.

    @property
    def _no_split_modules(self) -> list[str]:
        # A class may name blocks of other models that it is used in, as Gemma 3 with images does; Accelerate refuses.
        present = {type(module).__name__ for module in self.model.modules()}
        return [name for name in self.model._no_split_modules or () if name in present]

    def get_input_embeddings(self) -> torch.nn.Module:
        return self.model.get_input_embeddings()

    def get_output_embeddings(self) -> torch.nn.Module:
        return self.model.get_output_embeddings()


def auxiliary_weight(model: "PreTrainedModel") -> float:
    """Return the weight of the auxiliary loss that a mixture of experts asks for; 0 if it asks for none.

    `output_router_logits` asks for it. It balances the load of the experts, and is a mean over the tokens of a pass.
    """
    config = model.config.get_text_config()
    if not getattr(config, "output_router_logits", False):
        return 0.0
    owners = ((owner, name) for owner in (model, config) for name in _COEFFICIENTS)
    return next((float(getattr(owner, name)) for owner, name in owners if hasattr(owner, name)), 0.0)


def weighted_loss(losses: torch.Tensor, weights: torch.Tensor, total: float) -> torch.Tensor:
    """Return sum(weights * losses) / total, a scalar; `total` is the sum of weights over the whole step."""
    return (losses * weights).sum() / total


class CrossEntropy(torch.autograd.Function):
    """-log softmax(logits)[target] of each token: float32 (tokens,) from (tokens, vocabulary) and (tokens,).

    PyTorch's own computes the exponentials again in the backward pass, and converts half-precision logits to float32 as
    a whole. This one keeps the probabilities of float32 logits, and half-precision logits as they are, which it works
    through in chunks. float64 logits give float64 losses.
    """

    @staticmethod
    def forward(ctx, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:  # type: ignore[no-untyped-def]
        if logits.dtype == _precision(logits):
            # The kernel of softmax reads and writes a row in the cache. The probabilities take the place of the logits,
            # so that the backward pass computes no exponential again.
            probabilities = logits.softmax(dim=-1)
            normaliser = logits.amax(dim=-1) - probabilities.amax(dim=-1).log_()  # max p = exp(max logit - normaliser)
            ctx.save_for_backward(probabilities, targets)
            return normaliser - logits.gather(-1, targets[:, None])[:, 0]
        normaliser = torch.empty(len(targets), dtype=_precision(logits), device=logits.device)
        for begin, end in _chunks(logits):
            torch.logsumexp(logits[begin:end].to(normaliser.dtype), dim=-1, out=normaliser[begin:end])
        ctx.save_for_backward(logits, targets, normaliser)
        return normaliser - logits.gather(-1, targets[:, None])[:, 0].to(normaliser.dtype)

    @staticmethod
    def backward(ctx, gradient: torch.Tensor):  # type: ignore[no-untyped-def]
        # d loss / d logits = softmax(logits) - one_hot(target)
        saved, targets, *normalisers = ctx.saved_tensors
        if not normalisers:
            result = saved * gradient[:, None]
            return result.scatter_add_(-1, targets[:, None], -gradient[:, None]), None
        (normaliser,) = normalisers
        result = torch.empty_like(saved)
        for begin, end in _chunks(saved):
            part = torch.sub(saved[begin:end], normaliser[begin:end, None]).exp_()
            part.scatter_add_(-1, targets[begin:end, None], part.new_full((end - begin, 1), -1.0))
            result[begin:end] = part.mul_(gradient[begin:end, None])
        return result, None


class Unlikelihood(torch.autograd.Function):
    """-log(1 - p) where `unlikely`, -log p elsewhere, p being softmax(logits)[target].

    Welleck et al. 2019, Neural Text Generation with Unlikelihood Training (https://arxiv.org/abs/1908.04319).
    float32 (tokens,) from logits of (tokens, vocabulary), int64 targets and bool `unlikely` of (tokens,); float64
    logits give float64 losses.

    With u = logits[target] - logsumexp(the other logits), p = sigmoid(u), so that

        -log p = -logsigmoid(u),    -log(1 - p) = -logsigmoid(-u),

    and neither needs a difference from 1. Both stay finite and exact where p is 1 to the last bit of float32, where
    the textbook formula is infinite. With q the softmax of the others and the slope -sigmoid(-u) or sigmoid(u),

        d loss / d logits = d loss / d u * (one_hot(target) - q).
    """

    @staticmethod
    def forward(  # type: ignore[no-untyped-def]
        ctx, logits: torch.Tensor, targets: torch.Tensor, unlikely: torch.Tensor
    ) -> torch.Tensor:
        others = torch.empty(len(targets), dtype=_precision(logits), device=logits.device)
        for begin, end in _chunks(logits):
            part = logits[begin:end].to(others.dtype, copy=True)
            part.scatter_(-1, targets[begin:end, None], -torch.inf)
            torch.logsumexp(part, dim=-1, out=others[begin:end])
        margin = logits.gather(-1, targets[:, None])[:, 0].to(others.dtype) - others
        ctx.save_for_backward(logits, targets, unlikely, others, margin)
        return -torch.nn.functional.logsigmoid(torch.where(unlikely, -margin, margin))

    @staticmethod
    def backward(ctx, gradient: torch.Tensor):  # type: ignore[no-untyped-def]
        logits, targets, unlikely, others, margin = ctx.saved_tensors
        slope = torch.where(unlikely, torch.sigmoid(margin), -torch.sigmoid(-margin)) * gradient
        result = torch.empty_like(logits)
        for begin, end in _chunks(logits):
            part = result[begin:end] if logits.dtype == others.dtype else None
            part = torch.sub(logits[begin:end], others[begin:end, None], out=part).exp_()
            # Overwrites what the target's own logit came to, infinity included.
            part.scatter_(-1, targets[begin:end, None], -1.0)
            part.mul_(-slope[begin:end, None])
            if logits.dtype != others.dtype:
                result[begin:end] = part
        return result, None, None


def _precision(logits: torch.Tensor) -> torch.dtype:
    return torch.promote_types(logits.dtype, torch.float32)


def _chunks(logits: torch.Tensor) -> list[tuple[int, int]]:
    tokens, vocabulary = logits.shape
    size = max(1, CHUNK.get(logits.device.type, 1 << 24) // vocabulary)
    return [(begin, min(begin + size, tokens)) for begin in range(0, tokens, size)]
