"""Benchmark of training against a bare loop and transformers' `Trainer`, on walks of realistic lengths.

    python -m adc_pipeline_tests.benchmarks.training

Measures in one run, with the same walks and the same model:

1. tokenization, in tokens per second, streamed to disk;
2. the training loop (`training.loop.train.train`), with logging, clipping and checkpoints;
3. a bare loop of forward pass, backward pass and optimizer step over the same packed batches, prepared in advance;
4. transformers' `Trainer` on padded batches with as many useful tokens;
5. trl's `SFTTrainer`, if trl is installed, with its best packing, which keeps walks apart.

2 to 5 alternate for `--rounds` rounds, and the median counts; `--ways loop` runs only 2. Only tokens of
walks count, not padding. On a GPU the model FLOPs utilization is printed too (`training.loop.utilization`).
The difference between the training loop and the bare loop, whose batches are on the GPU before it starts, includes the
time that the GPU waits for data. Examples for a GPU:

    python -m adc_pipeline_tests.benchmarks.training --model gpt-neox-1.4b --sequence-length 2048 \\
        --tokens-per-step 65536 --tokens-per-forward 16384 --walks 40000 --steps 30 --compile
    python -m adc_pipeline_tests.benchmarks.training --model gpt-j-6b --sequence-length 2048 --ways loop \\
        --tokens-per-step 65536 --tokens-per-forward 8192 --walks 40000 --steps 12 --gradient-checkpointing

Needs only torch, transformers, accelerate, tokenizers, numpy and pyarrow of the project's dependencies.
"""

import argparse
import itertools
import json
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import redirect_stdout
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from adc_pipeline.training.architectures.loading import load_model
from adc_pipeline.training.architectures.probes import choose_separation
from adc_pipeline.training.loop.optimization import adamw
from adc_pipeline.training.loop.train import train
from adc_pipeline.training.loop.utilization import flops_per_token, peak_flops
from adc_pipeline.training.model import prepare_base_model
from adc_pipeline.training.objectives.losses import TokenLosses, weighted_loss
from adc_pipeline.training.rows.data import PackedSplit, row_length
from adc_pipeline.training.rows.packing import cut_into_pieces
from adc_pipeline.training.settings import BaseModelSettings, TrainingJob, TrainingSettings
from adc_pipeline.training.texts.dataset import load_split, tokenize_split
from adc_pipeline.training.texts.tokens import MarkerTokenizer
from adc_pipeline.walks.markers import FORMATS
from adc_pipeline_tests.training.walks import walk, write_dataset

if TYPE_CHECKING:
    from transformers import PreTrainedModel


THREADS = torch.get_num_threads()

# Configurations of models of these sizes; their weights are random here.
CONFIGURATIONS: dict[str, dict[str, Any]] = {
    "smollm2-135m": {
        "model_type": "llama",
        "hidden_size": 576,
        "intermediate_size": 1536,
        "num_hidden_layers": 30,
        "num_attention_heads": 9,
        "num_key_value_heads": 3,
        "vocab_size": 49152,
        "max_position_embeddings": 8192,
        "tie_word_embeddings": True,
    },
    "pythia-160m": {
        "model_type": "gpt_neox",
        "hidden_size": 768,
        "intermediate_size": 3072,
        "num_hidden_layers": 12,
        "num_attention_heads": 12,
        "vocab_size": 50304,
    },
    "gpt-neox-1.4b": {
        "model_type": "gpt_neox",
        "hidden_size": 2048,
        "intermediate_size": 8192,
        "num_hidden_layers": 24,
        "num_attention_heads": 16,
        "vocab_size": 50304,
    },
    "gpt-j-6b": {"model_type": "gptj", "vocab_size": 50400},
}


def invented_words(number: int) -> list[str]:
    draw = random.Random(0)
    return ["".join(draw.choices("etaoinshrdlucmfwypvbgk", k=draw.randint(2, 9))) for _ in range(number)]


def invented_walk(number: int, words: list[str]) -> dict[str, Any]:
    """Return a walk with lengths as on Reddit: 3.5 turns on average, texts of 25 words with a long tail."""
    draw = random.Random(number)

    def text() -> str:
        size = max(1, min(400, int(draw.lognormvariate(2.8, 0.9))))
        return " ".join(words[int(len(words) * draw.random() ** 3)] for _ in range(size))

    turns = [("user", text(), "rejected" if draw.random() < 0.3 else "accepted")]
    while draw.random() < 0.7:
        turns.append(("user", text(), "rejected" if draw.random() < 0.3 else "accepted"))
    return walk(f"op\n{text()}\n{text()}", turns, f"c{number}")


