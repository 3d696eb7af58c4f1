"""Personal data that stays here, and the ways back to it."""

from __future__ import annotations

from typing import Any

from hypothesis import given as drawn
from hypothesis import strategies as st

from anabranch.generation.v1 import generation_service_pb2 as generation
from anabranch_gateway.domain.answers import Citation, Passage
from anabranch_gateway.domain.guards import Guard, GuardResult, ResultDetail, Stage, Verdict, masked, told
from anabranch_gateway.domain.placeholders import Shown, Vault, aligned, moved, rewritten, unveiled, veil
from anabranch_gateway.testing import passage

NAMES = st.sampled_from(["Ann", "Bob Ray", "x@y.example"])
TEXTS = st.lists(st.one_of(NAMES, st.sampled_from([" met ", "and", ". ", "é", "[", "]"])), max_size=12).map("".join)
WORDS = {"Ann": "[NAME_1]", "Bob Ray": "[NAME_2]", "x@y.example": "[EMAIL_1]"}


class TestRewriting:
    def test_longer_words_win(self) -> None:
        assert rewritten("[A_1] [A_10]", {"[A_1]": "x", "[A_10]": "y"}).text == "x y"
        assert rewritten("ab a", {"a": "1", "ab": "2"}).text == "2 1"

    def test_what_comes_back_is_not_looked_at_again(self) -> None:
        assert rewritten("[A_1][A_2]", {"[A_1]": "[A_2]", "[A_2]": "x"}).text == "[A_2]x"

    @drawn(TEXTS)
    def test_there_and_back_is_the_same(self, text: str) -> None:
        there = rewritten(text, WORDS)
        back = rewritten(there.text, {value: name for name, value in WORDS.items()})
        assert back.text == text

    @drawn(TEXTS, st.data())
    def test_a_span_covers_the_same_words_on_both_sides(self, text: str, data: st.DataObject) -> None:
        start = data.draw(st.integers(0, len(text)))
        end = data.draw(st.integers(start, len(text)))
        there = rewritten(text, WORDS)
        a, b = there.place(start, end)
        assert 0 <= a <= b <= len(there.text)
        c, d = there.reversed(text).place(a, b)
        assert c <= start
        assert d >= end
        assert rewritten(text[c:d], WORDS).text == there.text[a:b]

    @drawn(TEXTS, TEXTS)
    def test_the_way_between_two_texts_stays_within_both(self, one: str, other: str) -> None:
        way = aligned(one, other)
        a, b = way.place(0, len(one))
        assert 0 <= a <= b <= len(other)


class TestTheVault:
    def test_a_name_that_two_checks_gave_to_two_things_becomes_two(self) -> None:
        vault = Vault()
        (question,) = vault.adopt({"[NAME_1]": "Ann"}, "Who met [NAME_1]?")
        text, other = vault.adopt({"[NAME_1]": "Bob", "[NAME_2]": "Ann"}, "[NAME_1] met [NAME_2].", "[NAME_2]")
        assert (question, text, other) == ("Who met [NAME_1]?", "[NAME_2] met [NAME_1].", "[NAME_1]")
        assert vault.restore(text).text == "Bob met Ann."

    def test_names_without_a_number_get_one(self) -> None:
        vault = Vault()
        vault.adopt({"<PERSON>": "Ann"})
        assert vault.adopt({"<PERSON>": "Bob"}, "<PERSON>") == ("<PERSON_2>",)

    def test_only_whole_words_are_hidden(self) -> None:
        vault = Vault({"[NAME_1]": "Ann"})
        assert vault.hide("Ann, Anna and Ann").text == "[NAME_1], Anna and [NAME_1]"

    def test_it_does_not_show_what_it_holds(self) -> None:
        assert "Ann" not in repr(Vault({"[NAME_1]": "Ann"}))


