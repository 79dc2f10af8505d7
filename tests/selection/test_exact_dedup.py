from .conftest import reasons


def test_the_first_of_equal_texts_is_kept(judge):
    verdicts = judge(["a b", "c", "a b", "d", "c", "a b"], name="exact_dedup")
    assert reasons(verdicts) == ["kept", "kept", "duplicate", "kept", "duplicate", "duplicate"]
    assert verdicts.scores.tolist() == [1, 1, 0, 1, 0, 0]


def test_case_and_white_space_are_folded_and_nothing_else(judge):
    texts = ["The  Fox\n", " the fox", "THE\tFOX", "the fox.", "thefox", "Straße", "STRASSE"]
    assert reasons(judge(texts, name="exact_dedup")) == [
        "kept", "duplicate", "duplicate", "kept", "kept", "kept", "duplicate",
    ]  # fmt: skip


def test_it_agrees_with_a_set_of_folded_texts(judge):
    texts = [f"text {n * n % 37}" for n in range(300)]
    verdicts = judge(texts, name="exact_dedup")
    seen = set()
    for text, reason in zip(texts, reasons(verdicts), strict=True):
        assert (reason == "duplicate") == (text in seen)
        seen.add(text)
