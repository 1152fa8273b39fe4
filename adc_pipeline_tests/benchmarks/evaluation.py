"""Benchmark of the evaluation's scorer against scoring one sequence at a time.

    python -m adc_pipeline_tests.benchmarks.evaluation

Measures in one run, with the same queries (those of the sample corpus' test conversations for top-2) and the same model
(the pipeline's default base model, whose weights do not affect the speed):

1. the scorer, which packs queries into rows of prefix trees, tokenization included;
2. the tests' reference scorer: one sequence at a time, no cache, every logit.

They alternate for `--rounds` rounds, the reference with every `--share`-th query; the best round of each counts. Their
scores agree to 1e-4. Runs on the GPU if there is one.
"""

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from adc_pipeline.corpus.sample.threads import write_sample
from adc_pipeline.evaluation.cases.cases import read_cases
from adc_pipeline.evaluation.scoring.likelihoods import Query, Scorer
from adc_pipeline.evaluation.settings import EvaluationSettings
from adc_pipeline.training.model import prepare_base_model
from adc_pipeline.training.settings import BaseModelSettings
from adc_pipeline.walks.markers import FORMATS
from adc_pipeline_tests.evaluation.conftest import run_stages
from adc_pipeline_tests.evaluation.reference import reference
from adc_pipeline_tests.stages import read_utterances


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--conversations", type=int, default=4000, help="size of the sample corpus; 5 %% are scored")
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--share", type=int, default=4, help="the reference scores every SHARE-th query")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--row-tokens", type=int, default=EvaluationSettings().row_tokens)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    settings = EvaluationSettings(row_tokens=given.row_tokens)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        corpus, base = folder / "corpus", folder / "base"
        corpus.mkdir()
        write_sample(corpus, conversations=given.conversations)
        stages = run_stages(corpus, folder, "top-2", shares=(90, 5, 5))
        texts = (text for (text,) in read_utterances(stages.utterances, "text"))
        prepare_base_model(BaseModelSettings(), FORMATS["default"], texts, base)
        folders = (stages.dataset, stages.utterances, stages.ranked)
        # The sample has few distinct roots.
        cases = read_cases(*folders, "default", "names", settings, folder / "spill", exclude_repeated_roots=False)
        scorer = Scorer.load(base, settings)
        # Queries about siblings often repeat those about a walk's turns; here each distinct query counts once.
        distinct: dict[Query, bool] = {}
        for query, text in zip(cases.queries, cases.ask_text, strict=True):
            plain = query._replace(siblings=())
            distinct[plain] = distinct.get(plain, False) or bool(text)
        queries, ask_text = list(distinct), np.array(list(distinct.values()))
        reference_queries = queries[:: given.share]
        seconds: dict[str, list[float]] = {"scorer": [], "reference": []}
        for _ in range(given.rounds):
            start = time.perf_counter()
            scores = scorer.score(queries, ask_text)
            seconds["scorer"].append((time.perf_counter() - start) / len(queries))
            start = time.perf_counter()
            expected = [reference(scorer.model, scorer.tokenizer, query) for query in reference_queries]
            seconds["reference"].append((time.perf_counter() - start) / len(reference_queries))
    text, odds = (np.array(column) for column in zip(*expected, strict=True))
    difference = max(
        np.abs(scores.log_odds[:: given.share] - odds).max(),
        np.abs((scores.log_probability[:: given.share] - text)[ask_text[:: given.share]]).max(),
    )
    best = {name: min(each) for name, each in seconds.items()}
    print(f"{len(queries):,} queries, {given.threads} threads, {scorer.device}; largest difference {difference:.1e}")
    for name, each in best.items():
        print(f"{name:10} {1 / each:8,.0f} queries/s   {each * len(queries):6.2f} s for all")
    print(f"ratio      {best['reference'] / best['scorer']:8.1f}")


if __name__ == "__main__":
    main()