class TestPassages:
    def test_one_without_anything_to_hide_stays_itself(self) -> None:
        found = passage("a", "Nothing here.")
        given = Passage(found)
        ours, theirs, veiled = veil(given, "Nothing here.", Vault())
        assert (ours is given, theirs is given, veiled) == (True, True, None)

    def test_a_title_is_hidden_too_and_comes_back_in_the_citation(self) -> None:
        found = passage("a", "Ann is in.")
        found.title = "About Ann"
        vault = Vault({"[NAME_1]": "Ann"})
        given = Passage(found)
        ours, theirs, veiled = veil(given, "[NAME_1] is in.", vault)
        assert (getattr(ours, "title", ""), theirs is given) == ("About [NAME_1]", True)
        assert veiled is not None
        cited = generation.Citation(chunk_id="chunk-of-a", text="[NAME_1] is in.", title="About [NAME_1]")
        cited.span.end = len(cited.text)
        shown = unveiled(Citation(cited), {"chunk-of-a": veiled})
        assert (getattr(shown, "text", ""), getattr(shown, "title", "")) == ("Ann is in.", "About Ann")

    def test_a_citation_of_nothing_that_is_there_is_dropped(self) -> None:
        found = passage("a", "Ann is in.")
        _, _, veiled = veil(Passage(found), "[NAME_1] is in.", Vault({"[NAME_1]": "Ann"}))
        assert veiled is not None
        cited = generation.Citation(chunk_id="chunk-of-a", text="x")
        cited.span.start, cited.span.end = 500, 600
        given = Citation(cited)
        assert unveiled(given, {"chunk-of-a": veiled}) is None
        assert unveiled(given, {}) is given


class TestWhatWasShown:
    def test_a_span_behind_a_redaction_moves_and_one_inside_of_it_is_gone(self) -> None:
        draft, shown = "Use hunter2 in the room. Use it.", "Use [SECRET] in the room. Use it."
        place = Shown(draft, shown, Vault()).place
        assert place(0, 3) == (0, 3)
        assert place(4, 11) is None
        for words in ("in the room.", "Use it."):
            at = draft.index(words)
            found = place(at, at + len(words))
            assert found is not None
            assert shown[found[0] : found[1]] == words

    def test_between_two_redactions_words_are_found_again(self) -> None:
        draft, shown = "A hunter2 b c hunter2 d", "A [SECRET] b c [SECRET] d"
        found = Shown(draft, shown, Vault()).place(draft.index("b c"), draft.index("b c") + 3)
        assert found is not None
        assert shown[found[0] : found[1]] == "b c"

    @drawn(TEXTS, st.data())
    def test_without_redactions_every_span_stays_at_its_words(self, text: str, data: st.DataObject) -> None:
        vault = Vault({name: value for value, name in WORDS.items()})
        hidden = vault.hide(text)
        start = data.draw(st.integers(0, len(text)))
        end = data.draw(st.integers(start, len(text)))
        a, b = hidden.place(start, end)
        c, d = Shown(hidden.text, vault.restore(hidden.text).text, vault).place(a, b) or (0, 0)
        assert (c <= start, d >= end) == (True, True)

    def test_a_citation_whose_words_were_cut_is_dropped(self) -> None:
        cited = generation.Citation()
        cited.answer_span.end = 3
        given = Citation(cited)
        assert moved(given, lambda _start, _end: None) is None
        assert moved(given, lambda start, end: (start, end)) is given


def result(check: str, verdict: Verdict, **more: Any) -> GuardResult:
    return GuardResult(check=check, verdict=verdict, reason="", detail=ResultDetail(None), **more)


class TestVerdicts:
    def test_one_that_is_not_known_stops(self) -> None:
        assert [verdict.name for verdict in Verdict if verdict.stops] == ["UNSPECIFIED", "BLOCK", "REVIEW"]
        assert Verdict(99).stops

    def test_only_what_has_an_effect_is_told_and_each_once(self) -> None:
        results = [
            result("a", Verdict.ALLOW),
            result("b", Verdict.FLAG, passage=0),
            result("b", Verdict.FLAG, passage=1),
            result("c", Verdict.BLOCK, shadow=True),
        ]
        assert told(results, Stage.INPUT) == [Guard(verdict=Verdict.FLAG, check="b", reason="", stage=Stage.INPUT)]

    def test_private_words_are_masked_also_where_they_overlap(self) -> None:
        results = [
            result("pii", Verdict.FLAG, spans=[(3, 8, "NAME")]),
            result("secrets", Verdict.BLOCK, spans=[(6, 10, "KEY")]),
            result("injection", Verdict.BLOCK, spans=[(0, 2, "INJECTION")]),
        ]
        assert masked("ab cdefghijk", results) == "ab [NAME]jk"
