"""Probe a model: run it on random texts and compare logits, rather than trust its name or its configuration.

A model is given several texts in one forward pass in three places: training by the attention kernel, training by
positions and a mask, and scoring in prefix trees. Each is faster than a pass for each text, and each silently mixes the
texts of some architecture. `runs_as_alone` asks the model: the logits of two texts that share a pass must be those of
each text alone, and the second's must not move when the first changes. The texts have the lengths of the run, because
chunked attention, top-k attention, LongRoPE and tables of positions only show beyond some length; with 8 tokens all of
them look right.

Differences are measured against how far a text's own logits move when its first half changes, so that a model that
knows nothing yet is held to the same standard. A probe costs about six forward passes.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch

from adc_pipeline.core.errors import PipelineError, first_line
from adc_pipeline.training.architectures.attention import NAME, Separation, Spans, UnsupportedAttention, attend_apart
from adc_pipeline.training.architectures.context import context_length
from adc_pipeline.training.architectures.memory import is_out_of_memory

if TYPE_CHECKING:
    from transformers import PreTrainedModel

Texts = Sequence[torch.Tensor]  # int64 (tokens,) each
Logits = list[torch.Tensor]  # (tokens, vocabulary) each

# The largest difference that counts as the same, as a share of what the first half of a text changes.
TOLERANCE, TOLERANCE_IN_HALF_PRECISION = 0.01, 0.1
SHORT_TEXT = 16
# What models raise for an input that they cannot run.
FAULTS = (ImportError, RuntimeError, TypeError, ValueError, AttributeError, LookupError, AssertionError)


def runs_as_alone(
    model: "PreTrainedModel", lengths: Sequence[int], together: Callable[[Texts], Logits], shared: int = 0
) -> bool:
    """Return whether texts that share a forward pass get the logits that each gets alone.

    `lengths` are those of the texts, `together` runs them in one pass, and `shared` is the number of leading tokens
    that the texts have in common, where the pass holds a common prefix once. A model that fails in the pass is not able
    to run it; one that cannot run a text alone raises PipelineError, and too little memory raises its error.
    """
    first, *others = random_texts(model, lengths, shared)
    changed = other_ids(model, first, slice(shared, None))
    with evaluating(model):
        alone = [read_alone(model, text) for text in (first, *others)]
        tolerance = tolerated(alone[0]) * context_effect(model, first, alone[0])
        try:
            found = together([first, *others])
            moved = together([changed, *others])
        except (UnsupportedAttention, *FAULTS) as error:
            if is_out_of_memory(error):
                raise
            return False
        same = all(distance(one, other) <= tolerance for one, other in zip(found, alone, strict=True))
        return same and all(distance(one, other) <= tolerance for one, other in zip(moved[1:], found[1:], strict=True))


def looks_ahead(model: "PreTrainedModel") -> bool:
    """Return whether logits depend on later tokens, as in the encoders that transformers loads as causal models."""
    (text,) = random_texts(model, [SHORT_TEXT])
    half = len(text) // 2
    with evaluating(model):
        alone = read_alone(model, text)
        moved = logits(model, other_ids(model, text, slice(half, None)))
        return distance(moved[:half], alone[:half]) > tolerated(alone) * context_effect(model, text, alone)


def counts_from_zero(model: "PreTrainedModel") -> bool:
    """Return whether positions from 0 on are those that a model gives a text by itself, if it takes any.

    RoBERTa begins behind its token for padding. Packed walks and cached generation number positions from 0.
    """
    (text,) = random_texts(model, [SHORT_TEXT])
    with evaluating(model):
        alone = logits(model, text)
        positions = torch.arange(len(text), device=model.device)
        try:
            found = model(input_ids=text[None], position_ids=positions[None], use_cache=False).logits[0]
        except FAULTS:
            return True
        return distance(found, alone) <= tolerated(alone) * context_effect(model, text, alone)


def writes_as_it_reads(model: "PreTrainedModel") -> bool:
    """Return whether transformers' `generate` gives a text the logits of a forward pass.

    XLM puts a token to be filled in behind every text, so that its replies would not be what it has learned, and XLNet
    fails.
    """
    from transformers import GenerationConfig

    (text,) = random_texts(model, [SHORT_TEXT])
    # Options that are not set here would come from the model's own, such as a number of beams.
    own, model.generation_config = model.generation_config, GenerationConfig()
    once = GenerationConfig(
        max_new_tokens=1, use_cache=False, pad_token_id=0, output_logits=True, return_dict_in_generate=True
    )
    with evaluating(model):
        alone = logits(model, text)
        try:
            ids = text[None]
            (found,) = model.generate(ids, attention_mask=torch.ones_like(ids), generation_config=once).logits  # type: ignore[operator]
        except FAULTS as error:
            if is_out_of_memory(error):
                raise
            return False
        finally:
            model.generation_config = own
        return distance(found, alone[-1:]) <= tolerated(alone) * context_effect(model, text, alone)


def knows(model: "PreTrainedModel", ids: Sequence[int]) -> bool:
    """Return whether a model reads these ids and gives each of them a finite logit."""
    with evaluating(model):
        found = logits(model, torch.tensor(ids, device=model.device))
        return found.shape[-1] > max(ids) and bool(found.isfinite().all())


def computes_auxiliary_loss(model: "PreTrainedModel") -> bool:
    """Return whether the model's code computes the auxiliary loss of its routers."""
    with evaluating(model):
        (text,) = random_texts(model, [SHORT_TEXT])
        return getattr(model(input_ids=text[None], use_cache=False), "aux_loss", None) is not None


