"""Write the dataset card of walks: `README.md` in a dataset's folder, in the Hugging Face Hub's format.

The card documents the layout of a walk; what every dataset's card has is in `dataset_card.py`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from adc_pipeline.core.markdown import escape, table
from adc_pipeline.core.store.manifests import Artefact
from adc_pipeline.walks.baselines import Baseline, baselines_section
from adc_pipeline.walks.dataset_card import front_matter, made_section, notes
from adc_pipeline.walks.files import split_files
from adc_pipeline.walks.kinds import KINDS
from adc_pipeline.walks.markers import FORMATS
from adc_pipeline.walks.settings import WalkSettings
from adc_pipeline.walks.splits import SPLITS

BODY = """
# {kind} walks from {source}

{summary}
{shortcomings}
## A walk

Each row is one walk down a conversation, written as one text: the root's part, closed by `{background}`, then
turns, each closed by `{rejected}` or `{accepted}`, with nothing between turns. `text[start:end]` is a turn's text, in
Unicode code points; the turn's marker begins at `end`. `rank` counts from 1, the best of `siblings`.

{splits}
{counts[turns]:,} turns, of which {counts[turns.accepted]:,} accepted and {counts[turns.rejected]:,} rejected,
in {counts[conversations]:,} conversations.
{repeats}
A conversation is always in the same split: the split is a hash of its id.{leakage}
{baselines}{made}
## References

- Laskin et al. 2022, *In-context Reinforcement Learning with Algorithm Distillation*.
- Korbak et al. 2023, *Pretraining Language Models with Human Preferences*.
- The public datasets this layout follows: `dmayhem93/top-2-reddit-corpus-small` and
  `dmayhem93/random-walk-reddit-corpus-small`.
"""


def write_card(
    kind: str,
    dataset: Path,
    settings: WalkSettings,
    counts: Mapping[str, float],
    corpus: Artefact,
    utterances: Artefact,
    ranked: Artefact,
    shortcomings: Sequence[str] = (),
    baselines: Sequence[Baseline] = (),
) -> None:
    """Write `README.md` into the folder `dataset`; the three artefacts are the ones that the dataset was made from.

    `shortcomings` are sentences on what the dataset cannot teach, `baselines` what is known of its pairs without their
    texts.
    """
    markers = FORMATS[settings.format]
    name = corpus.settings["corpus"]
    body = BODY.format(
        kind=kind,
        source=escape(Path(name).name),
        summary=KINDS[kind].summary,
        shortcomings=notes(shortcomings),
        background=markers.background,
        accepted=markers.accepted,
        rejected=markers.rejected,
        splits=table(["split", "walks"], [(each, f"{counts[f'walks.{each}']:,}") for each in SPLITS], right=[1]),
        counts=counts,
        repeats=repeats(counts),
        leakage=leakage(counts),
        baselines=baselines_section(baselines, "turns of a sibling group"),
        made=made_section(kind, asdict(settings), corpus, utterances, ranked),
    )
    tags = ("human-preferences", "in-context-reinforcement-learning", "conversations")
    files = {"default": {split: split_files(dataset, split) for split in SPLITS}}
    head = front_matter(dataset, name, f"{kind} walks", files, tags)
    (dataset / "README.md").write_text(head + body, encoding="utf-8")


def repeats(counts: Mapping[str, float]) -> str:
    """Return the sentence about texts that occur more than once."""
    included, excluded = int(counts["repeats.included"]), int(counts["repeats.excluded"])
    rest = f"{included:,} of these texts {'is an exact repeat' if included == 1 else 'are exact repeats'} of another."
    if not excluded:
        return rest
    return (
        f"{excluded:,} of {int(counts['walks']) + excluded:,} walks that were drawn are excluded, since an earlier walk"
        f" of the conversation has the same text. {rest}"
    )


def leakage(counts: Mapping[str, float]) -> str:
    """Return the sentences on test conversations that are in training too; empty if they were not looked for."""
    if "leakage.equal_roots" not in counts:
        return ""
    tested = f"{int(counts['conversations.test']):,} test conversations"
    said = f" **Leakage:** {int(counts['leakage.equal_roots']):,} of {tested} have a root that is also in training."
    if "leakage.nearly_alike" in counts:
        return said + f" {int(counts['leakage.nearly_alike']):,} more are nearly alike, in their root or their replies."
    return said + " Those that are only nearly alike were not looked for."
