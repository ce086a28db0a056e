"""Backbones: built in, from folders, with trained or fresh weights."""

import json
import shutil

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM, T5Config, T5ForConditionalGeneration

from recbole_llmgraph.base.errors import UserError
from recbole_llmgraph.lm.backbone import available_backbones, open_backbone, read_dtype, text_head
from recbole_llmgraph.lm.builtin import BUILTIN, build_tokenizer

TEXTS = ["a red comb", "a blue comb and soap", "next item?"]
LLAMA = dict(
    hidden_size=16, num_hidden_layers=1, num_attention_heads=2, num_key_value_heads=1, intermediate_size=24
)
T5 = dict(d_model=16, d_kv=8, d_ff=24, num_layers=1, num_heads=2, feed_forward_proj="gated-gelu")


def save(folder, model, tie=None):
    """A model's folder as the hub has it: weights, configuration, tokenizer."""
    model.save_pretrained(folder)
    build_tokenizer(TEXTS).save_pretrained(folder)
    if tie is not None:
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps({**config, "tie_word_embeddings": tie}))
    return f"path:{folder}"


def weights(backbone):
    return torch.cat([weight.detach().flatten() for weight in backbone.model.parameters()])


@pytest.mark.parametrize("name", BUILTIN)
def test_builtin_is_fixed_by_texts_and_seed(name):
    family = BUILTIN[name].family
    before = torch.get_rng_state()
    one = open_backbone(f"builtin:{name}", family=family, texts=TEXTS, seed=1)
    assert torch.equal(before, torch.get_rng_state()), "opening a backbone drew from the caller's generator"
    torch.rand(3)
    same = open_backbone(f"builtin:{name}", family=family, texts=TEXTS, seed=1)
    other = open_backbone(f"builtin:{name}", family=family, texts=TEXTS, seed=2)
    assert torch.equal(weights(one), weights(same))
    assert one.revision == same.revision != other.revision
    assert not torch.equal(weights(one), weights(other))
    assert one.name == f"builtin:{name}"
    assert not one.pretrained
    assert one.parameters == weights(one).numel()
    assert all(weight.requires_grad for weight in one.model.parameters())


def test_tokenizer_is_learned_from_the_text_and_knows_every_byte():
    tokenizer = build_tokenizer(["shampoo and soap"] * 5)
    assert tokenizer.get_vocab() == build_tokenizer(["shampoo and soap"] * 5).get_vocab()
    assert len(tokenizer("shampoo", add_special_tokens=False).input_ids) == 1
    strange = "Zürich № 口红 🙂"
    assert tokenizer.decode(tokenizer(strange, add_special_tokens=False).input_ids).strip() == strange
    assert len(build_tokenizer([str(number) for number in range(5000)])) <= 1024
    assert tokenizer.pad_token_id == 0
    assert len({tokenizer.pad_token_id, tokenizer.bos_token_id, tokenizer.eos_token_id}) == 3


def test_trained_weights_are_read(tmp_path):
    original = LlamaForCausalLM(LlamaConfig(**LLAMA, vocab_size=300))
    opened = open_backbone(save(tmp_path, original), family="llama")
    assert opened.pretrained
    assert opened.width == 16
    assert opened.name == tmp_path.name
    ids = torch.tensor([[1, 2, 3]])
    torch.testing.assert_close(opened.model(ids).last_hidden_state, original.model(ids).last_hidden_state)


def test_random_weights_keep_architecture_and_tokenizer(tmp_path):
    spec = save(tmp_path, LlamaForCausalLM(LlamaConfig(**LLAMA, vocab_size=300)))
    trained = open_backbone(spec, family="llama")
    fresh, again = (open_backbone(spec, family="llama", random_weights=True, seed=s) for s in (1, 1))
    assert fresh.name == f"{trained.name} (random weights)"
    assert not fresh.pretrained
    assert fresh.parameters == trained.parameters
    assert fresh.tokenizer.get_vocab() == trained.tokenizer.get_vocab()
    assert torch.equal(weights(fresh), weights(again))
    assert not torch.equal(weights(fresh), weights(trained))
    assert fresh.revision != trained.revision


def test_revision_follows_the_weights(tmp_path):
    spec = save(tmp_path, LlamaForCausalLM(LlamaConfig(**LLAMA, vocab_size=300)))
    before = open_backbone(spec, family="llama").revision
    save(tmp_path, LlamaForCausalLM(LlamaConfig(**LLAMA, vocab_size=300)))
    assert open_backbone(spec, family="llama").revision != before


