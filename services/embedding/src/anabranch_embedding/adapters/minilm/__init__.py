"""all-MiniLM-L6-v2 in this process: weights from the installed package, run by ONNX Runtime."""

from anabranch_embedding.adapters.minilm.encoder import MiniLmEncoder
from anabranch_embedding.adapters.minilm.weights import PackagedModel, Quantisation

__all__ = ["MiniLmEncoder", "PackagedModel", "Quantisation"]
