"""An instruct model as a control of policy improvement."""

from dataclasses import replace
from pathlib import Path

import pytest
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerBase

from adc_pipeline.core.errors import PipelineError
from adc_pipeline.evaluation.cases.cases import Cases
from adc_pipeline.evaluation.cases.contexts import Context
from adc_pipeline.evaluation.job import EvaluationJob
from adc_pipeline.evaluation.judging.named_models import NamedModel
from adc_pipeline.evaluation.own_replies import instruct_replies
from adc_pipeline.evaluation.replies.instruct import INSTRUCT, InstructModel, prepare_instruct_model
from adc_pipeline.evaluation.settings import EvaluationSettings
from adc_pipeline.generation.settings import Sampling

SETTINGS = EvaluationSettings(contexts=3, rejections=2)
TEMPLATE = (
    "{% for message in messages %}<{{ message.role }}>{{ message.content }}{{ eos_token }}{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)


@pytest.fixture
def judge(tokenizer: PreTrainedTokenizerBase, tmp_path: Path) -> Path:
    """The folder of a judge with a randomly initialised instruct model beside it."""
    ids = dict.fromkeys(("bos_token_id", "eos_token_id"), tokenizer.eos_token_id)
    config = GPT2Config(n_embd=16, n_layer=1, n_head=2, n_positions=1024, vocab_size=len(tokenizer), **ids)
    folder = tmp_path / "named"
    GPT2LMHeadModel(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    named = NamedModel("instruct_model", str(folder))
    with pytest.raises(PipelineError, match="has no chat template: name a model that follows instructions"):
        prepare_instruct_model(named, tmp_path / "judge" / INSTRUCT)
    (folder / "chat_template.jinja").write_text(TEMPLATE)
    prepare_instruct_model(named, tmp_path / "judge" / INSTRUCT)
    return tmp_path / "judge"


@pytest.mark.slow
def test_rejections_are_told_in_words_and_long_threads_lose_their_beginning(judge: Path) -> None:
    model = InstructModel.load(judge / INSTRUCT, True, SETTINGS)
    context = Context(0, "p", "ann\nA post", (("bob\nA turn", "accepted"),), ())
    text = str(model.tokenizer.decode(model.prompt(context, ("too bad",), 1000)))
    thread, reply, again, nothing = text.split(str(model.tokenizer.eos_token))
    assert thread.startswith("<user>This is a thread of an online forum.\n\nA post\n\nA turn\n\nWrite")
    assert (reply, nothing) == ("<assistant>too bad", "<assistant>")
    assert again == "<user>Readers rejected this reply. Write a better one. Answer with its text only."
    long = Context(0, "p", "ann\n" + "first " * 200 + "last", (), ())
    room = len(model.prompt(Context(0, "p", "ann\n", (), ()), ("too bad",), 1000)) + 9
    shortened = model.prompt(long, ("too bad",), room)
    assert len(shortened) <= room
    assert "last\n\nWrite" in model.tokenizer.decode(shortened)
    assert len(model.prompt(long, ("too bad",) * 40, room)) <= room


@pytest.mark.slow
def test_the_replies_of_all_contexts_are_written_once(
    judge: Path, cases: Cases, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    none = tmp_path
    job = EvaluationJob(none, none, none, none, none, judge=judge, reward_cache=tmp_path / "cache")
    few = replace(cases, contexts=cases.contexts[:3])

    def written() -> list[tuple[int, str, int, str]]:
        found = instruct_replies(job, few, ["a", "b", "c"], Sampling(0.8, 1.0, 4), SETTINGS, None)
        return [(each.context, each.series, each.k, each.text) for each in found]

    first = written()
    assert [each[:3] for each in first] == [(context, INSTRUCT, k) for context in range(3) for k in range(3)]
    assert len({text for *_, text in first}) > 1
    monkeypatch.setattr(InstructModel, "load", None)
    assert written() == first
