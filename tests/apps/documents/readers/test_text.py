import pytest

from tidelog.apps.documents.readers import Unreadable, decode
from tidelog.apps.documents.readers.text import read_text


def test_line_ends_become_one() -> None:
    assert read_text(b"a\r\nb\rc\n").text == "a\nb\nc\n"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "gb18030", "gbk"])
def test_chinese_is_read_in_the_encodings_of_chinese_files(encoding: str) -> None:
    text = "押金为三百元。注销账户后，我们会在七个工作日内退还押金。"
    assert decode(text.encode(encoding)) == text


@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        ("앞바퀴를 빈 거치대에 밀어 넣으세요.", "euc-kr"),
        ("前輪を空いているドックに押し込んで、待つ。", "shift-jis"),
        ("Ä Ö Ü ßé", "cp1252"),
    ],
)
def test_other_encodings_are_refused_rather_than_shown_as_nonsense(text: str, encoding: str) -> None:
    with pytest.raises(Unreadable):
        decode(text.encode(encoding))
