"""The base model, which both fine-tunes start from and evaluation compares with, and its loss a token.

A small Llama with a tokenizer of its own, or any causal language model that transformers can load
without running somebody else's code. Markers become tokens whose embeddings begin at the mean of the
old ones (Hewitt 2021, https://nlp.stanford.edu/~johnhew/vocab-expansion.html): a new row then neither
dominates nor vanishes in the softmax. Making the small one takes about 1 s beside its imports.
"""

from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from adc_pipeline.core.atomic import written_aside
from adc_pipeline.core.errors import PipelineError, UnreachableError, first_line, is_network_fault
from adc_pipeline.training.batches import Batch
from adc_pipeline.training.dataset import TokenizedSplit
from adc_pipeline.training.losses import CrossEntropy, Unlikelihood
from adc_pipeline.training.settings import BaseModelSettings
from adc_pipeline.training.tokenizer import add_markers, marker_ids, train_tokenizer
from adc_pipeline.walks.markers import Markers

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

# Matrix units want the vocabulary in multiples of this where the embeddings have to grow anyway.
MULTIPLE = 64


class TokenLosses(torch.nn.Module):
    """A causal model that returns the loss of each token in place of its logits.

    The loss is computed inside the module that Accelerate wraps, so that neither mixed precision nor data
    parallelism turns a whole batch of logits into float32.
    """

    def __init__(self, model: "PreTrainedModel") -> None:
        super().__init__()
        self.model = model

    def forward(self, batch: Batch) -> torch.Tensor:
        """float32 of (rows, row length): -log p of each target, or -log(1 - p) where the batch says so.

        Where the batch names its walks, the model attends by them (see `attention`). Otherwise, and without
        an attention mask, transformers reads from the positions where a sequence begins and masks the
        rest of the row.
        """
        apart = {} if batch.walks is None else {"walks": batch.walks}
        found = self.model(input_ids=batch.input_ids, position_ids=batch.position_ids, use_cache=False, **apart)
        logits, targets = found.logits.flatten(0, 1), batch.targets.flatten()
        losses: torch.Tensor
        if batch.unlikely is None:
            losses = CrossEntropy.apply(logits, targets)
        else:
            losses = Unlikelihood.apply(logits, targets, batch.unlikely.flatten())
        return losses.view(batch.targets.shape)

    # What Accelerate asks of a model whose weights FSDP is to spread, to choose what is gathered at a time.

    @property
    def _no_split_modules(self) -> Any:
        return self.model._no_split_modules

    def get_input_embeddings(self) -> torch.nn.Module:
        return self.model.get_input_embeddings()

    def get_output_embeddings(self) -> torch.nn.Module:
        return self.model.get_output_embeddings()


def check_base_model(settings: BaseModelSettings) -> None:
    """Raise PipelineError where the base model cannot be had, at the price of reading its configuration."""
    if settings.name != "small":
        _commit(settings)


def prepare_base_model(
    settings: BaseModelSettings, markers: Markers, texts: Iterable[str], out: Path
) -> dict[str, Any]:
    """Write the folder `out`: model and tokenizer, markers included; returns facts about them.

    `texts` are the texts that a small model's tokenizer is trained on; a named model ignores them.
    """
    if settings.name == "small":
        model, tokenizer = _small(settings, markers, texts)
        commit = None
    else:
        model, tokenizer, commit = _named(settings)
        _widen(model, tokenizer, markers)
    with written_aside(out) as partial:
        model.save_pretrained(partial)
        tokenizer.save_pretrained(partial)
    return {
        **asdict(settings),
        "commit": commit,
        "architecture": type(model).__name__,
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "vocabulary_size": len(tokenizer),
        "embedding_rows": _embedding_rows(model),
    }


def load_model(folder: Path) -> "PreTrainedModel":
    """The model of a folder that `prepare_base_model` or a fine-tune wrote, in float32."""
    from transformers import AutoModelForCausalLM

    model: PreTrainedModel = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, local_files_only=True)
    return model


def compile_blocks(model: "PreTrainedModel") -> None:
    """Compile each transformer block, which are all alike, rather than the whole: once instead of L times."""
    blocks = set(model._no_split_modules or ())
    for module in model.modules():
        if type(module).__name__ in blocks:
            module.compile()


