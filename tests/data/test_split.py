import numpy as np

from graftwork_train.data.split import Splitter

EOS = 9
TOP = 2**64


def ids(*tokens):
    return np.array([*tokens, EOS])


def run(splitter, documents):
    """Documents are (domain, mark, first token); gives (domain, split, first token)."""
    placed = []
    for domain, mark, token in documents:
        for split, tokens in splitter.place(domain, mark, ids(token)):
            placed.append((domain, split, int(tokens[0])))
    for domain, late in splitter.finish():
        placed += [(domain, split, int(tokens[0])) for split, tokens in late]
    return placed


def test_every_domain_of_two_texts_gets_one_on_either_side():
    for marks in ([5, 7], [TOP - 1, TOP - 2], [3, TOP - 1], [TOP // 2, TOP // 2 + 1]):
        for share in (0.001, 0.5):
            placed = run(Splitter(share, EOS), [("d", mark, n) for n, mark in enumerate(marks)])
            assert sorted(split for _, split, _ in placed) == ["held_out", "train"]


def test_a_text_and_its_copies_are_on_one_side():
    generator = np.random.default_rng(0)
    marks = [int(mark) for mark in generator.integers(0, 2**63, 50)] * 4
    placed = run(Splitter(0.3, EOS), [("d", mark, n % 50) for n, mark in enumerate(marks)])
    sides = {}
    for _, split, token in placed:
        sides.setdefault(token, set()).add(split)
    assert len(placed) == 200
    assert all(len(side) == 1 for side in sides.values())


def test_copies_of_the_first_text_are_neither_lost_nor_parted():
    placed = run(Splitter(0.01, EOS), [("d", 5, 1), ("d", 5, 1), ("d", 9, 2), ("d", 5, 1)])
    assert sorted(placed) == [("d", "held_out", 1)] * 3 + [("d", "train", 2)]


def test_the_share_is_kept_over_many_texts():
    generator = np.random.default_rng(0)
    marks = generator.integers(0, 2**64, 20_000, dtype=np.uint64).tolist()
    placed = run(Splitter(0.05, EOS), [("d", mark, 1) for mark in marks])
    held = sum(split == "held_out" for _, split, _ in placed)
    assert abs(held - 1000) < 4 * np.sqrt(1000)


def test_the_order_of_later_documents_changes_no_side():
    generator = np.random.default_rng(1)
    documents = [("d", int(mark), n) for n, mark in enumerate(generator.integers(0, 2**63, 100))]
    one = set(run(Splitter(0.3, EOS), documents))
    assert one == set(run(Splitter(0.3, EOS), documents[:2] + documents[:1:-1]))


def test_a_domain_of_one_text_is_cut_at_its_end():
    splitter = Splitter(0.1, EOS)
    assert splitter.place("d", 3, np.append(np.arange(99) % 9, EOS)) == []
    ((domain, placed),) = splitter.finish()
    (train, head), (held, tail) = placed
    assert (domain, train, held) == ("d", "train", "held_out")
    assert (len(head), len(tail)) == (91, 10)
    assert head[-1] == tail[-1] == EOS
    assert np.concatenate([head[:-1], tail])[:99].tolist() == (np.arange(99) % 9).tolist()


def test_a_text_too_short_to_cut_is_trained_on():
    assert run(Splitter(0.1, EOS), [("d", 3, 1)]) == [("d", "train", 1)]
