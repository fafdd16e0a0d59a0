import pytest

from tidelog.apps.documents import Document, Index
from tidelog.apps.documents.scoring import Scored, score

OTHERS = [Document(f"{number}.md", "Other", f"Nothing to see in number {number}.") for number in range(20)]


def scored(question: str, text: str) -> list[Scored]:
    index = Index.build([Document("a.md", "A", text), *OTHERS])
    hits = [hit for hit in index.search(question) if hit.chunk.path == "a.md"]
    assert hits
    return score(question, hits, index=index)


def best(question: str, text: str) -> str:
    return max(scored(question, text), key=lambda one: one.score).piece.text


def test_what_does_not_bear_on_the_question_scores_nothing() -> None:
    found = scored("where is the lantern?", "The lantern hangs in the hall. A cat sleeps.")
    assert [bool(one.score) for one in found] == [True, False]
    assert found[0].precedes(found[1])
    assert not found[1].precedes(found[0])


def test_a_figure_is_preferred_when_one_is_asked_for() -> None:
    text = "The lantern is made of brass. The lantern costs 40 euros."
    assert best("how much for the lantern?", text) == "The lantern costs 40 euros."
    assert best("灯笼多少钱？", "灯笼是黄铜做的。灯笼卖四十元。") == "灯笼卖四十元。"


def test_a_reason_is_preferred_when_one_is_asked_for() -> None:
    text = "The lantern is lit at night. The lantern is lit because ships pass."
    assert best("why is the lantern lit?", text) == "The lantern is lit because ships pass."


def test_a_definition_is_preferred_when_a_meaning_is_asked_for() -> None:
    text = "Old captains praise the lantern. A lantern is a lamp with a cage."
    assert best("what is a lantern?", text) == "A lantern is a lamp with a cage."


@pytest.mark.parametrize("question", ["what is Lantern?", "Lantern"])
def test_a_document_that_is_named_is_introduced_by_its_first_sentence(question: str) -> None:
    text = "# Lantern\n\n![logo](l.png)\n\nA lamp for ships. It hangs well.\n\n# Care\n\nThe lantern likes oil."
    index = Index.build([Document("a.md", "Lantern", text), *OTHERS])
    found = score(question, index.search(question), index=index)
    assert max(found, key=lambda one: one.score).piece.text == "A lamp for ships."


def test_the_text_below_a_heading_answers_for_it() -> None:
    assert (
        best("how do I clean the lantern?", "# Cleaning the lantern\n\nWipe it with oil.\n\n# End\n\nBye.")
        == "Wipe it with oil."
    )


def test_a_caption_lends_its_words_and_is_not_quoted_itself() -> None:
    assert best("lantern oil", "Lantern oil\n\nUse the blue can.") == "Use the blue can."


def test_a_list_inherits_the_sentence_that_leads_to_it() -> None:
    found = scored(
        "what does the lantern need?", "The lantern needs:\n\n- oil\n- a wick\n\nA cat sleeps.\n\n- on a mat"
    )
    assert [bool(one.score) for one in found] == [True, True, True, False, False]


def test_of_a_long_table_only_the_rows_that_bear_are_kept() -> None:
    filler = "\n".join(f"| thing {number} | plain words that fill this row |" for number in range(30))
    table = f"| name | note |\n|---|---|\n{filler}\n| lantern | brass |"
    assert best("lantern", table) == "| name | note |\n|---|---|\n| lantern | brass |"


def test_the_readers_language_goes_first_and_the_other_is_better_than_nothing() -> None:
    english, chinese = Document("en.md", "E", "The lantern X1 is red."), Document("zh.md", "Z", "灯笼 X1 是红色的。")

    def told(question: str, *documents: Document) -> list[str]:
        index = Index.build([*documents, *OTHERS])
        found = score(question, index.search(question), index=index)
        return [one.piece.text for one in sorted(found, key=lambda one: -one.score)]

    assert told("X1 是什么？", english, chinese)[0] == "灯笼 X1 是红色的。"
    assert told("what is X1?", english, chinese)[0] == "The lantern X1 is red."
    assert told("X1 是什么？", english) == ["The lantern X1 is red."]


def test_a_caption_is_never_told() -> None:
    for caption in (
        "![The lantern of the captain](lantern.jpg)",
        "[![The lantern](lantern.jpg)](https://example.org)",
        '<p align="center"><img src="lantern.jpg" alt="The lantern"></p>',
        "Figure 2. The lantern of the captain",
        "**Photo:** the lantern, 1974",
        "图二：船长的灯笼 lantern",
    ):
        index = Index.build([Document("a.md", "A", f"# Ship\n\n{caption}\n\n# Other\n\nNothing."), *OTHERS])
        assert not any(one.score for one in score("lantern", index.search("lantern"), index=index))


def test_a_caption_lends_its_words_too() -> None:
    assert best("lantern of the captain", "![The lantern of the captain](l.jpg)\n\nIt is brass.") == "It is brass."


def test_a_sentence_about_a_figure_is_told() -> None:
    text = "Figure 2 shows the lantern of the captain."
    assert best("lantern of the captain", f"![x](l.jpg)\n\n{text}") == text
    text = "Photo: the lantern of the captain was sold for 40 euros in 1974."
    assert best("how much was the lantern?", text) == text


def test_code_goes_behind_the_sentence_that_says_it() -> None:
    text = "The lantern is lit with a match.\n\n```python\n# how the lantern is lit\nlantern.light()\n```"
    assert best("how is the lantern lit?", text) == "The lantern is lit with a match."