@pytest.mark.parametrize("tie", [False, True])
@pytest.mark.parametrize("fresh", [False, True])
def test_text_head_of_t5_is_its_own_where_the_checkpoint_says_so(tmp_path, tie, fresh):
    model = T5ForConditionalGeneration(T5Config(**T5, vocab_size=300, decoder_start_token_id=0))
    if not tie:
        model.lm_head = torch.nn.Linear(16, 300, bias=False)
    spec = save(tmp_path, model, tie)
    opened = open_backbone(spec, family="t5", random_weights=fresh)
    rows, shared = text_head(opened)
    assert rows.shape == (300, 16)
    assert shared == tie
    if not fresh:
        torch.testing.assert_close(rows, model.lm_head.weight)


def test_t5_gives_states_and_logits_in_one_call():
    opened = open_backbone("builtin:t5-mini", family="t5", texts=TEXTS)
    out = opened.model(inputs_embeds=torch.randn(2, 5, 64), decoder_input_ids=torch.zeros(2, 1).long())
    assert out.logits.shape == (2, 1, len(opened.tokenizer))
    assert out.encoder_last_hidden_state.shape == (2, 5, 64)


def test_bfloat16(tmp_path):
    spec = save(tmp_path, LlamaForCausalLM(LlamaConfig(**LLAMA, vocab_size=300)))
    opened = open_backbone(spec, family="llama", dtype=read_dtype("bf16"))
    assert {weight.dtype for weight in opened.model.parameters()} == {torch.bfloat16}


def test_real_checkpoints_load(checkpoints):
    small = open_backbone(f"path:{checkpoints / 'stories260K' / 'hf'}", family="llama")
    assert (small.parameters, small.width, small.name) == (260_032, 64, "stories260K/hf")
    large = open_backbone(f"path:{checkpoints / 'stories3M-q80' / 'hf'}", family="llama")
    assert (large.parameters, large.width, large.pretrained) == (3_148_224, 192, True)


def test_folder_without_weights_wants_to_be_told(checkpoints, tmp_path):
    for file in (checkpoints / "flan-t5-small-tokenizer").iterdir():
        shutil.copy(file, tmp_path)
    with pytest.raises(UserError, match=r"no weights .* \(random_weights: true\)"):
        open_backbone(f"path:{tmp_path}", family="t5")
    config = json.loads((tmp_path / "config.json").read_text())
    config |= {"num_layers": 1, "num_decoder_layers": 1, "d_ff": 8, "d_model": 16, "d_kv": 8, "num_heads": 2}
    (tmp_path / "config.json").write_text(json.dumps(config))
    opened = open_backbone(f"path:{tmp_path}", family="t5", random_weights=True)
    assert text_head(opened)[1] is False, "Flan-T5 compares with rows of its own"
    assert len(opened.tokenizer) == 32_100
    assert opened.tokenizer("next item", add_special_tokens=False).input_ids == [416, 2118]


def test_checkpoint_that_lacks_weights_is_refused(tmp_path):
    from safetensors.torch import load_file, save_file

    spec = save(tmp_path, LlamaForCausalLM(LlamaConfig(**LLAMA, vocab_size=300)))
    kept = {k: v for k, v in load_file(tmp_path / "model.safetensors").items() if "up_proj" not in k}
    save_file(kept, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(UserError, match=r"lack 'layers\.0\.mlp\.up_proj\.weight'"):
        open_backbone(spec, family="llama")
    (tmp_path / "model.safetensors").write_bytes(b"\x08")
    with pytest.raises(UserError, match="cannot be read"):
        open_backbone(spec, family="llama")


def test_mistakes_are_named(tmp_path):
    cases = {
        "builtin:llama-mni": "Did you mean 'llama-mini'",
        "builtin:t5-mini": "needs one of: llama",
        "llama-mini": "builtin:<name>",
        f"path:{tmp_path / 'none'}": "no such folder",
        f"path:{tmp_path}": "config.json",
    }
    for spec, wording in cases.items():
        with pytest.raises(UserError) as caught:
            open_backbone(spec, family="llama", texts=TEXTS)
        assert wording in str(caught.value)
        assert "\n" not in str(caught.value)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(UserError, match="configuration or tokenizer cannot be read"):
        open_backbone(f"path:{tmp_path}", family="llama")
    with pytest.raises(UserError, match="float32 or bfloat16"):
        open_backbone("builtin:llama-mini", family="llama", texts=TEXTS, dtype=torch.float16)
    with pytest.raises(UserError, match="never fp16"):
        read_dtype("fp16")


def test_listing_names_every_builtin():
    listed = {card.spec for card in available_backbones()}
    assert {f"builtin:{name}" for name in BUILTIN} < listed
