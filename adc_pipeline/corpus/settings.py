"""Settings of the assets `raw_corpus` and `utterances`."""

from dataclasses import dataclass

from adc_pipeline.core.settings import Settings, setting
from adc_pipeline.corpus.recognition.formats import Format


@dataclass(frozen=True)
class CorpusSettings(Settings):
    """Settings of the asset `raw_corpus`."""

    corpus: str = setting(
        "",
        "sample; a path to a ConvoKit folder or zip, a Reddit dump (.zst, .gz, .jsonl, .ndjson), a"
        " folder of dumps, a Parquet or CSV file; or a ConvoKit name such as reddit-corpus-small. Several are"
        " separated by commas. Empty takes ADC_CORPUS, or sample.",
    )
    format: Format = setting("auto", "Format of the corpus; auto detects it from the content.")
    columns: dict[str, str] = setting(
        {},
        "Column mapping of a table: utterance field to column name, such as {text: body}. Other names carry a field of"
        " any format into `utterances`, such as {quality: labels.quality}.",
    )
    sample_conversations: int = setting(
        0, "Conversations in the generated sample; 0 is its own default.", minimum=0, maximum=10_000_000
    )
    sample_seed: int = setting(0, "Seed of the generated sample.")


@dataclass(frozen=True)
class UtteranceSettings(Settings):
    """Settings of the asset `utterances`."""

    adopt_roots: bool = setting(
        True,
        "Where a conversation has no root and exactly one of its utterances has a parent outside it, use that one as"
        " the root.",
    )
    max_set_aside: float = setting(
        0.05, "Largest share of utterances that may be set aside; the stage fails above it.", minimum=0, maximum=1
    )
    decode_entities: bool = setting(
        True, "Decode &lt; &gt; &quot; &#39; &amp; in texts and titles to < > \" ' &, once."
    )
    shards: int = setting(
        0,
        "Number of shards, processed one after the other and reused by a rerun; 0 takes one for each 2 GB of the"
        " corpus up to 16, then one for each 10 GB, and on a cluster more. The datasets do not depend on it.",
        minimum=0,
        maximum=99_999,
    )
    replace_personal_data: bool = setting(
        False,
        "Replace e-mail addresses, phone numbers, links, IP addresses, card numbers and IBANs in texts and titles by"
        " [email], [phone] and so on; needs the extra privacy.",
    )
