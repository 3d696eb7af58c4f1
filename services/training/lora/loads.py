"""`PYTHON loads.py BASE ADAPTER`: PEFT puts the adapter on the base; prints what that changes, as JSON."""

from __future__ import annotations

import importlib
import json
import sys


def main(base: str, adapter: str) -> None:
    """Prints `moved`, the greatest change of a logit, and `parameters`, the number of the adapter's weights."""
    peft, torch, transformers = (importlib.import_module(name) for name in ("peft", "torch", "transformers"))
    tokenizer = transformers.AutoTokenizer.from_pretrained(base)
    model = transformers.AutoModelForCausalLM.from_pretrained(base).eval()
    asked = tokenizer("When does room 7 open?", return_tensors="pt")["input_ids"]
    with torch.no_grad():
        before = model(asked).logits
        adapted = peft.PeftModel.from_pretrained(model, adapter).eval()
        moved = (adapted(asked).logits - before).abs().max().item()
    weights = sum(one.numel() for name, one in adapted.named_parameters() if "lora_" in name)
    print(json.dumps({"moved": moved, "parameters": weights}))


if __name__ == "__main__":
    main(*sys.argv[1:3])
