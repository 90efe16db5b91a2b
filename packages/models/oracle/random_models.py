"""Random small models of each family, saved by Hugging Face transformers with what they answer in float32.

Usage: python random_models.py OUT. Writes OUT/<case>/ (config.json, safetensors), OUT/<case>.safetensors (tokens, logits, greedy)
and OUT/cases.json (names, in order).
"""

import json
import pathlib
import sys

import torch
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM, GPT2Config, LlamaConfig, MistralConfig, OPTConfig, Qwen2Config, Qwen3Config
from transformers.utils import logging

SIZES = dict(
    vocab_size=151,
    hidden_size=48,
    intermediate_size=80,
    num_hidden_layers=3,
    num_attention_heads=6,
    num_key_value_heads=2,
    max_position_embeddings=512,
    tie_word_embeddings=False,
)
GPT2 = dict(vocab_size=151, n_embd=48, n_layer=3, n_head=6, n_positions=256)
OPT = dict(
    vocab_size=151,
    hidden_size=48,
    ffn_dim=80,
    num_hidden_layers=3,
    num_attention_heads=6,
    max_position_embeddings=256,
    word_embed_proj_dim=48,
)
LLAMA3 = dict(rope_type="llama3", factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0, original_max_position_embeddings=64)

# name: (configuration, stored type, largest shard)
CASES = {
    "llama": (LlamaConfig(**{**SIZES, "num_key_value_heads": 6}), torch.float32, "1GB"),
    "llama-gqa-tied": (LlamaConfig(**{**SIZES, "tie_word_embeddings": True}), torch.float32, "1GB"),
    "llama-head-dim": (LlamaConfig(**SIZES, head_dim=20), torch.float32, "1GB"),
    "llama-3.1-rope": (LlamaConfig(**SIZES, head_dim=16, rope_parameters={**LLAMA3, "rope_theta": 500000.0}), torch.float32, "1GB"),
    "llama-linear-rope": (
        LlamaConfig(**SIZES, rope_parameters={"rope_type": "linear", "factor": 4.0, "rope_theta": 10000.0}),
        torch.float32,
        "1GB",
    ),
    "llama-dynamic-rope": (
        LlamaConfig(**SIZES, rope_parameters={"rope_type": "dynamic", "factor": 2.0, "rope_theta": 10000.0}),
        torch.float32,
        "1GB",
    ),
    "llama-biases": (LlamaConfig(**SIZES, attention_bias=True, mlp_bias=True), torch.float32, "1GB"),
    "llama-bf16-shards": (LlamaConfig(**SIZES), torch.bfloat16, "40KB"),
    "mistral": (MistralConfig(**SIZES, head_dim=12, sliding_window=256), torch.float32, "1GB"),
    "qwen2": (Qwen2Config(**SIZES, rope_parameters={"rope_type": "default", "rope_theta": 1000000.0}), torch.float32, "1GB"),
    "qwen2-tied-f16": (Qwen2Config(**{**SIZES, "tie_word_embeddings": True}), torch.float16, "1GB"),
    "qwen3": (Qwen3Config(**SIZES, head_dim=16, rope_parameters={"rope_type": "default", "rope_theta": 1000000.0}), torch.float32, "1GB"),
    "qwen3-biases-bf16": (
        Qwen3Config(**{**SIZES, "tie_word_embeddings": True}, head_dim=20, attention_bias=True),
        torch.bfloat16,
        "40KB",
    ),
    "gpt2": (GPT2Config(**GPT2), torch.float32, "1GB"),
    "gpt2-untied-gelu-f16": (
        GPT2Config(**GPT2, n_inner=80, activation_function="gelu", tie_word_embeddings=False),
        torch.float16,
        "40KB",
    ),
    "opt": (OPTConfig(**OPT), torch.float32, "1GB"),
    "opt-gelu-no-biases": (OPTConfig(**OPT, activation_function="gelu", enable_bias=False), torch.float32, "1GB"),
}
TOKENS = 160
PROMPT = 24
NEW_TOKENS = 40


def randomize(model, generator):
    """Weights that keep attention far from uniform, and norms and biases that matter."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            if name.endswith("bias"):
                parameter.copy_(0.5 * noise)
            elif parameter.dim() == 1:  # of a norm
                parameter.copy_(1 + 0.2 * noise)
            else:
                parameter.copy_(1.5 * noise / parameter.shape[1] ** 0.5)


def greedy(model, tokens):
    """The most probable continuation, by the model's own cached generation."""
    out = model.generate(
        tokens, attention_mask=torch.ones_like(tokens), do_sample=False, max_new_tokens=NEW_TOKENS, eos_token_id=None, pad_token_id=0
    )
    return out[:, tokens.shape[1] :]


def main(out):
    logging.disable_progress_bar()
    torch.manual_seed(0)
    torch.set_num_threads(2)
    for index, (name, (config, dtype, shard)) in enumerate(CASES.items()):
        generator = torch.Generator().manual_seed(index)
        model = AutoModelForCausalLM.from_config(config, attn_implementation="eager")
        randomize(model, generator)
        model.to(dtype).save_pretrained(out / name, max_shard_size=shard)
        # What was saved, as float32: the weights that a reader of the files sees.
        model = AutoModelForCausalLM.from_pretrained(out / name, dtype=torch.float32, attn_implementation="eager").eval()
        tokens = torch.randint(0, config.vocab_size, (2, TOKENS), generator=generator)
        with torch.no_grad():
            answers = {"logits": model(tokens).logits, "greedy": greedy(model, tokens[:, :PROMPT])}
        answers = {"tokens": tokens, **answers}
        answers = {key: (value if value.is_floating_point() else value.to(torch.int32)).contiguous() for key, value in answers.items()}
        save_file(answers, out / f"{name}.safetensors")
    (out / "cases.json").write_text(json.dumps(list(CASES)))


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]))
