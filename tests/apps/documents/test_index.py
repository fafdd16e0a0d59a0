import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tidelog.apps.documents import Document, Index, read_folder

CORPUS = Path(__file__).parent / "corpus"


@pytest.fixture(scope="module")
def index() -> Iterator[Index]:
    built = Index.build(read_folder(CORPUS))
    yield built
    built.close()


def test_it_counts_what_it_holds(index: Index) -> None:
    assert index.documents == 5
    assert index.chunks > index.documents


@pytest.mark.parametrize(
    ("question", "heading"),
    [
        ("押金", "注册"),
        ("隐私", "隐私"),
        ("狗", "宠物与行李"),
        ("deposit", "Joining"),
        ("the dogs", "Pets and luggage"),
        ("dock_timeout", "Station computer"),
        ("ＤＥＰＯＳＩＴ", "Joining"),
    ],
)
def test_a_word_finds_its_section(index: Index, question: str, heading: str) -> None:
    assert index.search(question)[0].chunk.headings[-1] == heading


def test_scores_fall_from_at_most_one(index: Index) -> None:
    hits = index.search("lock the bicycle at a full station", limit=3)
    scores = [hit.score for hit in hits]
    assert 1 < len(hits) <= 3
    assert scores == sorted(scores, reverse=True)
    assert 0 < scores[-1] <= scores[0] <= 1


@pytest.mark.parametrize(
    "question", ["", "?!", "what is it", "是什么", '" OR * NEAR( : -', "\0", "zyxwvut", "量子纠缠"]
)
def test_nothing_is_found_for_nothing(index: Index, question: str) -> None:
    assert index.search(question) == []


def test_a_question_as_long_as_a_book_is_still_answered(index: Index) -> None:
    assert index.search("deposit " + "押金退还车辆站点 zebra_crossing " * 5_000)


def test_the_chunk_that_holds_all_words_goes_before_one_that_repeats_a_single_one() -> None:
    index = Index.build(
        [
            Document("often.md", "Often", "Battery, battery and battery again: the battery."),
            Document("both.md", "Both", "The winter is hard on every battery that stays outside in the long night."),
            *(Document(f"{number}.md", "Other", f"Nothing to see in number {number}.") for number in range(20)),
        ]
    )
    assert index.search("battery in winter")[0].chunk.path == "both.md"


def test_a_heading_counts_more_than_a_mention() -> None:
    filler = "We walked along the river and spoke about the weather for a while."
    index = Index.build(
        [
            Document("mention.md", "A", f"# Trips\n{filler} A refund came up once."),
            Document("section.md", "B", f"# Refund\n{filler} Then we went home."),
            *(Document(f"{number}.md", "Other", filler) for number in range(20)),
        ]
    )
    assert index.search("refund")[0].chunk.path == "section.md"


def test_a_document_that_is_named_is_found_at_its_opening() -> None:
    mentions = "\n\n".join(f"## Part {number}\n\nLantern here, lanterns there." for number in range(60))
    documents = [
        Document("a.md", "Lantern", f"# Lantern\n\nA lamp for ships.\n\n{mentions}"),
        Document("b.md", "A lantern maker's diary", "# A lantern maker's diary\n\nRain."),
    ]
    index = Index.build(documents)
    assert index.search("what is a lantern?")[0].chunk.text == "A lamp for ships."


def test_copies_of_a_text_are_found_once() -> None:
    index = Index.build([Document(name, name, "The gate closes at noon.") for name in ("a", "b", "c")])
    assert len(index.search("when does the gate close?")) == 1


def test_of_two_translations_the_readers_own_is_preferred() -> None:
    documents = [
        Document("zh.md", "中文", "运行 tidelog serve 之后打开浏览器，就可以开始提问。"),
        Document("en.md", "English", "Run tidelog serve, then open the browser and ask away, whatever you like."),
        *(Document(f"{number}.md", "Other", f"Nothing to see in number {number}.") for number in range(20)),
    ]
    index = Index.build(documents)
    assert index.search("what is tidelog serve?")[0].chunk.path == "en.md"
    assert index.search("tidelog serve 是什么？")[0].chunk.path == "zh.md"


