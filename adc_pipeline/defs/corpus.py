"""Dagster's view of the corpus: the assets `raw_corpus` and `utterances`, and that no utterance vanished."""

import os
from typing import Any

import dagster as dg

from adc_pipeline.core.code_version import code_version
from adc_pipeline.core.shards import parts
from adc_pipeline.corpus.recorded_files import check_unchanged, corpus_files, record_files
from adc_pipeline.corpus.settings import CorpusSettings, UtteranceSettings
from adc_pipeline.corpus.source import SAMPLE, check_source, corpus_state, download_all, fetch
from adc_pipeline.corpus.tables import READ
from adc_pipeline.corpus.utterances import write_utterances
from adc_pipeline.defs.database import write_database
from adc_pipeline.defs.distributions import distributions
from adc_pipeline.defs.look_ahead import check_settings
from adc_pipeline.defs.preview import preview
from adc_pipeline.defs.run_config import SettingsConfig
from adc_pipeline.defs.workspace import Workspace


@dg.asset(group_name="corpus", kinds={"convokit"}, code_version=code_version("corpus"))
def raw_corpus(
    context: dg.AssetExecutionContext, config: SettingsConfig[CorpusSettings], workspace: Workspace
) -> dg.MaterializeResult:
    """A corpus of conversations, as ConvoKit folders, Reddit dumps or tables: generated, on disk, or downloaded.

    The first asset of a run also looks ahead: what the later ones need and can be known now (the base
    model's name, ADC_HOME, MLflow) is checked before anything expensive begins.
    """
    corpus = config.settings().corpus or os.environ.get("ADC_CORPUS") or SAMPLE
    with workspace.materializing(context, config.model_copy(update={"corpus": corpus})) as making:
        check_source(making.settings)
        ops: Any = context.run.run_config.get("ops", {})
        configured = {name: op.get("config", {}) for name, op in ops.items()}
        check_settings({node.name for node in context.job_def.nodes}, configured)
        making.metadata["corpus"] = corpus
        downloads = workspace.store.home / "downloads"
        downloaded = download_all(making.settings, downloads, context.log.info)
        if making.unchanged(corpus_state(making.settings, downloads)):
            return making.result()
        context.log.info(f"Fetching the corpus {corpus}")
        folder = making.folder / "corpus"
        fetch(making.settings, downloaded, folder, context.log.info)
        before = workspace.store.place("raw_corpus")
        digest = record_files(folder, making.folder / "files.json", before / "corpus" if before.exists() else None)
        files = corpus_files(folder)
        making.count({"bytes": sum(path.stat().st_size for path in files), "parts": len(list(folder.iterdir()))})
        making.finish(digest)
    return making.result()


@dg.asset(group_name="corpus", deps=[raw_corpus], kinds={"duckdb"}, code_version=code_version("corpus"))
def utterances(
    context: dg.AssetExecutionContext, config: SettingsConfig[UtteranceSettings], workspace: Workspace
) -> dg.MaterializeResult:
    """Every utterance read, and its place in its conversation; why others have none, says `set_aside`."""
    with workspace.materializing(context, config) as making:
        corpus = making.input("raw_corpus")
        check_unchanged(corpus.path / "corpus", corpus.path / "files.json")
        if making.unchanged():
            return making.result()
        source = CorpusSettings(**corpus.settings)
        with making.unfinished() as work:
            making.count(
                write_utterances(corpus.path / "corpus", making.folder, making.settings, making.engine, source, work)
            )
        files = parts(making.folder, READ)
        making.metadata["preview"] = preview(files, ("id", "conversation_id", "reply_to", "speaker", "score", "text"))
        panels = {"score": "score", "characters of text": "length(text)"}
        making.show("distributions", distributions(files, panels, making.engine))
        making.finish()
        write_database(workspace.store)
    return making.result()


@dg.asset_check(asset=utterances, blocking=True)
def nothing_lost(workspace: Workspace) -> dg.AssetCheckResult:
    """Every utterance read takes part or is set aside with a reason."""
    counts = workspace.store.current("utterances").counts
    reasons = sum(number for name, number in counts.items() if name.startswith("set_aside."))
    return dg.AssetCheckResult(
        passed=counts["read"] == counts["taking_part"] + reasons and reasons == counts["set_aside"],
        metadata=counts,
    )
