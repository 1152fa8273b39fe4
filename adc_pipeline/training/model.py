"""Prepare and load the base model, which every fine-tune starts from and the evaluation compares with.

It is a small Llama with a tokenizer of its own, or any causal language model that transformers can load without running
code that comes with it. Markers become tokens whose embeddings start at the mean of the old ones (Hewitt 2021,
https://nlp.stanford.edu/~johnhew/vocab-expansion.html): a new row then neither dominates nor vanishes in the softmax.
Building the small model takes about 1 s, imports excluded.
"""

import os
import shutil
from collections.abc import Iterable
from contextlib import AbstractContextManager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from adc_pipeline.core.atomic import atomic_folder
from adc_pipeline.core.errors import PipelineError, first_line, is_refused_by_system
from adc_pipeline.core.named_files import check_model_folder, named_path
from adc_pipeline.training.architectures.loading import load_weights, other_shape, reported
from adc_pipeline.training.architectures.precision import broken_tensor, convert, stored_type
from adc_pipeline.training.architectures.probes import FAULTS, counts_from_zero, knows, looks_ahead, writes_as_it_reads
from adc_pipeline.training.architectures.weight_files import refuse_adapter
from adc_pipeline.training.settings import BaseModelSettings
from adc_pipeline.training.texts.reading_back import check_loads_again, check_reads_back
from adc_pipeline.training.texts.tokenizer import add_markers, marker_ids, train_tokenizer
from adc_pipeline.training.texts.tokens import MarkerTokenizer
from adc_pipeline.walks.markers import Markers

if TYPE_CHECKING:
    from transformers import LlamaConfig, PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

# Vocabularies that have to grow become a multiple of this, which suits matrix units.
MULTIPLE = 64


def check_base_model(settings: BaseModelSettings) -> None:
    """Raise PipelineError if the base model is not available or not usable; reads only its configuration."""
    if settings.name != "small":
        _commit(settings)


def prepare_base_model(
    settings: BaseModelSettings, markers: Markers, texts: Iterable[str], out: Path
) -> dict[str, Any]:
    """Write model and tokenizer, with markers, into the folder `out`; return facts about them.

    `texts` train the tokenizer of a small model; a named model ignores them. Raises PipelineError for a model that
    cannot be loaded or is not usable.
    """
    if settings.name == "small":
        model, tokenizer = _small(settings, markers, texts)
        commit = None
    else:
        model, tokenizer, commit = _named(settings)
        _add_markers(model, tokenizer, markers, _subject(settings))
        if settings.precision == "kept":
            convert(model, stored_type(_source(settings), revision=commit or settings.revision or "main"))
    with atomic_folder(out) as partial:
        try:
            model.save_pretrained(partial)
        except Exception as error:
            # Safetensors refuses tensors that share memory without being declared as tied, such as Reformer's, and
            # transformers a configuration that contradicts itself.
            if is_refused_by_system(error):
                raise
            raise PipelineError(
                f"{_subject(settings)} is a {type(model).__name__} that transformers cannot save"
                f" ({first_line(error)[:300]}); correct its config.json, or choose another base model."
            ) from error
        tokenizer.save_pretrained(partial)
        if settings.name != "small":
            check_loads_again(MarkerTokenizer(tokenizer), partial, _subject(settings))
    return {
        **asdict(settings),
        "commit": commit,
        "architecture": type(model).__name__,
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "vocabulary_size": len(tokenizer),
        "embedding_rows": _embedding_rows(model),
    }


def _small(
    settings: BaseModelSettings, markers: Markers, texts: Iterable[str]
) -> tuple["PreTrainedModel", "PreTrainedTokenizerBase"]:
    from transformers import LlamaConfig

    tokenizer = train_tokenizer(texts, settings.vocabulary, settings.context)
    add_markers(tokenizer, markers)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=settings.width,
        # A gated block of 8/3 has as many parameters as a plain one of 4; multiples of 64 suit the kernels.
        intermediate_size=max(64, 64 * round(8 * settings.width / 3 / 64)),
        num_hidden_layers=settings.layers,
        num_attention_heads=settings.heads,
        max_position_embeddings=settings.context,
        # sqrt(2 / (5 width)), Nguyen & Salazar 2019, which a narrow model needs to learn copying early; the usual 0.02
        # is meant for widths above a thousand.
        initializer_range=(2 / (5 * settings.width)) ** 0.5,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
    )
    return _initialized(config, marker_ids(tokenizer, markers), settings.seed), tokenizer