def test_an_empty_index_finds_nothing() -> None:
    index = Index.build([Document("empty.md", "Empty", "")])
    assert (index.documents, index.chunks) == (1, 0)
    assert index.search("anything") == []


def test_many_threads_may_search_at_once(index: Index) -> None:
    expected = index.search("How do I return a bicycle?")
    gate = threading.Barrier(8)

    def ask(_: int) -> bool:
        gate.wait(timeout=30)
        return all(index.search("How do I return a bicycle?") == expected for _ in range(5))

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(ask, range(8)))


def note(text: str, name: str = "note.md") -> Document:
    return Document(name, "Note", text)


def told(index: Index, question: str) -> list[str]:
    return [hit.chunk.text for hit in index.search(question)]


def test_documents_come_and_go() -> None:
    index = Index.build([note("The gate opens at nine.", "first.md")])
    second = index.add(note("The lantern hangs in the hall."))
    assert (index.documents, index.chunks) == (2, 2)
    assert told(index, "lantern") == ["The lantern hangs in the hall."]
    third = index.add(note("The lantern hangs in the tower."), instead_of=second)
    assert (index.documents, index.chunks) == (2, 2)
    assert told(index, "lantern") == ["The lantern hangs in the tower."]
    assert [chunk.text for chunk in index.every()] == ["The gate opens at nine.", "The lantern hangs in the tower."]
    index.remove(third)
    assert (index.documents, index.chunks) == (1, 1)
    assert told(index, "lantern") == []
    assert told(index, "gate") == ["The gate opens at nine."]


def test_an_index_is_the_same_whatever_was_in_it_before() -> None:
    """Ranks, too: they depend on how many chunks hold a word."""
    fresh = Index.build(read_folder(CORPUS))
    used = Index()
    for document in read_folder(CORPUS):
        old = used.add(note(f"Something of the deposit and the 押金 of before. {document.text}"))
        used.add(document, instead_of=old)
    for question in ("How much is the deposit?", "押金什么时候退？", "lock the bicycle"):
        found = [(hit.chunk, pytest.approx(hit.score)) for hit in fresh.search(question)]
        assert [(hit.chunk, hit.score) for hit in used.search(question)] == found


def test_no_byte_of_a_removed_document_stays_in_the_tables() -> None:
    index = Index.build(read_folder(CORPUS))
    entry = index.add(
        Document("secret.md", "Zanzibar", "# Zanzibar\n\nThe quokka sleeps.\n\n" + "filler words " * 5_000)
    )
    assert b"quokka" in index._fulltext._database.serialize("main")
    index.remove(entry)
    held = index._fulltext._database.serialize("main")
    assert b"quokka" not in held
    assert b"zanzibar" not in held
    assert told(index, "deposit")


def test_whoever_searches_sees_the_old_or_the_new_and_never_both() -> None:
    filler = "\n\n".join(f"# Part {number}\n\nPlain words of no matter." for number in range(200))
    index = Index.build(read_folder(CORPUS))
    entry = index.add(note(f"The quokka has 0 ears.\n\n{filler}"))
    done = threading.Event()

    def look() -> set[int]:
        seen = set()
        while not done.is_set():
            found = told(index, "quokka ears")
            seen.add(len(found))
        return seen

    with ThreadPoolExecutor(2) as pool:
        lookers = [pool.submit(look) for _ in range(2)]
        try:
            for number in range(1, 15):
                entry = index.add(note(f"The quokka has {number} ears.\n\n{filler}"), instead_of=entry)
        finally:
            done.set()
    assert [looker.result() for looker in lookers] == [{1}, {1}]
    assert told(index, "quokka ears") == ["The quokka has 14 ears."]


def test_a_word_of_every_chunk_still_finds_something() -> None:
    documents = [note(f"The lantern number {number} hangs.", f"{number}.md") for number in range(1_200)]
    index = Index.build(documents)
    assert told(index, "lantern")
    assert told(index, "lantern 77")[0] == "The lantern number 77 hangs."
