"""The operator's own model in a file, as the check `moderation`: a classifier in ONNX, run in this process."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnxruntime  # type: ignore[import-untyped] # it carries no types
from tokenizers import Tokenizer

from anabranch_faults import Invalid
from anabranch_guardrails.domain import Finding, Subject

__all__ = ["OnnxModel"]

_WINDOW: Final = 510
"""Tokens that the model sees at once, beside those that the tokenizer adds."""
_STRIDE: Final = 64
_MOST_WINDOWS: Final = 32
_FED: Final = ("input_ids", "attention_mask", "token_type_ids")


class OnnxModel:
    """The Check port over `model.onnx` in a folder.

    The model takes text (one input of strings), or tokens (`input_ids`, `attention_mask`, perhaps `token_type_ids`),
    for which `tokenizer.json` lies beside it. Its first output has a row for each text: one logit or probability of
    what is looked for, or one for each class, of which the first is the harmless one. What is not between 0 and 1 is
    taken for logits. A longer text is seen in windows, and the worst one counts.
    """

    name = "moderation"

    def __init__(self, folder: Path) -> None:
        """Reads the model. Raises Invalid, in a sentence, for what cannot be run."""
        file = folder / "model.onnx"
        try:
            content = file.read_bytes()
        except OSError as error:
            raise Invalid(f"{file} cannot be read: {error.strerror}", field="moderation_onnx") from error
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        try:
            self._session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # the runtime's errors have no common base
            raise Invalid(f"{file} is no model that can be run", field="moderation_onnx") from error
        self._version = f"onnx-{hashlib.sha256(content).hexdigest()[:12]}"
        self._inputs = {one.name: one for one in self._session.get_inputs()}
        self._text = next((one for one in self._inputs.values() if one.type == "tensor(string)"), None)
        self._tokenizer = None if self._text is not None else self._read_tokenizer(folder)

    @property
    def version(self) -> str:
        """Of the file's content."""
        return self._version

    def look(self, subject: Subject) -> Finding:
        """What the model finds. Raises Invalid for an output that is none of those described."""
        if not subject.text.strip():
            return Finding(score=0.0)
        fed, reason = self._fed(subject.text)
        output = self._session.run(None, fed)[0]
        return Finding(score=_score(np.asarray(output)), reason=reason)

    def _fed(self, text: str) -> tuple[dict[str, Any], str]:
        if self._text is not None:
            shape = (1,) * max(1, len(self._text.shape))
            return {self._text.name: np.array([text], dtype=object).reshape(shape)}, ""
        if self._tokenizer is None:
            raise AssertionError(self._inputs)
        whole = self._tokenizer.encode(text.encode(errors="replace").decode())
        windows = [whole, *whole.overflowing]
        seen = windows[:_MOST_WINDOWS]
        longest = max(len(one.ids) for one in seen)
        rows = {
            "input_ids": [one.ids for one in seen],
            "attention_mask": [one.attention_mask for one in seen],
            "token_type_ids": [one.type_ids for one in seen],
        }
        fed = {
            name: np.array([row + [0] * (longest - len(row)) for row in rows[name]], dtype=np.int64)
            for name in self._inputs
        }
        reason = f"{len(seen)} of {len(windows)} parts looked at" if len(seen) < len(windows) else ""
        return fed, reason

    def _read_tokenizer(self, folder: Path) -> Tokenizer:
        file = folder / "tokenizer.json"
        strange = sorted(set(self._inputs) - set(_FED))
        if strange or "input_ids" not in self._inputs:
            raise Invalid(f"the model takes {', '.join(self._inputs)}, not {', '.join(_FED)}", field="moderation_onnx")
        try:
            tokenizer = Tokenizer.from_file(str(file))
        except Exception as error:  # the library raises Exception itself
            raise Invalid(f"{file} is no tokenizer that can be read", field="moderation_onnx") from error
        tokenizer.no_padding()
        tokenizer.enable_truncation(_WINDOW, stride=_STRIDE)
        return tokenizer


def _score(output: np.ndarray[Any, Any]) -> float:
    if not np.issubdtype(output.dtype, np.floating) or output.size == 0 or not np.isfinite(output).all():
        raise Invalid("the model's output is no row of finite numbers")
    rows = output.astype(np.float64).reshape(output.shape[0], -1)
    probable = bool(((rows >= 0) & (rows <= 1)).all())
    if rows.shape[1] == 1:
        found = rows if probable else 1 / (1 + np.exp(-rows))
        return float(found.max())
    if not probable:
        powers = np.exp(rows - rows.max(axis=1, keepdims=True))
        rows = powers / powers.sum(axis=1, keepdims=True)
    return float(min(1.0, max(0.0, (1 - rows[:, 0]).max())))
