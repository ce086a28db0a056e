"""Models in this process: greedy text, yes and no by probability, and models that cannot answer."""

import json
import os
from pathlib import Path
from typing import Any

import pytest

from recbole_llmgraph.base.errors import UserError
from recbole_llmgraph.oracle.backend import Call, Reply, Silence
from recbole_llmgraph.oracle.local import LocalBackend
from recbole_llmgraph.oracle.opening import open_oracle
from recbole_llmgraph.oracle.options import OracleOptions
from recbole_llmgraph.oracle.oracle import Oracle
from recbole_llmgraph.oracle.questions import Item, edge_pair, rerank_point
from recbole_llmgraph.oracle.sitting import InvalidAnswersError


@pytest.fixture(scope="module")
def checkpoints() -> Path:
    """Folder of small real checkpoints; tests that need it are skipped where there is none."""
    beside = Path(__file__).resolve().parents[3] / "shared" / "lm"
    folder = Path(os.environ.get("RECBOLE_LLMGRAPH_LM", beside))
    if not folder.is_dir():
        pytest.skip("no checkpoints; set RECBOLE_LLMGRAPH_LM to a folder with stories260K and others")
    return folder


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny random Llama with words of its own, so that these tests need no checkpoint."""
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    folder = tmp_path_factory.mktemp("made") / "tiny"
    words = ["<pad>", "<eos>", "<unk>", "yes", "no", "Answer", ":", "12", "15", "::", *"abcdefghij"]
    bare = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="<unk>"))
    bare.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=bare, pad_token="<pad>", eos_token="<eos>")
    torch.manual_seed(3)
    config = LlamaConfig(
        vocab_size=len(words), hidden_size=16, intermediate_size=32, num_hidden_layers=2,
        num_attention_heads=2, max_position_embeddings=700, eos_token_id=1, pad_token_id=0, bos_token_id=None,
        initializer_range=0.6,
    )  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def ask_all(backend: LocalBackend, questions: list[Any]) -> dict[int, Reply | Silence]:
    calls = [Call.first(number, question) for number, question in enumerate(questions)]
    waiting = list(calls)
    return {
        call.number: result
        for arrived in backend.work(lambda: waiting.pop(0) if waiting else None)
        for call, result in arrived
    }


def pairs(count: int, history: int = 0) -> list[Any]:
    """Prompts of different lengths."""
    return [
        edge_pair(
            [Item(f"h{k}", "a b c", rating=4) for k in range(history or number % 5)],
            [Item("12", "d " * number), Item("15", "e")],
        )
        for number in range(count)
    ]


def test_greedy_text_is_that_of_one_prompt_alone(made: Path) -> None:
    """Batches of mixed lengths against a loop: one prompt, one token at a time, no cache, no padding."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model, tokenizer = AutoModelForCausalLM.from_pretrained(made).eval(), AutoTokenizer.from_pretrained(made)
    questions = pairs(11)
    found = ask_all(LocalBackend(f"path:{made}", OracleOptions.read({"batch": 4})), questions)
    texts = set()
    for number, question in enumerate(questions):
        call = Call.first(number, question)
        row = tokenizer("\n\n".join(m.text for m in call.messages) + "\n\nAnswer:")["input_ids"]
        said: list[int] = []
        while len(said) < call.template.max_tokens and (not said or said[-1] != tokenizer.eos_token_id):
            with torch.no_grad():
                said.append(int(model(torch.tensor([row + said])).logits[0, -1].argmax()))
        ended = said[-1] == tokenizer.eos_token_id
        reply = found[number]
        assert isinstance(reply, Reply)
        assert reply.text == tokenizer.decode(said, skip_special_tokens=True)
        assert (reply.usage.tokens_in, reply.usage.tokens_out) == (len(row), len(said) - ended)
        texts.add(reply.text)
    assert len(texts) > 1


