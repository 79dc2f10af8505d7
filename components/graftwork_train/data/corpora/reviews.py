"""Made-up reviews: two labels, topics with words of their own, and sentences that all share.

A review is four sentences. Two or three judge by words of the topic, of which nine in ten are of
the review's label; the others tell of things. In a share of the reviews the last of them gives way
to one that judges in plain words, which all topics share. So a reader who knows one topic's labels
can find those of another topic only through what stands beside plain judgements there.

Words of topics are spelled by their number: number n of all words is a number of three digits to
the base 75, each digit a syllable, by a map of numbers onto themselves, so that no word is twice.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

from graftwork.spec.data import ReviewsCorpus
from graftwork.spec.resources import Storage
from graftwork_train.data.corpora.base import Part, parts, read
from graftwork_train.data.documents import Document, Item

LABELS = ("positive", "negative")
# Bytes of a review, for the progress.
_BYTES = 110
_AGREES = 0.9
_SYLLABLES = [consonant + vowel for consonant in "bdfghjklmnprstv" for vowel in "aeiou"]
# A prime that shares no factor with 75^3, so that multiplying by it reaches every number once.
_STRIDE = 154_291
_THINGS, _TRAITS, _JUDGEMENTS = 12, 8, 8
_PER_TOPIC = _THINGS + _TRAITS + len(LABELS) * _JUDGEMENTS
_NEUTRAL = (
    "the {thing} came with a {trait} {other} .",
    "i use the {thing} on the {trait} {other} .",
    "there is a {trait} {thing} next to the {other} .",
    "we looked at the {thing} and the {other} .",
)
_JUDGING = (
    "the {thing} is {judgement} .",
    "its {thing} seems quite {judgement} .",
    "i found the {trait} {thing} {judgement} .",
)
_PLAIN = {
    "positive": (
        "in all it is good .", "i am happy that i have it .", "i would take it again .",
        "it is worth what it costs .",
    ),
    "negative": (
        "in all it is bad .", "i am sorry that i have it .", "i would never take it again .",
        "it is not worth what it costs .",
    ),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Topic:
    """A topic's own words."""

    things: tuple[str, ...]
    traits: tuple[str, ...]
    judgements: dict[str, tuple[str, ...]]

    @classmethod
    def of(cls, number: int) -> Topic:
        """Those of the topic with this number."""
        words = iter([_spelled(number * _PER_TOPIC + at) for at in range(_PER_TOPIC)])
        things, traits = (tuple(islice(words, count)) for count in (_THINGS, _TRAITS))
        return cls(things, traits, {label: tuple(islice(words, _JUDGEMENTS)) for label in LABELS})


@parts.register
def reviews_parts(corpus: ReviewsCorpus, name: str, storage: Storage) -> list[Part]:
    """One piece."""
    return [Part(name, corpus.domain, name, corpus.documents * _BYTES, corpus.limit)]


@read.register
def read_reviews(corpus: ReviewsCorpus, part: Part, storage: Storage) -> Iterator[Item]:
    """The reviews, one label after the other; each from a generator of its own."""
    topic = Topic.of(corpus.topic)
    for number in range(corpus.documents):
        chance = random.Random(f"{corpus.topic}/{corpus.sample}/{number}")
        label = LABELS[number % len(LABELS)]
        kept = {"label": label} if corpus.labelled else {}
        text = review(topic, label, corpus.plain, chance)
        yield Document(f"{part.name}/{number:07d}", text, corpus.domain, kept)


def review(topic: Topic, label: str, plain: float, chance: random.Random) -> str:
    """One review; `plain` is how often it ends with a plain judgement."""
    judging = chance.choice((2, 3))
    forms = [chance.choice(_JUDGING) for _ in range(judging)]
    forms += [chance.choice(_NEUTRAL) for _ in range(4 - judging)]
    chance.shuffle(forms)
    sentences = [_sentence(form, topic, label, chance) for form in forms]
    if chance.random() < plain:
        sentences[-1] = chance.choice(_PLAIN[label])
    return " ".join(sentences)


def _sentence(form: str, topic: Topic, label: str, chance: random.Random) -> str:
    said = label if chance.random() < _AGREES else LABELS[1 - LABELS.index(label)]
    return form.format(
        thing=chance.choice(topic.things),
        other=chance.choice(topic.things),
        trait=chance.choice(topic.traits),
        judgement=chance.choice(topic.judgements[said]),
    )


def _spelled(number: int) -> str:
    base = len(_SYLLABLES)
    rest, digits = number * _STRIDE % base**3, []
    for _ in range(3):
        rest, digit = divmod(rest, base)
        digits.append(_SYLLABLES[digit])
    return "".join(digits)
