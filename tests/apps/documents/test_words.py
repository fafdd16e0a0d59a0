import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tidelog.apps.documents.words import _TYPOGRAPHY, asked, characters, held, language, words


def test_two_character_words_are_words() -> None:
    assert words("退还押金") == ["退还", "还押", "押金"]
    assert words("SSE 连接断开") == ["sse", "连接", "接断", "断开"]
    assert words("押") == []
    assert characters("A押金") == {"押", "金"}


def test_a_line_break_inside_a_chinese_word_does_not_part_it() -> None:
    assert "押金" in words("退还押\n金。")
    assert "车站" not in words("自行车\n\n站点")


@pytest.mark.parametrize(
    "forms",
    [
        "rent rents renting rented",
        "bicycle bicycles",
        "battery batteries",
        "stop stops stopped stopping",
        "lock locks locked locking",
        "lose lost losing",
        "box boxes",
        "store stores stored storing",
        "fill fills filled filling",
        "café cafe",
        "Ｔｏｋｅｎ token",
    ],
)
def test_forms_of_one_word_meet(forms: str) -> None:
    assert len(set(words(forms))) == 1


def test_different_words_stay_apart() -> None:
    apart = "status state bus need speed sing bring access news ring"
    assert len(set(words(apart))) == len(apart.split())


def test_a_name_is_found_whole_and_in_parts() -> None:
    assert {"send_timeout", "send", "timeout"} <= set(words("Set `send_timeout=5`"))
    assert set(asked("what is send_timeout?")) == {"send_timeout", "send", "timeout", "send timeout"}


def test_question_words_are_not_asked_for() -> None:
    assert set(asked("How much is the deposit?")) == {"deposit"}
    assert set(asked("押金是多少？")) == {"押金", "押", "金"}
    assert set(asked("怎么还车")) == {"还车", "还", "车"}
    assert asked("what is it?") == asked("是什么？") == asked("？！") == asked("") == {}


def test_a_stop_word_inside_a_real_word_does_not_break_it() -> None:
    assert "目的" in asked("骑行的目的是什么")
    assert "申请" in asked("怎么申请退款")


def test_lone_characters_are_weaker_than_words() -> None:
    strengths = asked("押金什么时候退")
    assert strengths["押金"] > strengths["退"] > strengths["金"]
    assert asked("狗")["狗"] > 0


def test_neighbours_are_asked_for_as_a_phrase() -> None:
    assert 0 < asked("the lost lock pin")["lock pin"] < 1
    assert "lock gat" not in asked("lock the gate")
    assert held("pin of the lock", ["lock pin"]) == set()
    assert held("the lock pins", ["lock pin"]) == {"lock pin"}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("How do I start?", "en"),
        ("怎么开始？", "zh"),
        ("Tidelog 怎么用", "zh"),
        ("What does 押金 mean?", "en"),
        ("", "en"),
        ("返却は？", "en"),
    ],
)
def test_language(text: str, expected: str) -> None:
    assert language(text) == expected


def test_a_text_may_be_chinese_with_many_latin_words() -> None:
    text = "运行 make serve PORT=8000 DOCS=folder 然后打开"
    assert (language(text), language(text, han_a_word=0.2)) == ("zh", "zh")
    code = text + " curl -N -H Accept text event stream http localhost rag question"
    assert (language(code), language(code, han_a_word=0.2)) == ("en", "zh")


TEXT = st.text(alphabet="abcXYZ押金退还车の가_ .\nÉ１", max_size=40)


@settings(max_examples=300, deadline=None, database=None)
@given(TEXT, TEXT)
def test_held_is_a_quicker_way_to_look_up_words(text: str, other: str) -> None:
    among = set(words(other)) | characters(other)
    assert held(text, among) == among & (set(words(text)) | characters(text))


@settings(max_examples=300, deadline=None, database=None)
@given(st.text(max_size=60))
def test_a_question_asks_only_for_words_that_its_own_text_holds(question: str) -> None:
    strengths = asked(question)
    assert all(0 < strength <= 1 for strength in strengths.values())
    single = {word for word in strengths if " " not in word}
    assert single <= set(words(question)) | characters(question)


def test_signs_that_are_no_letters_change_nothing() -> None:
    """They have a quick way of their own, which must be the same as the slow one."""
    for code in range(0x80, 0x2800):
        sign = chr(code)
        if _TYPOGRAPHY.match(sign):
            assert not sign.isalnum()
            assert words(f"a{sign}b_c") == ["a", "b", "c", "b_c"]
            assert held(f"lost{sign}keys 押金", ["lose", "key", "押金"]) == {"lose", "key", "押金"}
            assert held(f"lost{sign}keys", ["lose", "key", "押金"]) == {"lose", "key"}
