"""Run by an environment of its own: writes a tiny llama model and serves it with llama.cpp's own HTTP server.

The model is made, not trained: one-hot embeddings, attention and feed-forward that add nothing, and an output matrix
in which every token points to its successor. So it says SENTENCE over and over, whatever it is asked, and a test knows
what it must read; the server around it is llama.cpp's, with its tokenizer, sampler, slots and limits.

usage: serve.py MODEL_FILE; prints the base url, and ends when its standard input is closed.
"""

from __future__ import annotations

import sys

import gguf  # type: ignore[import-not-found]  # in its own environment only
import numpy as np
import xllamacpp  # type: ignore[import-not-found]  # in its own environment only

SENTENCE = ["▁The", "▁river", "▁flows", "▁back", "▁[", "1", "]", ".", "▁It", "▁rests", "▁[9]", "!"]
WIDTH, HIDDEN, HEADS, CONTEXT, SLOTS = 512, 32, 8, 32_768, 2
NORMAL, UNKNOWN, CONTROL, BYTE = 1, 2, 3, 6


def vocabulary() -> tuple[list[bytes], list[float], list[int]]:
    tokens = [b"<unk>", b"<s>", b"</s>", *(b"<0x%02X>" % byte for byte in range(256))]
    types = [UNKNOWN, CONTROL, CONTROL, *[BYTE] * 256]
    pieces = dict.fromkeys([*SENTENCE, *(chr(c) for c in range(33, 127)), "▁"])
    tokens += [piece.encode() for piece in pieces]
    types += [NORMAL] * len(pieces)
    scores = [0.0] * 259 + [-float(i) for i in range(len(pieces))]
    return tokens, scores, types


def write(path: str) -> None:
    tokens, scores, types = vocabulary()
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_name("successor")
    writer.add_context_length(CONTEXT)
    writer.add_embedding_length(WIDTH)
    writer.add_block_count(1)
    writer.add_feed_forward_length(HIDDEN)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_dimension_count(WIDTH // HEADS)
    writer.add_vocab_size(len(tokens))
    writer.add_tokenizer_model("llama")
    writer.add_token_list(tokens)
    writer.add_token_scores(scores)
    writer.add_token_types(types)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_unk_token_id(0)
    writer.add_chat_template("{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}\n{% endfor %}assistant:")

    one_hot = np.eye(len(tokens), WIDTH, dtype=np.float32)
    output = np.zeros((len(tokens), WIDTH), dtype=np.float32)
    said = [tokens.index(piece.encode()) for piece in SENTENCE]
    output[said[0], : len(tokens)] = 10.0  # whatever was read last, the sentence begins
    for token, successor in zip(said, said[1:] + said[:1], strict=True):
        output[:, token] = 0.0
        output[successor, token] = 10.0
    writer.add_tensor("token_embd.weight", one_hot)
    writer.add_tensor("output.weight", output)
    for name in ("output_norm", "blk.0.attn_norm", "blk.0.ffn_norm"):
        writer.add_tensor(f"{name}.weight", np.ones(WIDTH, np.float32))
    for name in ("attn_q", "attn_k", "attn_v", "attn_output"):
        writer.add_tensor(f"blk.0.{name}.weight", np.zeros((WIDTH, WIDTH), np.float32))
    for name, shape in (("gate", (HIDDEN, WIDTH)), ("up", (HIDDEN, WIDTH)), ("down", (WIDTH, HIDDEN))):
        writer.add_tensor(f"blk.0.ffn_{name}.weight", np.zeros(shape, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def main() -> None:
    write(sys.argv[1])
    params = xllamacpp.CommonParams()
    params.model.path = sys.argv[1]
    params.hostnames = ["127.0.0.1"]
    params.n_ctx = CONTEXT
    params.n_parallel = SLOTS
    params.n_gpu_layers = 0
    params.warmup = False
    params.cpuparams.n_threads = 1
    params.n_threads_http = 4
    params.endpoint_slots = True
    params.api_keys = ["sesame"]
    server = xllamacpp.Server(params)
    sys.stdout.write(f"{server.listening_address}\n")
    sys.stdout.flush()
    sys.stdin.read()


main()
