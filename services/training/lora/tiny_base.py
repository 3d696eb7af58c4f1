"""Makes a base model to try adapters on: a Llama of random weights, some hundred thousand of them, and its tokenizer.

`PYTHON tiny_base.py FOLDER TEXTS`: the tokenizer is trained on TEXTS, a file of JSON rows of a data set.
"""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path
from typing import Any

CHAT = (
    "{% for message in messages %}<|{{ message['role'] }}|>\n{{ message['content'] }}<|end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>\n{% endif %}"
)


def main(folder: Path, rows: Path) -> None:
    """Writes the model and its tokenizer."""
    # By name: the environment that checks types has only some of these.
    kit, torch, transformers = (importlib.import_module(name) for name in ("tokenizers", "torch", "transformers"))
    tokenizer = kit.Tokenizer(kit.models.BPE())
    tokenizer.pre_tokenizer = kit.pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = kit.decoders.ByteLevel()
    trainer = kit.trainers.BpeTrainer(
        vocab_size=800,
        special_tokens=["<|pad|>", "<|end|>", "<|system|>", "<|user|>", "<|assistant|>"],
        initial_alphabet=kit.pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(_texts(rows), trainer)
    special = {"pad_token": "<|pad|>", "eos_token": "<|end|>"}
    fast = transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, **special)
    fast.chat_template = CHAT
    fast.save_pretrained(str(folder))
    torch.manual_seed(0)
    shape = transformers.LlamaConfig(
        vocab_size=len(fast),
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=1024,
        pad_token_id=fast.pad_token_id,
        eos_token_id=fast.eos_token_id,
        bos_token_id=None,
    )
    transformers.LlamaForCausalLM(shape).save_pretrained(str(folder), safe_serialization=True)


def _texts(rows: Path) -> list[str]:
    def texts(value: Any) -> list[str]:
        if isinstance(value, str):
            return [value]
        inner = value.values() if isinstance(value, dict) else value
        return [text for one in inner for text in texts(one)]

    return [text for line in rows.read_text(encoding="utf-8").splitlines() for text in texts(json.loads(line))]


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
