"""Write the dataset card of the preferences: `README.md` in the dataset's folder, in the Hugging Face Hub's format."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from adc_pipeline.core.markdown import Markdown, code, escape, table
from adc_pipeline.core.store.manifests import Artefact
from adc_pipeline.preferences.configurations import CONFIGURATIONS
from adc_pipeline.preferences.datasets import columns
from adc_pipeline.preferences.settings import PreferenceSettings
from adc_pipeline.walks.baselines import Baseline, baselines_section
from adc_pipeline.walks.dataset_card import front_matter, made_section, notes
from adc_pipeline.walks.files import split_files
from adc_pipeline.walks.splits import SPLITS

BODY = """
# Preferences from {source}

Replies that readers preferred, and those that they did not, in six configurations.
{shortcomings}
Load one by its name:

```python
from datasets import load_dataset

pairs = load_dataset("PATH", "pairs")
```

{configurations}
{columns}
A conversation is always in the same split, in every configuration: the split is a hash of its id.

## Pairs

Two replies to one utterance make a pair if their scores differ; replies with equal scores make none. {possible:,} pairs
pass the settings below, and {pairs:,} are kept, at most {per_group} from the replies to one utterance.
{baselines}
## Prompts

A prompt is the path from the root to the utterance that is answered: {turns} utterances and {characters:,} characters
at most, with the root kept. {shortened:,} prompts are shortened. Texts are unchanged: a text may contain special
tokens of a chat template, which the tokenizer has to treat as text.

{groups}
{made}
## References

- Ethayarajh et al. 2022, *Understanding Dataset Difficulty with V-Usable Information* (SHP).
- Gao et al. 2020, *Dialogue Response Ranking Training with Large-Scale Human Feedback Data* (DialogRPT).
- Kumar et al. 2024, *ComPO: Community Preferences for Language Model Personalization*, arXiv 2410.16027.
"""


def write_card(
    dataset: Path,
    settings: PreferenceSettings,
    counts: Mapping[str, float],
    corpus: Artefact,
    utterances: Artefact,
    ranked: Artefact,
    baselines: Sequence[Baseline] = (),
    shortcomings: Sequence[str] = (),
) -> None:
    """Write `README.md` into the folder `dataset`; the three artefacts are the ones that the dataset was made from.

    `baselines` are what is known of the pairs without their texts, `shortcomings` sentences on what they cannot teach.
    """
    name = corpus.settings["corpus"]
    files = {each: {split: split_files(dataset, split, each) for split in SPLITS} for each in CONFIGURATIONS}
    numbers = [
        (code(each), *(f"{counts[f'{each}.{split}']:,}" for split in SPLITS), escape(configuration.row))
        for each, configuration in CONFIGURATIONS.items()
    ]
    described = [
        (code(each), Markdown(", ".join(map(code, columns(configuration, settings)))), configuration.trainer)
        for each, configuration in CONFIGURATIONS.items()
    ]
    left_out = {
        "groups whose replies have equal scores": "groups_tied",
        "groups whose answered utterance has no text": "groups_without_prompt",
        "conversations without a root that has a text and passes the settings": "roots_left_out",
        "replies without a visible character": "replies_without_text",
        "texts that are too long, or quote, by the settings, and replies below them": "texts_excluded",
    }
    body = BODY.format(
        source=escape(Path(name).name),
        shortcomings=notes(shortcomings),
        configurations=table(["configuration", *SPLITS, "one row"], numbers, right=[1, 2, 3]),
        columns=table(["configuration", "columns", "for"], described),
        possible=counts["pairs_possible"],
        pairs=counts["pairs"],
        per_group=settings.pairs_per_group,
        baselines=baselines_section(baselines, "replies of a pair"),
        turns=settings.max_turns,
        characters=settings.max_characters,
        shortened=counts["prompts_shortened"],
        groups=table(["left out", "number"], [(what, f"{counts[key]:,}") for what, key in left_out.items()], right=[1]),
        made=made_section("preferences", asdict(settings), corpus, utterances, ranked),
    )
    tags = ("human-preferences", "rlhf", "dpo", "conversations")
    head = front_matter(dataset, name, "Preferences", files, tags, ("text-generation", "text-ranking"))
    (dataset / "README.md").write_text(head + body, encoding="utf-8")