def without_gradient(model: "PreTrainedModel") -> set[str]:
    """Return the names of the weights to be trained that a short text gives no gradient.

    They are those of an image encoder, of experts that no token is sent to, or adapters that a model reads past.
    """
    (text,) = random_texts(model, [SHORT_TEXT])
    attention = attention_of(model)
    if attention == NAME:
        # The kernel wants the lengths of walks, and half precision on a GPU.
        set_attention(model, "eager")
    with evaluating(model), torch.enable_grad():
        logits(model, text).float().sum().backward()
    if attention == NAME:
        set_attention(model, attention)
    found = {name for name, weight in model.named_parameters() if weight.requires_grad and weight.grad is None}
    model.zero_grad(set_to_none=True)
    return found


def choose_separation(
    model: "PreTrainedModel", lengths: tuple[int, int], longest: int, row: int, kernel: bool
) -> Separation:
    """Choose how the walks of a step are kept apart, and switch the model's attention to the kernel if it is that.

    `lengths` are those of the shortest and the longest piece of the run, `longest` the most tokens that a piece may
    have, and `row` those of a row of the kernel, which is only tried if `kernel` says so.
    """
    # First within the context: a model that counts positions by itself would read past its table of them.
    rows = sorted({min(row, context_length(model) or row), row})
    if kernel and all(kernel_runs_as_alone(model, lengths, longest, each) for each in rows):
        set_attention(model, NAME)
        return "kernel"
    return "positions" if positions_run_as_alone(model, lengths, longest) else "passes"


def kernel_runs_as_alone(model: "PreTrainedModel", lengths: tuple[int, int], longest: int, row: int) -> bool:
    """Probe a full row of the kernel: one longest piece, one short piece, and pieces that fill the row."""
    long, short = two_pieces(lengths, row)
    sizes = [long, short]
    while left := row - sum(sizes):
        sizes.append(min(left, longest))
    device = model.device

    def together(texts: Texts) -> Logits:
        ids = torch.cat([*texts, *random_texts(model, sizes[2:])])[None]  # (1, row)
        options = {
            "position_ids": restarting(sizes, row, device)[None],  # (1, row)
            "walks": Spans.of(sizes, longest).to(device),
            "use_cache": False,
        }
        with attending_by(model, NAME, attend_apart) as callers:
            found = of_texts(model(input_ids=ids, **options).logits[0], texts)
            if len(callers) != model.config.get_text_config().num_hidden_layers:
                raise UnsupportedAttention
            # The kernel of a GPU has no dropout, which only shows in training.
            model.train()
            model(input_ids=ids, **options)
            model.eval()
        return found

    return runs_as_alone(model, [long, short], together)


def positions_run_as_alone(model: "PreTrainedModel", lengths: tuple[int, int], row: int) -> bool:
    """Probe a pass of two rows whose positions restart: a long piece and a short one, and the longest piece alone."""
    long, short = two_pieces(lengths, row)
    alone = min(max(lengths), row)
    device = model.device

    def together(texts: Texts) -> Logits:
        ids = torch.zeros(2, row, dtype=torch.long, device=device)  # (rows, row)
        ids[0, : long + short] = torch.cat([*texts])
        ids[1, :alone] = random_texts(model, [alone])[0]
        positions = torch.stack([restarting([long, short], row, device), restarting([alone], row, device)])
        return of_texts(model(input_ids=ids, position_ids=positions, use_cache=False).logits[0], texts)

    return runs_as_alone(model, [long, short], together)


def two_pieces(lengths: tuple[int, int], row: int) -> tuple[int, int]:
    """Return the lengths of a long and a short piece that fit into a row together."""
    short = min(*lengths, row - 1)
    return min(max(lengths), row - short), short


def restarting(sizes: Sequence[int], row: int, device: torch.device) -> torch.Tensor:
    """Return the positions in a row, (row,), which restart at 0 in each of the sequences and in what is left."""
    sizes = [*sizes, row - sum(sizes)]
    return torch.cat([torch.arange(size, device=device) for size in sizes])


