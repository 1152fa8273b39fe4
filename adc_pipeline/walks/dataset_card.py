"""What the card of every dataset has, walks and preferences alike: the metadata at its head, and how it was made.

A card is `README.md` in a dataset's folder, in the Hugging Face Hub's format. The Hub and `datasets.load_dataset` read
the YAML metadata: which files belong to which configuration and split, and the types of the columns.
"""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adc_pipeline.core.markdown import code, escape, table
from adc_pipeline.core.settings import flattened
from adc_pipeline.core.store.manifests import Artefact
from adc_pipeline.core.terminal import printable
from adc_pipeline.corpus.parts import read_record
from adc_pipeline.corpus.source import SAMPLE
from adc_pipeline.walks.splits import SPLITS, Split

if TYPE_CHECKING:
    import pyarrow as pa

MADE = """
## How it was made

{settings}
{fates}
{ranking_note}
{left_out}
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

# What stands for the score where `rank_by` is set.
VALUE_NOTES = {
    "replies": "the number of replies that a reply got",
    "depth": "the levels of replies below a reply",
    "accepted_reply": "whether the utterance that is answered accepts a reply (1 or 0)",
}
VALUE_NOTE = (
    " The score here is not the votes but {what} ({setting}); ties go to the votes first, and replies with equal values"
    " are no preference."
)

# The artefact of the corpus names all of them.
LEFT_OUT_SHOWN = 50


def made_section(
    dataset: str, settings: Mapping[str, Any], corpus: Artefact, utterances: Artefact, ranked: Artefact
) -> str:
    """Return the sections on how a dataset was made, its provenance and its limitations.

    The three artefacts are the ones that the dataset was made from.
    """
    all_settings = flattened({"utterances": utterances.settings, "ranked_replies": ranked.settings, dataset: settings})
    fates = utterances.counts | ranked.counts
    digests = [(made.name, code(made.digest)) for made in (corpus, utterances, ranked)]
    return MADE.format(
        settings=table(["setting", "value"], all_settings.items()),
        fates=table(["utterances", "number"], [(fate, f"{number:,}") for fate, number in fates.items()], right=[1]),
        ranking_note=ranking_note(ranked.settings) + near_note(ranked),
        left_out=_left_out(corpus),
        digests=table(["artefact", "digest"], digests),
        deleted=DELETED[ranked.settings["deleted"]],
        ownership=OWNERSHIP[corpus.settings["corpus"] == SAMPLE],
    )


def notes(shortcomings: Iterable[str]) -> str:
    """Return the paragraphs that say what a dataset cannot teach."""
    return "".join(f"\n> **Note.** {escape(sentence)}\n" for sentence in shortcomings)


def ranking_note(settings: Mapping[str, Any]) -> str:
    """Return what replies are ranked by, by the settings of `ranked_replies`."""
    note = RANKING_NOTES[settings["order"]] + SCORE_NOTES[settings["score_order"]]
    # An artefact of before that setting has none.
    rank_by = settings.get("rank_by", "score")
    if rank_by == "score":
        return note
    what = VALUE_NOTES.get(rank_by) or f"the column {code(rank_by)} of the corpus"
    return note + VALUE_NOTE.format(what=what, setting=code(f"rank_by: {rank_by}"))


def near_note(ranked: Artefact) -> str:
    """Return the sentence on replies that nearly repeat others; empty if none were compared."""
    compared = int(ranked.counts.get("near_duplicates.compared", 0))
    if not compared:
        return ""
    drops = ranked.settings.get("near_duplicates") == "drop"
    what, outcome = ("replies", "are dropped") if drops else ("replies, all or a sample,", "are kept")
    near = int(ranked.counts["near_duplicates"])
    return f"\n\nOf {compared:,} {what} that were compared, {near:,} nearly repeat an earlier one and {outcome}."


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


def front_matter(
    dataset: Path,
    corpus: str,
    pretty_name: str,
    configurations: Mapping[str, Mapping[Split, Sequence[str]]],
    tags: Sequence[str],
    tasks: Sequence[str] = ("text-generation",),
) -> str:
    """Return the YAML metadata of a card, with its two rules, for the Parquet files in the folder `dataset`.

    `configurations` has the files of each split by configuration and split. A split or a configuration without
    rows is not named, since `datasets` fails on one.
    """
    import pyarrow.parquet as pq
    from huggingface_hub import DatasetCardData

    configs, infos, rows = [], [], 0
    for name, files in configurations.items():
        contents = {split: list(map(pq.read_metadata, paths)) for split, paths in files.items()}
        examples = {split: sum(content.num_rows for content in found) for split, found in contents.items()}
        filled = [split for split in SPLITS if examples[split]]
        if not filled:
            continue
        sizes = {
            split: sum(content.row_group(group).total_byte_size for content in found
                       for group in range(content.num_row_groups))
            for split, found in contents.items()
        }  # fmt: skip
        rows += sum(examples.values())
        listed = [{"split": split, "path": path_of(files[split], dataset)} for split in filled]
        configs.append({"config_name": name, "data_files": listed})
        infos.append(
            {
                "config_name": name,
                "features": [feature(field) for field in contents[filled[0]][0].schema.to_arrow_schema()],
                "splits": [
                    {"name": split, "num_bytes": sizes[split], "num_examples": examples[split]} for split in filled
                ],
                "download_size": sum(Path(path).stat().st_size for paths in files.values() for path in paths),
                "dataset_size": sum(sizes.values()),
            }
        )
    sample = corpus == SAMPLE
    metadata: dict[str, Any] = {
        "pretty_name": pretty_name,
        **({"license": "mit"} if sample else {"license": "other", "license_name": "that-of-the-source"}),
        "language": ["en"] if sample else [],
        "task_categories": list(tasks),
        "annotations_creators": ["machine-generated" if sample else "found"],
        "language_creators": ["machine-generated" if sample else "found"],
        "source_datasets": ["original"],
        "size_categories": [size_category(rows)],
        "tags": list(tags),
        "configs": configs,
        "dataset_info": infos,
    }
    return f"---\n{DatasetCardData(**metadata).to_yaml()}\n---\n"


def path_of(files: Sequence[str], dataset: Path) -> str:
    """Return the path of a split's only file in the folder `dataset`, or a pattern of its files."""
    first = Path(files[0]).relative_to(dataset)
    return str(first if len(files) == 1 else first.with_name(f"{first.name.partition('-')[0]}-*.parquet"))


def feature(field: "pa.Field") -> dict[str, Any]:
    """Return a column as the metadata describes it: name and type, of a list those of its items."""
    import pyarrow.types as types

    def described(kind: "pa.DataType") -> dict[str, Any]:
        if types.is_struct(kind):
            return {"struct": [feature(each) for each in kind]}
        if types.is_list(kind):
            return {"list": next(iter(described(kind.value_type).values()))}
        return {"dtype": str(kind).replace("double", "float64")}

    return {"name": field.name, **described(field.type)}


def size_category(rows: int) -> str:
    """Return the Hub's size category for a number of rows."""
    names = ["n<1K", "1K<n<10K", "10K<n<100K", "100K<n<1M", "1M<n<10M", "10M<n<100M", "100M<n<1B"]
    return next((name for power, name in enumerate(names, 3) if rows < 10**power), "1B<n<10B")
