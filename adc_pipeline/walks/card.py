"""Write the dataset card: `README.md` in a dataset's folder, in the Hugging Face Hub's format.

The card documents the layout of a walk, the settings, the counts of dropped utterances, the provenance and the
limitations of the scores. The Hub and `datasets.load_dataset` read the YAML metadata at its head.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from adc_pipeline.core.artefacts import Artefact
from adc_pipeline.core.markdown import code, escape, table
from adc_pipeline.core.settings import flattened
from adc_pipeline.core.terminal import printable
from adc_pipeline.corpus.parts import read_record
from adc_pipeline.corpus.source import SAMPLE
from adc_pipeline.walks.baselines import Baseline, baseline_rows
from adc_pipeline.walks.datasets import split_file
from adc_pipeline.walks.kinds import KINDS
from adc_pipeline.walks.markers import FORMATS
from adc_pipeline.walks.settings import WalkSettings
from adc_pipeline.walks.splits import SPLITS

TURN_FEATURES = {
    "utterance_id": "string",
    "speaker": "string",
    "verdict": "string",
    "score": "int64",
    "rank": "int64",
    "siblings": "int64",
    "start": "int64",
    "end": "int64",
}

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
A conversation is always in the same split: the split is a hash of its id.

## How it was made

{settings}
{fates}
{ranking_note}
{left_out}{baselines}
## Provenance

{digests}
A digest is a content hash of an artefact's files. MLflow has the run that made each artefact, with its settings and
inputs.

## Limitations

- **Visibility.** A score does not measure quality alone: more people see and score a reply that is shown higher, and
  popular replies gain more votes. Scores are higher in popular forums, so compare them only between siblings.
- **Time.** Earlier replies had more time to gather votes, and a score is a snapshot of one moment. To measure a
  preference, also compare replies written at about the same time.
- **Population.** A forum's members do not represent people at large, and only some of them vote. They may reward
  agreement or a joke. Nobody has checked the texts for truth, offensive language or private data.
- {deleted}
- {ownership}

## References

- Laskin et al. 2022, *In-context Reinforcement Learning with Algorithm Distillation*.
- Korbak et al. 2023, *Pretraining Language Models with Human Preferences*.
- The public datasets this layout follows: `dmayhem93/top-2-reddit-corpus-small` and
  `dmayhem93/random-walk-reddit-corpus-small`.
"""

DELETED = {
    True: "Deleted and removed replies are excluded, with the replies below them.",
    False: "Deleted and removed replies are included as `[deleted]` and `[removed]`, ranked like any other.",
}

OWNERSHIP = {
    True: "The conversations are generated and free to use under the MIT licence.",
    False: "The texts belong to the people who wrote them; the licence is that of the corpus.",
}

RANKING_NOTES = {
    "score": "Every sibling group is ranked by score; ties go to the earlier reply, then to the smaller id.",
    "released": (
        "As in the public datasets, only the replies to the root are ranked by score; deeper replies keep the corpus'"
        " own order, unranked."
    ),
}


SCORE_NOTES = {
    "higher": "",
    "lower": (
        " In the corpus a lower score is better (score_order: lower), so scores here are negated and a higher one is"
        " better."
    ),
}

# The artefact of the corpus names all of them.
LEFT_OUT_SHOWN = 50


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
    import yaml

    markers = FORMATS[settings.format]
    name = corpus.settings["corpus"]
    all_settings = flattened(
        {"utterances": utterances.settings, "ranked_replies": ranked.settings, kind: asdict(settings)}
    )
    utterance_counts = utterances.counts | ranked.counts
    digests = [(made.name, code(made.digest)) for made in (corpus, utterances, ranked)]
    body = BODY.format(
        kind=kind,
        source=escape(Path(name).name),
        summary=KINDS[kind].summary,
        shortcomings="".join(f"\n> **Note.** {escape(sentence)}\n" for sentence in shortcomings),
        background=markers.background,
        accepted=markers.accepted,
        rejected=markers.rejected,
        splits=table(["split", "walks"], [(each, f"{counts[f'walks.{each}']:,}") for each in SPLITS], right=[1]),
        counts=counts,
        repeats=repeats(counts),
        settings=table(["setting", "value"], all_settings.items()),
        fates=table(
            ["utterances", "number"], [(fate, f"{number:,}") for fate, number in utterance_counts.items()], right=[1]
        ),
        ranking_note=RANKING_NOTES[ranked.settings["order"]] + SCORE_NOTES[ranked.settings["score_order"]],
        left_out=_left_out(corpus),
        baselines=_baselines(baselines),
        digests=table(["artefact", "digest"], digests),
        deleted=DELETED[ranked.settings["deleted"]],
        ownership=OWNERSHIP[name == SAMPLE],
    )
    head = yaml.safe_dump(_metadata(kind, dataset, name), sort_keys=False, allow_unicode=True)
    (dataset / "README.md").write_text(f"---\n{head}---\n{body}", encoding="utf-8")


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


