"""A model answers posts: within its context, within the grammar, and laid out as it was trained."""

import shutil
from pathlib import Path

import pytest
import torch

from adc_pipeline.core.errors import PipelineError
from adc_pipeline.generation.address import inside
from adc_pipeline.generation.decoding import Sampling
from adc_pipeline.generation.replier import Replier
from adc_pipeline_tests.generation.conftest import trained_with

WILD = Sampling(temperature=3.0, top_p=1.0, max_new_tokens=30)


@pytest.fixture
def prompts(replier: Replier, monkeypatch: pytest.MonkeyPatch) -> list[list[int]]:
    """What the model is given, one list a forward pass over a prompt."""
    seen: list[list[int]] = []
    forward = replier.model.forward

    def noted(input_ids: torch.Tensor, **rest: object) -> object:
        if input_ids.shape[1] > 1:
            seen.append(input_ids[0].tolist())
        return forward(input_ids=input_ids, **rest)

    monkeypatch.setattr(replier.model, "forward", noted)
    return seen


@pytest.mark.slow
@pytest.mark.parametrize("speakers", ["names", "none"])
def test_replies_hold_no_marker_and_say_something(small_model: Path, tmp_path: Path, speakers: str) -> None:
    replier = trained_with(small_model, tmp_path / "m", speakers=speakers)
    torch.manual_seed(0)
    conversation = replier.about("A title\nand a text")
    ended = set()
    for _ in range(20):
        pieces: list[str] = []
        reply = replier.reply(conversation, WILD, pieces.append)
        assert "".join(pieces) == reply.turn
        assert not any(marker in reply.turn for marker in (*replier.tokenizer.markers.strings(), "<|endoftext|>"))
        assert reply.text.strip()
        ended.add(reply.ended)
    # Without training, a line break and thus a speaker's end is rare.
    assert speakers == "names" or len(ended) > 1


def test_the_next_reply_has_seen_the_rejected_one(replier: Replier, prompts: list[list[int]]) -> None:
    conversation = replier.about("A title\nand a text")
    reply = replier.reply(conversation, WILD)
    conversation = replier.judged(conversation, reply, "rejected")
    replier.reply(conversation, WILD)
    conversation = replier.with_turn(conversation, "my own <accepted>", "accepted", "user1")
    replier.reply(conversation, WILD)
    tokenizer = replier.tokenizer
    (rejected, own) = tokenizer.ids([reply.turn, "user1\nmy own ‹accepted›"])
    assert prompts[1] == [*prompts[0], *rejected, tokenizer.rejected_id]
    assert prompts[2] == [*prompts[1], *own, tokenizer.accepted_id]


def test_the_same_seed_gives_the_same_reply(replier: Replier) -> None:
    conversation = replier.about("A title")
    one, free, same, also_free, other = (
        replier.reply(conversation, Sampling(temperature=1, max_new_tokens=20, seed=seed))
        for seed in (1, None, 1, None, 2)
    )
    assert one == same
    assert len({one, other, free, also_free}) == 4


@pytest.mark.parametrize("sampling", [Sampling(1.0, 0.9, 20, seed=5), Sampling(0.0, max_new_tokens=20)])
def test_conversations_side_by_side_get_the_replies_that_each_gets_alone(replier: Replier, sampling: Sampling) -> None:
    about = [replier.about(f"A title {number}\n" + "and words " * (7 * number % 11)) for number in range(10)]
    about[3] = replier.with_turn(about[3], "No.", "rejected")
    batches = list(replier.replies(about, sampling))
    assert [len(batch) for batch in batches] == [8, 2]
    assert [reply for batch in batches for reply in batch] == [replier.reply(each, sampling) for each in about]


@pytest.mark.slow
def test_a_long_conversation_stays_within_the_context(replier: Replier, prompts: list[list[int]]) -> None:
    conversation = replier.about("A title\n" + "many words " * 100)
    for _ in range(4):
        reply = replier.reply(conversation, Sampling(max_new_tokens=100_000, seed=0))
        conversation = replier.judged(conversation, reply, "rejected")
    assert replier.context_tokens == 256
    assert all(64 < len(prompt) <= 128 for prompt in prompts)


def test_a_conditional_model_is_asked_by_the_marker(small_model: Path, tmp_path: Path) -> None:
    facts = {"objective": "conditional", "markers": "before", "train": {"sequence_length": 64, "row_length": 256}}
    replier = trained_with(small_model, tmp_path / "m", **facts)
    assert replier.arranged.markers_first
    assert replier.context_tokens == 64
    assert replier.reply(replier.about("A title"), WILD).text.strip()


def test_a_model_without_speakers_writes_text_only(small_model: Path, tmp_path: Path) -> None:
    replier = trained_with(small_model, tmp_path / "m", speakers="none")
    conversation = replier.with_turn(replier.about("A title\ntext"), "no", "rejected")
    assert conversation.text(replier.tokenizer.markers) == "A title\ntext<background>no<rejected>"
    assert replier.reply(conversation, WILD).speaker is None


def test_a_filtering_model_is_shown_no_rejected_turn(small_model: Path, tmp_path: Path) -> None:
    replier = trained_with(small_model, tmp_path / "m", objective="filtering", markers="after")
    assert replier.arranged.exclude_rejected


def test_a_model_whose_training_stripped_the_markers_is_refused(small_model: Path, tmp_path: Path) -> None:
    with pytest.raises(PipelineError, match="`markers: stripped`"):
        trained_with(small_model, tmp_path / "m", markers="none")


def test_a_model_without_markers_is_refused_by_name(small_model: Path, tmp_path: Path) -> None:
    from transformers import AutoTokenizer, PreTrainedTokenizerFast

    plain = AutoTokenizer.from_pretrained(small_model)
    bare = PreTrainedTokenizerFast(
        tokenizer_object=type(plain.backend_tokenizer).from_str(
            plain.backend_tokenizer.to_str().replace("<rejected>", "<denied>")
        ),
        eos_token="<|endoftext|>",
    )
    bare.save_pretrained(tmp_path)
    (tmp_path / "config.json").symlink_to(small_model / "config.json")
    with pytest.raises(PipelineError, match=r"THERE has no markers; name a model that this pipeline trained"):
        Replier.load(inside(tmp_path, "THERE"))


def test_a_folder_with_weights_cut_off_is_refused(small_model: Path, tmp_path: Path) -> None:
    folder = tmp_path / "m"
    shutil.copytree(small_model, folder)
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(PipelineError, match="cannot be loaded"):
        Replier.load(inside(folder, str(folder)))


def test_what_no_encoding_knows_is_taken_all_the_same(replier: Replier) -> None:
    conversation = replier.about("A title\nand \ud800 a text", speaker="\udcff")
    assert conversation.background == "?\nA title\nand ? a text"
    assert replier.reply(replier.with_turn(conversation, "no \udfff", "rejected"), WILD).text


def test_a_folder_with_broken_weights_is_refused(small_model: Path, tmp_path: Path) -> None:
    for name in ("config.json", "tokenizer.json", "tokenizer_config.json"):
        (tmp_path / name).symlink_to(small_model / name)
    with pytest.raises(PipelineError, match=r"THERE cannot be loaded \(.*\); check"):
        Replier.load(inside(tmp_path, "THERE"))


def test_too_little_memory_is_a_sentence(replier: Replier, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object, **__: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.")

    monkeypatch.setattr(replier.model, "forward", fails)
    with pytest.raises(PipelineError, match="ran out of memory over a conversation; lower `max_new_tokens`"):
        replier.reply(replier.about("A title\nand a text"), WILD)
