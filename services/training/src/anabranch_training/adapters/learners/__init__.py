"""Learning a ranking from a data set, and the files that hold what was learned."""

from anabranch_training.adapters.learners.choosing import order_rows, score_rows, train_reranker
from anabranch_training.adapters.learners.files import write_reranker

__all__ = ["order_rows", "score_rows", "train_reranker", "write_reranker"]