def _baselines(found: Sequence[Baseline]) -> str:
    """Return the section about the baselines; empty if none decides a pair."""
    if not found:
        return ""
    header = ["baseline", "pairs", "share that it decides", "of these rightly"]
    return (
        "\n## Baselines\n\nHow often each of these alone tells which of two turns of a sibling group has the higher"
        " score, in the validation and test splits. A model learned something from the texts only where it is better."
        "\n\n" + table(header, baseline_rows(found), right=[1, 2, 3]) + "\n"
    )


def _left_out(corpus: Artefact) -> str:
    """Return the section about files of the source that were not read, or lie elsewhere; empty if none."""
    record = read_record(corpus.path / "corpus")
    lines = [
        f"- {code(printable(path))} is left out: it {escape(reason)}" for path, reason in record["left_out"].items()
    ]
    lines += [f"- {code(printable(path))} is a link that leads out of the source" for path in record["links"]]
    lines += [f"- {name}: lower is better, so scores here are negative" for name in record["lower_is_better"]]
    shown = lines[:LEFT_OUT_SHOWN]
    if len(lines) > LEFT_OUT_SHOWN:
        shown.append(f"- and {len(lines) - LEFT_OUT_SHOWN:,} more")
    return "\n## Files of the source\n\n" + "\n".join(shown) + "\n" if lines else ""


def _metadata(kind: str, dataset: Path, corpus: str) -> dict[str, object]:
    """Return the card's YAML metadata: licence, files, features, and rows and bytes of each split."""
    import pyarrow.parquet as pq

    files = {split: dataset / split_file(split) for split in SPLITS}
    contents = {split: pq.read_metadata(path) for split, path in files.items()}
    # `datasets` fails on a split without rows.
    filled = [split for split in SPLITS if contents[split].num_rows]
    sizes = {
        split: sum(content.row_group(group).total_byte_size for group in range(content.num_row_groups))
        for split, content in contents.items()
    }
    turn = [{"name": name, "dtype": dtype} for name, dtype in TURN_FEATURES.items()]
    return {
        "pretty_name": f"{kind} walks",
        **({"license": "mit"} if corpus == SAMPLE else {"license": "other", "license_name": "that-of-the-source"}),
        "language": ["en"] if corpus == SAMPLE else [],
        "task_categories": ["text-generation"],
        "annotations_creators": ["machine-generated" if corpus == SAMPLE else "found"],
        "language_creators": ["machine-generated" if corpus == SAMPLE else "found"],
        "source_datasets": ["original"],
        "size_categories": [size_category(sum(content.num_rows for content in contents.values()))],
        "tags": ["human-preferences", "in-context-reinforcement-learning", "conversations"],
        "configs": [
            {
                "config_name": "default",
                "data_files": [{"split": split, "path": split_file(split)} for split in filled],
            }
        ],
        "dataset_info": {
            "features": [
                {"name": "text", "dtype": "string"},
                {"name": "conversation_id", "dtype": "string"},
                {"name": "walk", "dtype": "int64"},
                {"name": "source", "dtype": "string"},
                {"name": "turns", "list": turn},
            ],
            "splits": [
                {"name": split, "num_bytes": sizes[split], "num_examples": contents[split].num_rows} for split in filled
            ],
            "download_size": sum(path.stat().st_size for path in files.values()),
            "dataset_size": sum(sizes.values()),
        },
    }


def size_category(rows: int) -> str:
    """Return the Hub's size category for a number of rows."""
    names = ["n<1K", "1K<n<10K", "10K<n<100K", "100K<n<1M", "1M<n<10M", "10M<n<100M", "100M<n<1B"]
    return next((name for power, name in enumerate(names, 3) if rows < 10**power), "1B<n<10B")
