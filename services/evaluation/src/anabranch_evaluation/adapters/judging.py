"""Scores by the libraries that others use: ir-measures for rankings, rouge-score and sacrebleu for answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import ir_measures
from ir_measures import RR, P, Qrel, R, ScoredDoc, nDCG
from rouge_score.rouge_scorer import RougeScorer  # type: ignore[import-untyped]  # it carries no types
from sacrebleu.metrics.bleu import BLEU
from sacrebleu.metrics.chrf import CHRF

from anabranch_evaluation.application.ports import Written
from anabranch_evaluation.domain.golden import GoldenQuestion
from anabranch_evaluation.domain.scoring import texts_of
from anabranch_evaluation.domain.squad import exact_match, normalised, token_f1
from anabranch_grounding import Meaning, groundedness

_MEASURES: Final = {"nDCG@10": "ndcg@10", "RR@10": "mrr@10", "R@10": "recall@10", "P@5": "precision@5"}


class LibraryJudge:
    """As the port says."""

    def __init__(self) -> None:
        """Loads nothing from outside."""
        self._measures = [nDCG @ 10, RR @ 10, R @ 10, P @ 5]
        self._rouge = RougeScorer(["rougeL"], use_stemmer=False)
        self._chrf = CHRF()
        # Without the effective order, a short answer that is right scores 0 for the fours of words it does not have.
        self._bleu = BLEU(effective_order=True)

    def rankings(
        self, ranked: Mapping[str, Sequence[str]], relevant: Mapping[str, Mapping[str, int]]
    ) -> Mapping[str, Mapping[str, float]]:
        """As in the port."""
        scores: dict[str, dict[str, float]] = {key: dict.fromkeys(_MEASURES.values(), 0.0) for key in sorted(relevant)}
        qrels = [Qrel(key, found, relevance) for key in scores for found, relevance in sorted(relevant[key].items())]
        # Falling scores: the library sorts by them, and the rank is what counts.
        run = [
            ScoredDoc(key, found, float(len(ranked[key]) - place))
            for key in scores
            for place, found in enumerate(ranked.get(key, ()))
        ]
        for one in ir_measures.iter_calc(self._measures, qrels, run):
            scores[one.query_id][_MEASURES[str(one.measure)]] = float(one.value)
        return scores

    def texts(self, question: GoldenQuestion, written: Written, contexts: Sequence[str]) -> Sequence[str]:
        """As in the port."""
        if written.abstained or not written.text.strip():
            return []
        return [written.text, *question.answers, *texts_of(question.text, written.text, contexts)]

    def answer(
        self,
        question: GoldenQuestion,
        written: Written,
        contexts: Sequence[str],
        meaning: Meaning | None = None,
    ) -> Mapping[str, float]:
        """As in the port."""
        scores = {"abstention": float(written.abstained == question.unanswerable)}
        # An abstention is no answer, whatever words it is put in.
        text = "" if written.abstained else written.text
        if text.strip() and contexts:
            scores["groundedness"] = groundedness(text, contexts, meaning).score
        # Against an answer without a word in it, an abstention would be right.
        answers = [right for right in question.answers if normalised(right)]
        if answers and not question.unanswerable:
            scores |= self._against(text, answers)
            if meaning is not None:
                scores["similarity"] = max(meaning.cosines(text, answers))
        return scores

    def _against(self, text: str, answers: Sequence[str]) -> dict[str, float]:
        return {
            "em": max(exact_match(text, right) for right in answers),
            "f1": max(token_f1(text, right) for right in answers),
            "rouge_l": max(float(self._rouge.score(right, text)["rougeL"].fmeasure) for right in answers),
            # Each against one answer at a time, as the others: all at once, BLEU would reward a mixture of them.
            "bleu": max(self._bleu.sentence_score(text, [right]).score for right in answers) / 100,
            "chrf": max(self._chrf.sentence_score(text, [right]).score for right in answers) / 100,
        }