def of_texts(row: torch.Tensor, texts: Texts) -> Logits:
    """Return the logits of the texts that a row of (tokens, vocabulary) begins with."""
    sizes = [len(text) for text in texts]
    # A copy, so that the row's memory is freed.
    return [*row[: sum(sizes)].clone().split(sizes)]


def attention_of(model: "PreTrainedModel") -> str:
    """Return the name of the attention of a model's language part."""
    return str(model.config.get_text_config()._attn_implementation)


def set_attention(model: "PreTrainedModel", name: str) -> None:
    """Have the language part of a model attend in this way. Other parts, as Gemma 4's for audio, know not every way."""
    text = model.config.get_text_config()
    parts = {part: name for part in model.config.sub_configs if getattr(model.config, part, None) is text}
    model.set_attn_implementation(parts or name)


@contextmanager
def attending_by(model: "PreTrainedModel", name: str, attend: Callable[..., Any]) -> Iterator[set[int]]:
    """Have the model attend by `attend`, under this name; yields the ids of the modules that call it.

    The function stays registered under the name, and the model's own attention is restored.
    """
    from transformers import AttentionInterface

    callers: set[int] = set()

    def counted(module: torch.nn.Module, *given: Any, **options: Any) -> Any:
        callers.add(id(module))
        return attend(module, *given, **options)

    before = attention_of(model)
    AttentionInterface.register(name, counted)
    try:
        set_attention(model, name)
        yield callers
    finally:
        AttentionInterface.register(name, attend)
        set_attention(model, before)


def random_texts(model: "PreTrainedModel", lengths: Sequence[int], shared: int = 0) -> list[torch.Tensor]:
    """Draw texts of these lengths, the same for the same lengths, whose first `shared` tokens are equal."""
    draw = torch.Generator().manual_seed(0)
    device = model.device
    texts = [torch.randint(vocabulary(model), (length,), generator=draw) for length in lengths]
    for text in texts[1:]:
        text[:shared] = texts[0][:shared]
    return [text.to(device) for text in texts]


def other_ids(model: "PreTrainedModel", text: torch.Tensor, part: slice) -> torch.Tensor:
    """Return a text with another id in each place of a part."""
    changed = text.clone()
    changed[part] = (text[part] + 1) % vocabulary(model)
    return changed


def vocabulary(model: "PreTrainedModel") -> int:
    return int(model.config.get_text_config().vocab_size)


def logits(model: "PreTrainedModel", text: torch.Tensor) -> torch.Tensor:
    """Return the logits of one text in a forward pass of its own, (tokens, vocabulary)."""
    found: torch.Tensor = model(input_ids=text[None], use_cache=False).logits[0]
    return found


def read_alone(model: "PreTrainedModel", text: torch.Tensor) -> torch.Tensor:
    """Return `logits`; raise PipelineError if the model cannot run a text of this length.

    A table of positions may be shorter than the configuration states: RoBERTa's first two places are for padding. A
    model that cannot run a short text either is broken.
    """
    try:
        return logits(model, text)
    except FAULTS as error:
        if is_out_of_memory(error):
            raise
        if len(text) > SHORT_TEXT:
            read_alone(model, text[:SHORT_TEXT])
        else:
            raise PipelineError(
                f"The model, a {type(model).__name__}, cannot be run ({first_line(error)}): correct its config.json,"
                " update transformers, or choose another base model."
            ) from error
        raise PipelineError(
            f"The model, a {type(model).__name__}, cannot run a text of {len(text)} tokens ({first_line(error)}); lower"
            " `sequence_length` of the training and `max_context_tokens` of the evaluation, or choose another base"
            " model."
        ) from error


def context_effect(model: "PreTrainedModel", text: torch.Tensor, alone: torch.Tensor) -> float:
    """Return how far the logits of the second half of a text move when its first half changes."""
    half = len(text) // 2
    return distance(logits(model, other_ids(model, text, slice(0, half)))[half:], alone[half:])


def distance(one: torch.Tensor, other: torch.Tensor) -> float:
    """Return the largest difference at any token, as the norm over the vocabulary of (tokens, vocabulary) logits."""
    return float((one.float() - other.float()).norm(dim=-1).max()) if len(one) else 0.0


def tolerated(alone: torch.Tensor) -> float:
    return TOLERANCE if alone.dtype in (torch.float32, torch.float64) else TOLERANCE_IN_HALF_PRECISION


@contextmanager
def evaluating(model: "PreTrainedModel") -> Iterator[None]:
    """Run the block in evaluation mode and without gradients."""
    training = model.training
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        model.train(training)