def check_context(model: "PreTrainedModel", row: int) -> None:
    """Raise PipelineError where rows of `row` tokens are longer than the sequences the model was made for."""
    context = context_length(model)
    if context is not None and row > context:
        raise PipelineError(
            f"`sequence_length` {row} is longer than the {context} tokens of the base model's context; lower it or"
            " choose another base model."
        )


def check_backgrounds(model: "PreTrainedModel", split: TokenizedSplit) -> None:
    """Raise PipelineError where the model's context, half of which is the turns', holds few whole backgrounds."""
    context = context_length(model)
    if context is None or not split.walks:
        return
    lengths = np.add.reduceat(split.turn < 0, split.walk_start[:-1], dtype=np.int64)
    too_long = float((lengths > context // 2).mean())
    if too_long > 0.5:
        raise PipelineError(
            f"The base model's context of {context} tokens is too short: the backgrounds of {too_long:.0%} of the walks"
            " take more than half of it; choose a base model with a longer context."
        )


def context_length(model: "PreTrainedModel") -> int | None:
    """The most tokens the model was made for, where its configuration says so."""
    config = model.config.get_text_config()
    for name in ("max_position_embeddings", "max_seq_len", "max_target_positions"):
        if isinstance(found := getattr(config, name, None), int):
            return found
    return None


def check_packing(model: "PreTrainedModel") -> None:
    """Raise PipelineError where the model lets one packed sequence see another; two tiny forward passes.

    It is the model that turns positions into a mask; some architectures (recurrent ones among them) do
    not, and would learn from a stranger's conversation without any error.
    """
    ids = torch.arange(8).remainder(model.config.get_text_config().vocab_size)[None]
    positions = torch.tensor([[0, 1, 2, 3, 0, 1, 2, 3]])
    training = model.training
    model.eval()
    with torch.no_grad():
        try:
            packed = model(input_ids=ids, position_ids=positions, use_cache=False).logits[:, 4:]
            alone = model(input_ids=ids[:, 4:], position_ids=positions[:, 4:], use_cache=False).logits
            same = torch.allclose(packed, alone, atol=1e-3, rtol=1e-3)
        except TypeError:
            same = False
    model.train(training)
    if not same:
        raise PipelineError(
            f"The base model, a {type(model).__name__}, cannot keep packed walks apart by their"
            " positions; choose a base model of another architecture."
        )


def _small(
    settings: BaseModelSettings, markers: Markers, texts: Iterable[str]
) -> tuple["PreTrainedModel", "PreTrainedTokenizerBase"]:
    from transformers import LlamaConfig, LlamaForCausalLM

    tokenizer = train_tokenizer(texts, settings.vocabulary, settings.context)
    add_markers(tokenizer, markers)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=settings.width,
        # A gated block of 8/3 has the parameters of a plain one of 4; multiples of 64 suit the kernels.
        intermediate_size=max(64, 64 * round(8 * settings.width / 3 / 64)),
        num_hidden_layers=settings.layers,
        num_attention_heads=settings.heads,
        max_position_embeddings=settings.context,
        # sqrt(2 / (5 width)), Nguyen & Salazar 2019, which a narrow model needs to learn copying soon;
        # the usual 0.02 is made for widths above a thousand.
        initializer_range=(2 / (5 * settings.width)) ** 0.5,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        model = LlamaForCausalLM(config)
    ids = marker_ids(tokenizer, markers)
    _start_at_mean(model, min(ids), ids)
    return model, tokenizer


def _place(settings: BaseModelSettings) -> str:
    """Where transformers is to look: a folder, whose path may begin with ~, or a Hub name."""
    folder = Path(settings.name).expanduser()
    return str(folder) if folder.is_dir() else settings.name


def _named(
    settings: BaseModelSettings,
) -> tuple["PreTrainedModel", "PreTrainedTokenizerBase", str | None]:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    commit = _commit(settings)
    try:
        # Configuration, weights and tokenizer of one and the same commit, even while the branch moves on.
        where = {"revision": commit or settings.revision or "main", "trust_remote_code": False}
        tokenizer = AutoTokenizer.from_pretrained(_place(settings), **where)
        model = AutoModelForCausalLM.from_pretrained(_place(settings), dtype=torch.float32, **where)
    except (OSError, ValueError, ImportError) as error:
        raise _unusable(settings, error) from error
    if _looks_ahead(model):
        raise PipelineError(
            f"The base model's `name` {settings.name!r} is a {type(model).__name__} that sees the tokens it is to"
            " predict; choose a causal language model."
        )
    return model, tokenizer, commit


def _looks_ahead(model: "PreTrainedModel") -> bool:
    """Whether the logits depend on later tokens, as those of an encoder do that transformers loads as well."""
    ids = torch.arange(8).remainder(model.config.get_text_config().vocab_size)[None]
    with torch.no_grad():
        one, other = (model(input_ids=text).logits[:, :4] for text in (ids, torch.cat([ids[:, :4], ids[:, :4]], 1)))
    return not torch.allclose(one, other, atol=1e-4, rtol=1e-4)


def _commit(settings: BaseModelSettings) -> str | None:
    """The commit that a Hub model's revision stands for now, None for a folder; refuses what cannot serve."""
    from transformers import AutoConfig
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
    from transformers.utils.hub import cached_file, extract_commit_hash

    folder = Path(settings.name).expanduser()
    if not folder.is_dir() and (settings.name[:1] in ("/", ".", "~") or settings.name.count("/") > 1):
        raise PipelineError(
            f"The base model's `name` {settings.name!r} is a path where no folder is; give the folder of a model, a"
            " Hub name, or `small`."
        )
    try:
        revision = settings.revision or "main"
        # The configuration does not say where it came from; the place in the cache does.
        commit: str | None = extract_commit_hash(cached_file(_place(settings), "config.json", revision=revision), None)
        config = AutoConfig.from_pretrained(_place(settings), revision=commit or revision, trust_remote_code=False)
    except (OSError, ValueError, ImportError) as error:
        raise _unusable(settings, error) from error
    if config.model_type not in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES:
        raise PipelineError(
            f"The base model's `name` {settings.name!r} is a {config.model_type} model, which is not a causal language"
            " model; choose one that is."
        )
    return commit


def _unusable(settings: BaseModelSettings, error: Exception) -> PipelineError:
    reason = first_line(error)
    kind = UnreachableError if is_network_fault(error) else PipelineError
    return kind(
        f"The base model's `name` {settings.name!r} (revision {settings.revision or 'main'}) cannot be loaded"
        f" ({reason}); check the spelling and the network, or set it to a local folder or to `small`."
    )


def _widen(model: "PreTrainedModel", tokenizer: "PreTrainedTokenizerBase", markers: Markers) -> None:
    """Add the markers to the tokenizer and give their rows, and those that are new, the mean embedding.

    A padded vocabulary already has rows for them, which stood for no token; otherwise the embeddings grow
    to the next multiple of `MULTIPLE`. The padding that is left keeps its weights: it has learnt to be unlikely.
    """
    if not add_markers(tokenizer, markers):
        return
    ids = marker_ids(tokenizer, markers)
    rows = _embedding_rows(model)
    if max(ids) >= rows:
        model.resize_token_embeddings(max(ids) + 1, pad_to_multiple_of=MULTIPLE, mean_resizing=False)
    # Some tokenizers have more tokens than their model has rows; what had none begins at the mean as well.
    _start_at_mean(model, min(rows, *ids), [*ids, *range(rows, _embedding_rows(model))])


def _start_at_mean(model: "PreTrainedModel", old: int, new: list[int]) -> None:
    """Give the rows `new` the mean of the first `old`: no marker is likelier than another at first."""
    head = model.get_output_embeddings()
    with torch.no_grad():
        tables = [model.get_input_embeddings().weight, head.weight]
        if getattr(head, "bias", None) is not None:
            tables.append(head.bias)
        # Tied embeddings are one tensor; its mean is over old rows only, so doing it twice is the same.
        for table in tables:
            table[new] = table[:old].mean(dim=0)


def _embedding_rows(model: "PreTrainedModel") -> int:
    return next(model.get_input_embeddings().parameters()).shape[0]