def _initialized(config: "LlamaConfig", markers: list[int], seed: int) -> "PreTrainedModel":
    """Return a new small model whose weights depend on the seed; `markers` are the ids that start at the mean."""
    from transformers import LlamaForCausalLM

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = LlamaForCausalLM(config)
    _start_at_mean(model, min(markers), markers)
    return model


def initialize_again(base: Path, seed: int, out: Path) -> None:
    """Write the small base model of the folder `base` with the initial weights of another seed into the folder `out`.

    The tokenizer and all other files stay as they are.
    """
    from transformers import LlamaConfig

    tokenizer = MarkerTokenizer.load(base)
    model = _initialized(LlamaConfig.from_pretrained(base, local_files_only=True), tokenizer.marker_ids, seed)
    shutil.copytree(base, out)
    model.save_pretrained(out)


def _source(settings: BaseModelSettings) -> str:
    """Return what transformers loads from: a folder, whose path may begin with ~, or a Hub name."""
    folder = named_path(settings.name)
    return str(folder) if os.path.isdir(folder) else settings.name


def _named(
    settings: BaseModelSettings,
) -> tuple["PreTrainedModel", "PreTrainedTokenizerBase", str | None]:
    from transformers import AutoTokenizer
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    commit, subject = _commit(settings), _subject(settings)
    with _reported(settings):
        # Configuration, weights and tokenizer come from one commit, even if the branch moves meanwhile.
        options = {"revision": commit or settings.revision or "main", "trust_remote_code": False}
        tokenizer = AutoTokenizer.from_pretrained(_source(settings), **options)
        model = load_weights(_source(settings), subject, **options)
        broken = broken_tensor(model)
        ahead = not broken and looks_ahead(model)
        shifted = not broken and not counts_from_zero(model)
        silent = not broken and not writes_as_it_reads(model)
    if broken:
        raise PipelineError(f"{subject} has weights that are not finite ({broken}); choose another base model.")
    if ahead:
        raise PipelineError(
            f"{subject} is a {type(model).__name__} that sees the tokens it is to predict; choose a causal language"
            " model."
        )
    if shifted:
        raise PipelineError(
            f"{subject} is a {type(model).__name__}, whose positions do not begin at 0, as packing and generation need;"
            " choose another base model."
        )
    if model.config.model_type not in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES:
        raise PipelineError(
            f"{subject} is a {type(model).__name__}, whose language part ({model.config.model_type}) transformers"
            " cannot load once it is saved by itself; choose another base model."
        )
    if silent:
        raise PipelineError(
            f"{subject} is a {type(model).__name__}, of which `generate` of transformers gives other logits than a"
            " forward pass or none, so that it could not write what it learns; choose another base model."
        )
    return model, tokenizer, commit


def _commit(settings: BaseModelSettings) -> str | None:
    """Return the commit that a Hub model's revision stands for now, None for a folder.

    Raises PipelineError if the model is not available or not a causal language model.
    """
    from transformers import AutoConfig
    from transformers.utils.hub import cached_file, extract_commit_hash

    folder = named_path(settings.name)
    if not os.path.isdir(folder) and (settings.name[:1] in ("/", ".", "~") or settings.name.count("/") > 1):
        raise PipelineError(
            f"{_subject(settings)} is a path without a folder; give the folder of a model, a Hub name, or `small`."
        )
    if os.path.isdir(folder):
        check_model_folder(folder, "name")
    with _reported(settings):
        revision = settings.revision or "main"
        refuse_adapter(_source(settings), _subject(settings), revision=revision)
        # The path in the cache contains the commit; the configuration does not.
        commit: str | None = extract_commit_hash(cached_file(_source(settings), "config.json", revision=revision), None)
        config = AutoConfig.from_pretrained(_source(settings), revision=commit or revision, trust_remote_code=False)
    if not _writes_text(config):
        raise PipelineError(
            f"{_subject(settings)} is a {config.model_type} model, which is not a causal language model; choose one"
            " that is."
        )
    return commit