class Bench:
    """A model, a dataset, and several ways to train the model on it."""

    def __init__(self, folder: Path, given: argparse.Namespace) -> None:
        words = invented_words(20_000)
        walks = [invented_walk(number, words) for number in range(given.walks)]
        self.folder = folder
        self.dataset = write_dataset(folder / "dataset", train=walks)
        self.base = folder / "base"
        model = BaseModelSettings(
            layers=given.layers, width=given.width, heads=given.heads, vocabulary=given.vocabulary, context=4096
        )
        prepare_base_model(model, FORMATS["default"], (one["text"] for one in walks), self.base)
        if given.model != "small":
            write_random_model(given.model, self.base)
        self.settings = TrainingSettings(
            sequence_length=given.sequence_length,
            tokens_per_step=given.tokens_per_step,
            tokens_per_forward=given.tokens_per_forward,
            gradient_checkpointing=given.gradient_checkpointing,
            compile=given.compile,
            learning_rate=1e-4,
            max_steps=given.steps,
            validate_every=0,
            checkpoint_every=0,
            log_every=10,
        )
        self.tokens = folder / "tokens"

    def tokenization(self) -> float:
        tokenizer = MarkerTokenizer.load(self.base)
        began = time.perf_counter()
        tokenize_split(tokenizer, self.dataset, "train", self.tokens)
        return len(load_split(self.tokens).ids) / (time.perf_counter() - began)

    def loop(self) -> float:
        """Return the tokens per second of the project's training loop."""
        with tempfile.TemporaryDirectory(dir=self.folder) as out:
            job = TrainingJob(self.settings, self.dataset, self.base, Path(out) / "model", Path(out) / "work")
            with redirect_stdout(sys.stderr):
                facts = train(job)
        self.memory_bytes = facts["memory_bytes"]
        return float(facts["tokens_per_second"])

    def bare_loop(self) -> float:
        model, device = self.model()
        data = self.data(model, device)
        rows_per_step = max(1, round(self.settings.tokens_per_step / data.row))
        steps = [
            data.order.rows(n * rows_per_step, (n + 1) * rows_per_step) for n in range(self.settings.max_steps or 1)
        ]
        batches = [(data.tokens(rows), [batch.to(device) for batch in data.passes(rows)]) for rows in steps]
        losses, optimizer = TokenLosses(model), adamw(model, self.settings)
        began = time.perf_counter()
        for _, passes in batches:
            total = float(sum(batch.weights.sum() for batch in passes))
            for batch in passes:
                with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
                    found = losses(batch).tokens
                weighted_loss(found, batch.weights, total).backward()
            optimizer.step()
            optimizer.zero_grad()
        wait_for(device)
        return sum(tokens for tokens, _ in batches) / (time.perf_counter() - began)

    def data(self, model: "PreTrainedModel", device: torch.device) -> PackedSplit:
        on_cpu, split, longest = device.type == "cpu", load_split(self.tokens), self.settings.sequence_length
        pieces = cut_into_pieces(split, longest)
        lengths = (int(pieces.lengths.min()), int(pieces.lengths.max()))
        row = row_length(self.settings, 1, "kernel")
        with torch.autocast(device.type, torch.bfloat16, enabled=not on_cpu):
            separation = choose_separation(model, lengths, longest, row, kernel=not (on_cpu and self.settings.compile))
        return PackedSplit(split, pieces, self.settings, 1, separation, fixed_shape=not on_cpu)

    def walks(self) -> list[list[int]]:
        """Return the ids of each walk, cut to the longest piece."""
        split, most = load_split(self.tokens), self.settings.sequence_length
        starts = split.walk_start.tolist()
        return [split.ids[begin : min(end, begin + most)].tolist() for begin, end in itertools.pairwise(starts)]

    def arguments(self, rows: int, device: torch.device) -> dict[str, Any]:
        """Return what both trainers of the Hugging Face libraries are given, with batches of so many rows."""
        return {
            "output_dir": str(self.folder / "trainer"),
            "per_device_train_batch_size": rows,
            "max_steps": self.settings.max_steps or 1,
            "learning_rate": self.settings.learning_rate,
            "save_strategy": "no",
            "report_to": [],
            "logging_steps": 10,
            "disable_tqdm": True,
            "bf16": device.type == "cuda",
            "gradient_checkpointing": self.settings.gradient_checkpointing,
            "torch_compile": self.settings.compile,
            "use_cpu": device.type == "cpu",
        }

    def trainer(self) -> float:
        """Return the tokens per second of transformers' `Trainer`, on padded batches with as many useful tokens."""
        from transformers import Trainer, TrainingArguments

        walks = self.walks()
        model, device = self.model()
        pad = model.config.eos_token_id

        def collate(batch: list[dict[str, list[int]]]) -> dict[str, torch.Tensor]:
            longest = max(len(one["input_ids"]) for one in batch)
            ids = torch.tensor([one["input_ids"] + [pad] * (longest - len(one["input_ids"])) for one in batch])
            mask = torch.tensor([[1] * len(o["input_ids"]) + [0] * (longest - len(o["input_ids"])) for o in batch])
            return {"input_ids": ids, "attention_mask": mask, "labels": ids.masked_fill(mask == 0, -100)}

        rows = max(1, round(self.settings.tokens_per_step / float(np.mean([len(ids) for ids in walks]))))
        arguments = TrainingArguments(**self.arguments(rows, device))
        dataset: Any = [{"input_ids": ids} for ids in walks]
        return speed_of(Trainer(model, arguments, train_dataset=dataset, data_collator=collate), device)

    def sft_trainer(self) -> float:
        """Return the tokens per second of trl's `SFTTrainer` with its best packing, which keeps walks apart."""
        import datasets
        from transformers import AutoTokenizer
        from trl import SFTConfig, SFTTrainer

        model, device = self.model()
        longest = self.settings.sequence_length
        rows = max(1, self.settings.tokens_per_step // longest)
        # It needs a tokenizer, and uses only the id of its padding.
        tokenizer = AutoTokenizer.from_pretrained(self.base)
        tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token
        datasets.disable_progress_bars()
        arguments = SFTConfig(
            **self.arguments(rows, device), max_length=longest, packing=True, packing_strategy="bfd", padding_free=True
        )
        dataset = datasets.Dataset.from_dict({"input_ids": self.walks()})
        with redirect_stdout(sys.stderr):
            trainer = SFTTrainer(model, arguments, train_dataset=dataset, processing_class=tokenizer)
        return speed_of(trainer, device)

    def model(self) -> tuple["PreTrainedModel", torch.device]:
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        model = load_model(self.base)
        model.to(device).train()  # type: ignore[arg-type]
        if self.settings.gradient_checkpointing:
            model.gradient_checkpointing_enable({"use_reentrant": False})
        return model, device


def speed_of(trainer: Any, device: torch.device) -> float:
    """Train with a `Trainer`, and return its useful tokens per second, from the begin of its first step."""
    from transformers import TrainerCallback

    learned: list[int] = []
    collate = trainer.data_collator

    def counted(batch: list[dict[str, list[int]]]) -> Any:
        learned.append(sum(len(one["input_ids"]) for one in batch))
        return collate(batch)

    class Clock(TrainerCallback):
        def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            self.began = getattr(self, "began", time.perf_counter())

    clock = Clock()
    trainer.data_collator = counted
    trainer.add_callback(clock)
    with redirect_stdout(sys.stderr):
        trainer.train()
    wait_for(device)
    # The loader reads one batch ahead, which is not trained on.
    return sum(learned[: trainer.args.max_steps]) / (time.perf_counter() - clock.began)


def wait_for(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


def write_random_model(name: str, folder: Path) -> None:
    """Replace the model in `folder` by one of the configuration `name` with random weights; keep the tokenizer."""
    from transformers import AutoConfig, AutoModelForCausalLM

    device = "cuda" if torch.cuda.is_available() else "cpu"
    with torch.device(device):
        AutoModelForCausalLM.from_config(AutoConfig.for_model(**CONFIGURATIONS[name])).save_pretrained(folder)


def speeds(number: int, ways: dict[str, Callable[[], float]]) -> dict[str, list[float]]:
    """Return the speeds of each way in so many rounds, with the ways alternating."""
    found: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(number):
        for name, way in ways.items():
            # The loop of a small model computes with one thread.
            torch.set_num_threads(THREADS)
            found[name].append(way())
    return found


def parser() -> argparse.ArgumentParser:
    """Return the parser of this benchmark's arguments, which the checks in CI use too."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in {
        "walks": 4000,
        "steps": 60,
        "rounds": 2,
        "layers": 2,
        "width": 128,
        "heads": 4,
        "vocabulary": 2048,
        "sequence-length": 512,
        "tokens-per-step": 4096,
        "tokens-per-forward": 8192,
    }.items():
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--model", choices=["small", *CONFIGURATIONS], default="small")
    parser.add_argument("--ways", choices=["all", "loop"], default="all")
    parser.add_argument("--gradient-checkpointing", action="store_true")
    parser.add_argument("--compile", action="store_true")
    return parser


def main() -> None:
    given = parser().parse_args()
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(Path(folder), given)
        print(json.dumps(vars(given)) + "\n")
        print(f"Tokenization: {bench.tokenization():,.0f} tokens/s\n", flush=True)
        ways = {
            "training loop": bench.loop,
            "bare loop": bench.bare_loop,
            "`Trainer`, padded": bench.trainer,
            "trl's `SFTTrainer`, `bfd`, `padding_free`": bench.sft_trainer,
        }
        if find_spec("trl") is None:
            del ways["trl's `SFTTrainer`, `bfd`, `padding_free`"]
        found = speeds(given.rounds, ways if given.ways == "all" else {"training loop": bench.loop})
        medians = {name: statistics.median(each) for name, each in found.items()}
        print("| | useful tokens/s, median | least and most | the training loop against it, median of the rounds |")
        print("| --- | ---: | ---: | ---: |")
        for name, each in found.items():
            against = statistics.median(
                ours / theirs for ours, theirs in zip(found["training loop"], each, strict=True)
            )
            print(f"| {name} | {medians[name]:,.0f} | {min(each):,.0f} to {max(each):,.0f} | {against:.2f} |")
        if torch.cuda.is_available() and (peak := peak_flops(torch.cuda.get_device_name())):
            model, device = bench.model()
            needed = flops_per_token(model, bench.data(model, device).attended)
            used = medians["training loop"] * needed / peak
            print(f"\nModel FLOPs utilization {used:.1%}, {bench.memory_bytes / 2**30:.1f} GiB at most.")


if __name__ == "__main__":
    main()