def test_yes_and_no_are_read_from_probabilities(made: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model, tokenizer = AutoModelForCausalLM.from_pretrained(made).eval(), AutoTokenizer.from_pretrained(made)
    questions = [rerank_point("a " * n, Item("12", "b"), liked=[Item("15", "c")]) for n in range(5)]
    found = ask_all(LocalBackend(f"path:{made}", OracleOptions.read({"batch": 3})), questions)
    for number, question in enumerate(questions):
        call = Call.first(number, question)
        row = tokenizer("\n\n".join(m.text for m in call.messages) + "\n\nAnswer:", return_tensors="pt")
        with torch.no_grad():
            chances = model(row["input_ids"]).logits[0, -1].double().softmax(0)
        yes, no = (float(chances[tokenizer.convert_tokens_to_ids(word)]) for word in ("yes", "no"))
        reply = found[number]
        assert isinstance(reply, Reply)
        said = json.loads(reply.text)
        assert said["p_yes"] == pytest.approx(yes / (yes + no), abs=1e-4)
        assert said["mass"] == pytest.approx(yes + no, abs=1e-4)
        assert said["answer"] == ("yes" if yes > no else "no")


def test_a_prompt_beyond_the_models_length_is_left_out(made: Path) -> None:
    found = ask_all(LocalBackend(f"path:{made}", OracleOptions()), [*pairs(2), *pairs(1, history=200)])
    assert isinstance(found[0], Reply)
    assert isinstance(found[2], Silence)
    assert "the model has room for 676" in found[2].reason


def test_a_chat_template_is_used(made: Path, tmp_path: Path) -> None:
    from shutil import copytree

    folder = copytree(made, tmp_path / "chat")
    template = (
        "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system') }}{% endif %}"
        "{% for m in messages %}a {{ m['content'] }} b {% endfor %}{% if add_generation_prompt %}c{% endif %}"
    )
    (folder / "chat_template.jinja").write_text(template)
    backend = LocalBackend(f"path:{folder}", OracleOptions())
    call = Call.first(0, pairs(1)[0])
    text = backend._tokenizer.decode(backend._tokens(call.messages))
    assert text.startswith("a ")
    assert text.endswith(" b c")
    assert backend.identity != LocalBackend(f"path:{made}", OracleOptions()).identity


@pytest.mark.parametrize("name", ["stories260K", "stories3M-q80"])
def test_a_model_that_cannot_answer_is_caught(name: str, checkpoints: Path, tmp_path: Path) -> None:
    """Real language models, trained on children's stories: they speak, but they do not answer."""

    def opened() -> Oracle:
        options = OracleOptions.read({"batch": 4})
        return open_oracle(f"hf:path:{checkpoints / name / 'hf'}", cache=tmp_path / "c", options=options)

    questions = [
        edge_pair([Item(f"h{n}", "A dog", rating=5)], [Item(f"1{n}", "A cat"), Item(f"2{n}", "A bird")])
        for n in range(8)
    ]
    oracle = opened()
    with pytest.raises(InvalidAnswersError, match=f"{name}.*answers to edge_pair.v1 are valid") as told:
        oracle.ask(questions)
    assert told.value.valid_rate < 0.5
    (row,) = oracle.costs()
    assert row.valid_rate == told.value.valid_rate
    assert row.now.calls > 0
    assert row.now.calls <= 12  # two batches of first answers at most, one of repairs
    assert row.now.tokens_out > row.now.calls  # it did speak
    with pytest.raises(InvalidAnswersError):  # known from the cache the second time
        opened().ask(questions[: row.questions])
    everything = OracleOptions.read({"batch": 4, "min_valid": 0})
    accepted = Oracle(oracle.backend, oracle.cache, everything).ask(questions[:4])
    assert {answer.status for answer in accepted} <= {"ok", "repaired", "fallback"}


def test_addresses_that_lead_nowhere(tmp_path: Path) -> None:
    for spec, says in (("hf:nowhere", "Known forms"), (f"hf:path:{tmp_path}/x", "no such folder")):
        with pytest.raises(UserError, match=says):
            open_oracle(spec, cache=tmp_path / "c")
