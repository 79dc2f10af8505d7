"""What filters take for words: runs of characters, what stands between blanks, or spaCy's words.

spaCy's tokenizer splits each piece between blanks by itself, and most pieces have been seen before:
what it made of a piece is kept, and pieces that are new are split together. The words are those of
`spacy.blank("en")`, white space left out, as datatrove's filters have them, with two exceptions:
an emoticon whose halves a blank parts may keep spaCy from joining another one beside it; and what
runs on for more than 2,000 characters without a blank is one word here, where spaCy's time grows
with the square of the length.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from itertools import chain
from typing import Any

from graftwork.errors import RunError
from graftwork.spec.filters import Words

PIECES = 200_000
"""Pieces between blanks whose words are kept, a few hundred bytes each."""
LONGEST = 2_000
SUFFIX = 8
_PATTERNS = {"runs": re.compile(r"\w+(?:['’]\w+)*|[^\w\s]+"), "blanks": re.compile(r"\S+")}


def words_of(kind: Words, text: str) -> list[str]:
    """All words of a text.

    Raises:
        RunError: spaCy is asked for and not installed.
    """
    if kind != "spacy":
        return _PATTERNS[kind].findall(text)
    pieces, known = text.split(), _known()
    known.learn(pieces)
    return list(chain.from_iterable(map(known.__getitem__, pieces)))


def each_word(kind: Words, text: str) -> Iterator[str]:
    """The words of a text one after the other, without a list of them.

    Raises:
        RunError: as `words_of`.
    """
    found = (match[0] for match in _PATTERNS.get(kind, _PATTERNS["blanks"]).finditer(text))
    return chain.from_iterable(map(_known().__getitem__, found)) if kind == "spacy" else found


class _Known(dict[str, tuple[str, ...]]):
    """The words of the pieces that have been seen.

    Args:
        tokenizer: spaCy's.
    """

    def __init__(self, tokenizer: Any) -> None:  # noqa: ANN401 - spaCy may be missing
        super().__init__()
        self._tokenizer, self._rules = tokenizer, frozenset(tokenizer.rules)

    def learn(self, pieces: Iterable[str]) -> None:
        """Split those of the pieces that are new, and forget others where those are too many."""
        new = [piece for piece in dict.fromkeys(pieces) if piece not in self]
        if len(self) + len(new) > PIECES:
            self.clear()
        hard = []
        for piece in new:
            # Nothing but rules splits letters.
            letters = piece.isascii() and piece.isalpha() and piece not in self._rules
            if letters or len(piece) > LONGEST:
                self[piece] = (piece,)
            else:
                hard.append(piece)
        self.update(zip(hard, self._split(hard), strict=True))

    def __missing__(self, piece: str) -> tuple[str, ...]:
        self.learn((piece,))
        return self[piece]

    def _split(self, pieces: list[str]) -> Iterator[tuple[str, ...]]:
        # A line end is a token by itself, across which nothing is joined. What spaCy would
        # remember of each word for ever goes with the zone. Of one word, the name of its own
        # first attribute, it remembers a wrong number; another one stands in for it.
        text = "\n".join(pieces)
        with self._tokenizer.vocab.memory_zone():
            tokens = self._tokenizer(text.replace("IS_ALPHA", "IS_ALPHB"))
            places = tokens.to_array(["IDX", "LENGTH"]).tolist()
        words = [text[at : at + length] for at, length in places]
        start = 0
        for end in (at for at, word in enumerate(words) if word == "\n"):
            yield tuple(words[start:end])
            start = end + 1
        if pieces:
            yield tuple(words[start:])


def _near_end(search: Callable[..., object]) -> Callable[[str], object]:
    """A search for what ends a piece that begins near its end: but for dots, no end is long."""
    return lambda piece: search(piece, max(0, len(piece.rstrip(".")) - SUFFIX))


@cache
def _known() -> _Known:
    try:
        import spacy  # noqa: PLC0415 - optional, and takes a second
        from spacy.tokenizer import Tokenizer  # noqa: PLC0415
        from spacy.vocab import Vocab  # noqa: PLC0415
    except ImportError as error:
        raise RunError(
            "words: spacy needs spaCy, which is not installed",
            "Install it with: pip install 'graftwork[spacy]'. Or choose other words.",
        ) from error
    english: Any = spacy.blank("en").tokenizer
    # A vocabulary of its own, since English's finds out much about each new word.
    tokenizer = Tokenizer(
        Vocab(), english.rules, english.prefix_search, _near_end(english.suffix_search),
        english.infix_finditer, english.token_match, english.url_match,
    )  # fmt: skip
    tokenizer.max_cache_size = 0
    return _Known(tokenizer)
