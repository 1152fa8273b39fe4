"""Benchmark of a new month: 24 monthly dumps are built, the 25th is added, and all 25 are built from nothing.

    python -m adc_pipeline_tests.benchmarks.months --utterances 1000000 --folder /tmp/months

The corpus is that of `reddit_shape`, dated anew: a conversation begins at a time of its own in 25 months, its replies
come within some days, and 2 % of them up to 60 days late, so that the last month touches older conversations. Each
build is a process of its own: `utterances`, `ranked_replies`, `top_2` and `random_walk`, without Dagster. Both results
of 25 months must have the same bytes.
"""

import argparse
import hashlib
import json
import shutil
import subprocess
import sys
from pathlib import Path

from adc_pipeline_tests.benchmarks.data import DUMP_FIELDS, UTTERANCES, measured
from adc_pipeline_tests.benchmarks.reddit_shape import write_corpus

MONTHS, SECONDS = 25, 30 * 86_400
FIRST = 1_420_070_400  # January 2015
KINDS = ("top-2", "random-walk")
STAGES = ("utterances", "ranked", *KINDS)

DATED = f"""
CREATE TABLE dated AS SELECT *, $first + (hash(conversation_id) % $span)::BIGINT
    + CASE WHEN "reply-to" IS NULL THEN 0 WHEN hash(id) % 50 = 0 THEN hash(id, 1) % (60 * 86400)
        ELSE hash(id, 2) % (2 * 86400) END::BIGINT AS time
FROM {UTTERANCES}
"""  # noqa: S608
MONTH = f"""
COPY (
    SELECT {DUMP_FIELDS}, time AS created_utc FROM dated
    WHERE least((time - $first) // $seconds, $months - 1) = $month ORDER BY time, id
) TO $path (FORMAT json)
"""  # noqa: S608


def write_months(folder: Path, utterances: int) -> None:
    import duckdb

    corpus = folder / "convokit"
    corpus.mkdir(parents=True)
    write_corpus(corpus, utterances)
    (folder / "months").mkdir()
    with duckdb.connect(str(folder / "dated.duckdb")) as connection:
        values = {"first": FIRST, "span": MONTHS * SECONDS, "lines": str(corpus / "utterances.jsonl")}
        connection.execute(DATED, values)
        for month in range(MONTHS):
            path = folder / "months" / f"RC_{2015 + month // 12}-{1 + month % 12:02}.jsonl"
            months = {"first": FIRST, "seconds": SECONDS, "months": MONTHS, "month": month, "path": str(path)}
            connection.execute(MONTH, months)
    (folder / "dated.duckdb").unlink()
    shutil.rmtree(corpus)


def build(corpus: Path, out: Path, previous: Path | None, threads: int) -> None:
    from adc_pipeline.core.engine import Engine
    from adc_pipeline.corpus.opening.recorded_files import FILES, record_files
    from adc_pipeline.corpus.settings import CorpusSettings
    from adc_pipeline.corpus.source import fetch
    from adc_pipeline.corpus.utterances import write_utterances
    from adc_pipeline.ranking.ranked_replies import write_ranked_replies
    from adc_pipeline.walks.datasets import Previous, write_walks

    engine, source, raw = Engine(threads), CorpusSettings(str(corpus)), out / "raw" / "corpus"
    raw.parent.mkdir(parents=True)
    fetch(source, {}, raw)
    record_files(raw, raw.with_name(FILES))
    counts = json.loads((previous / "counts.json").read_text()) if previous else {}
    with measured("utterances"):
        old = previous / "utterances" if previous else None
        write_utterances(raw, out / "utterances", None, engine, source, previous=old)
    with measured("ranked"):
        old = previous / "ranked" if previous else None
        write_ranked_replies(out / "utterances", out / "ranked", engine=engine, previous=old)
    found = {}
    for kind in KINDS:
        with measured(kind):
            before = Previous(previous / kind, counts[kind]) if previous else None
            found[kind] = write_walks(
                kind, out / "utterances", out / "ranked", out / kind, engine=engine, previous=before
            )
    (out / "counts.json").write_text(json.dumps(found))


def datasets(out: Path) -> str:
    digest = hashlib.sha256()
    for path in sorted(path for kind in KINDS for path in (out / kind / "data").iterdir()):
        digest.update(path.read_bytes())
    return digest.hexdigest()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--utterances", type=int, default=1_000_000)
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--folder", type=Path, required=True, help="folder that keeps the months")
    parser.add_argument("--build", nargs="+", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.build:
        corpus, out, *previous = given.build
        build(corpus, out, previous[0] if previous else None, given.threads)
        return
    folder = given.folder / str(given.utterances)
    if not (folder / "months" / f"RC_2017-{MONTHS - 24:02}.jsonl").exists():
        write_months(folder, given.utterances)
    files = sorted((folder / "months").iterdir())
    source = folder / "source"
    cpu: dict[str, dict[str, float]] = {}
    for name, count, previous in (("before", MONTHS - 1, ""), ("added", MONTHS, "before"), ("whole", MONTHS, "")):
        shutil.rmtree(source, ignore_errors=True)
        source.mkdir()
        for file in files[:count]:
            (source / file.name).hardlink_to(file)
        out = folder / name
        shutil.rmtree(out, ignore_errors=True)
        paths = [str(path) for path in (source, out, *([folder / previous] if previous else []))]
        command = [sys.executable, "-m", __spec__.name, "--folder", str(folder), "--threads", str(given.threads)]
        done = subprocess.run([*command, "--build", *paths], check=True, stdout=subprocess.PIPE, text=True).stdout
        cpu[name] = {row["what"]: row["cpu"] for row in map(json.loads, done.splitlines())}
        cpu[name]["all"] = sum(cpu[name].values())
    print("| step | whole build, CPU s | month added, CPU s | |\n| --- | ---: | ---: | ---: |")
    for stage, whole in cpu["whole"].items():
        print(f"| {stage} | {whole:.1f} | {cpu['added'][stage]:.1f} | {cpu['added'][stage] / whole:.0%} |")
    same = datasets(folder / "added") == datasets(folder / "whole")
    print("\nThe datasets of both have the same bytes." if same else "\nFAILED: the datasets differ.")
    for name in cpu:
        shutil.rmtree(folder / name)
    sys.exit(not same)


if __name__ == "__main__":
    main()