def _writes_text(config: "PreTrainedConfig") -> bool:
    """Return whether transformers makes a causal language model of a configuration.

    Of a model of several parts, the one for text is `text_config`: MusicGen's decoder, of another name, writes music.
    """
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING, MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    others = [part for name, part in config.sub_configs.items() if name != "text_config"]
    if not others or config.model_type not in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES:
        return config.model_type in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
    made: Any = MODEL_FOR_CAUSAL_LM_MAPPING[type(config)]
    return made.config_class not in others


def _subject(settings: BaseModelSettings) -> str:
    """Return the subject of a sentence about the base model."""
    return f"The base model's `name` {settings.name!r}"


def _reported(settings: BaseModelSettings) -> AbstractContextManager[None]:
    """Raise PipelineError for whatever the libraries raise when they read or run a model from elsewhere."""
    here = os.path.isdir(named_path(settings.name))
    check = "that all files of the folder are there and whole" if here else "the spelling and the network"
    return reported(
        lambda reason: (
            f"{_subject(settings)} (revision {settings.revision or 'main'}) cannot be loaded ({reason});"
            f" check {check}, or set it to a local folder or to `small`."
        )
    )


def _add_markers(
    model: "PreTrainedModel", tokenizer: "PreTrainedTokenizerBase", markers: Markers, subject: str
) -> None:
    """Add the markers to a named model, which error messages call `subject`.

    Raise PipelineError if the model or its tokenizer does not work with the markers.
    """
    try:
        _widen(model, tokenizer, markers)
        known = knows(model, marker_ids(tokenizer, markers))
        problem = other_shape(model)
    except FAULTS as error:
        known, problem = False, first_line(error)
    if problem:
        raise PipelineError(
            f"{subject} is a {type(model).__name__}, to whose vocabulary the markers cannot be added"
            f" ({problem}); choose another base model."
        )
    if not known:
        raise PipelineError(
            f"{subject} is a {type(model).__name__} that gives no finite logits once the markers are"
            " added to its vocabulary; choose another base model."
        )
    # Some ask for words with their places on a page, or for a program that the machine lacks.
    with reported(
        lambda reason: (
            f"{subject} has a {type(tokenizer).__name__} that cannot read a plain text ({reason});"
            " choose another base model."
        )
    ):
        check_reads_back(MarkerTokenizer(tokenizer), subject)


def _widen(model: "PreTrainedModel", tokenizer: "PreTrainedTokenizerBase", markers: Markers) -> None:
    """Add the markers to the tokenizer, and give their rows and all new rows the mean embedding.

    A padded vocabulary already has rows for them, which stood for no token; otherwise the embeddings grow to the next
    multiple of `MULTIPLE`. The remaining padding keeps its weights, which have learned to be unlikely.
    """
    if not add_markers(tokenizer, markers):
        return
    ids = marker_ids(tokenizer, markers)
    rows = _embedding_rows(model)
    if max(ids) >= rows:
        model.resize_token_embeddings(max(ids) + 1, pad_to_multiple_of=MULTIPLE, mean_resizing=False)
    # Some tokenizers have more tokens than their model has rows; tokens without a row start at the mean as well.
    _start_at_mean(model, min(rows, *ids), [*ids, *range(rows, _embedding_rows(model))])


def _start_at_mean(model: "PreTrainedModel", old: int, new: list[int]) -> None:
    """Set the rows `new` to the mean of the first `old` rows, so that no marker is likelier than another at first."""
    head = model.get_output_embeddings()
    with torch.no_grad():
        tables = [model.get_input_embeddings().weight, head.weight]
        if getattr(head, "bias", None) is not None:
            tables.append(head.bias)
        # Tied embeddings are one tensor; doing it twice is the same, since the mean is over old rows only.
        for table in tables:
            table[new] = table[:old].mean(dim=0)


def _embedding_rows(model: "PreTrainedModel") -> int:
    """Return how many tokens a model can read and write: Llama 3.2 Vision reads eight that it cannot write."""
    tables = [model.get_input_embeddings(), model.get_output_embeddings()]
    return min(next(table.parameters()).shape[0] for table in tables)
