"""Templates: the same tokens as the filled text, the label's place, and texts that are cut."""

from collections.abc import Iterator, Mapping
from dataclasses import replace

import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from graftwork.errors import RunError
from graftwork.spec.prompts import Part, Prompt
from graftwork_train.data.documents import Document
from graftwork_train.data.prompts import Prompter, fitting, without_label
from graftwork_train.data.tokenizer import EOS, Encoder, with_tokens

WORDS = {"positive": "great", "negative": "awful"}
SINGLE = Prompt(words=WORDS)
PAIR = Prompt(template="{a} ? {label} , {b}", words={"yes": "Yes", "no": "No"})
SOFT = Prompt(template="{a}<s1><s2> {label}<s3>", words=WORDS)
TEXT = "the food was cold and the waiter slow , but we laughed . It was great . Yes , No , awful ."
BLANK = 5


@pytest.fixture(scope="module")
def encoder():
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400, special_tokens=[EOS], show_progress=False,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
    )  # fmt: skip
    tokenizer.train_from_iterator([TEXT] * 20, trainer)
    return Encoder(tokenizer.to_str(), 400, tokenizer.get_vocab()[EOS], EOS)


def document(text="the food was cold .", **metadata):
    return Document("d", text, "x", metadata)


def test_the_single_template_is_filled_as_in_the_paper():
    assert SINGLE.filled("bad food", {}, "awful") == "bad food It was awful ."
    assert SINGLE.filled("bad food", {}, None) == "bad food It was"


def test_the_pair_template_is_filled_as_in_the_paper():
    filled = PAIR.filled("we ate", {"second": "we were hungry"}, "No")
    assert filled == "we ate ? No , we were hungry"


def test_a_space_before_a_place_belongs_to_it():
    assert SINGLE.parts() == (
        Part("a", ""), Part("", " It was"), Part("label", " "), Part("", " ."),
    )  # fmt: skip


def test_a_soft_template_s_tokens_are_entries_of_their_own_which_no_text_has(encoder):
    known = with_tokens(replace(encoder, vocab=encoder.vocab + 3), ("<s1>", "<s2>", "<s3>"))
    (asked,) = Prompter.of(SOFT, known, 64, BLANK).ask([document()])
    plain = "the food was cold ."
    plain, filled = known.each([plain, SOFT.filled(plain, {}, "awful")])
    new = [Tokenizer.from_str(known.text).token_to_id(sign) for sign in ("<s1>", "<s2>", "<s3>")]
    assert [one for one in asked.ids if one in new] == new
    assert asked.ids[asked.at - 2 : asked.at + 2].tolist() == [*new[:2], BLANK, new[2]]
    assert [one for one in filled if one in new] == new
    assert not set(plain) & set(new)


@pytest.mark.parametrize("prompt", [SINGLE, PAIR], ids=["single", "pair"])
def test_tokens_are_those_of_the_filled_text_with_the_word_blank(encoder, prompt):
    prompter = Prompter.of(prompt, encoder, 64, BLANK)
    for label, word in prompt.words.items():
        (asked,) = prompter.ask([document(second="the waiter laughed")])
        text = prompt.filled("the food was cold .", {"second": "the waiter laughed"}, word)
        expected = [*encoder.each([text])[0].tolist(), encoder.eos]
        assert asked.ids[asked.at] == BLANK
        found = asked.ids.tolist()
        found[asked.at] = prompter.words_C[prompter.labels.index(label)]
        assert found == expected


def test_long_texts_are_cut_at_their_ends_and_the_template_stays(encoder):
    prompter = Prompter.of(SINGLE, encoder, 16, BLANK)
    (asked,) = prompter.ask([document("the food was cold and slow , " * 20)])
    assert len(asked.ids) == 16
    tail = [*encoder.each([" ."])[0].tolist(), encoder.eos]
    assert asked.ids[asked.at + 1 :].tolist() == tail


def test_of_two_texts_the_longest_is_cut_first():
    assert fitting([10, 3], 9) == [6, 3]
    assert fitting([10, 9], 8) == [4, 4]
    assert fitting([3, 12], 20) == [3, 12]
    assert fitting([30], 7) == [7]
    assert sum(fitting([7, 7], 9)) == 9


def test_a_word_of_several_tokens_is_refused(encoder):
    prompt = Prompt(words={"positive": "extraordinary", "negative": "awful"})
    with pytest.raises(RunError, match=r"the word 'extraordinary' of the label 'positive' is \d+"):
        Prompter.of(prompt, encoder, 64, BLANK)


def test_a_template_without_room_for_a_text_is_refused(encoder):
    with pytest.raises(RunError, match="longer than a sequence of 5 tokens"):
        Prompter.of(SINGLE, encoder, 5, BLANK)


def test_a_document_without_a_label_is_named(encoder):
    prompter = Prompter.of(SINGLE, encoder, 64, BLANK)
    with pytest.raises(RunError, match="document d has no label"):
        prompter.label_of(document())
    with pytest.raises(RunError, match="has the label 'mixed'"):
        prompter.label_of(document(label="mixed"))
    assert prompter.label_of(document(label="negative")) == 1


def test_a_pair_without_its_second_text_is_named(encoder):
    with pytest.raises(RunError, match="no second text in its metadata 'second'"):
        Prompter.of(PAIR, encoder, 64, BLANK).ask([document()])


class Trap(Mapping[str, str]):
    """Metadata whose label nobody may read."""

    def __init__(self, **known: str) -> None:
        self.known = known

    def __getitem__(self, key: str) -> str:
        if key == "label":
            raise AssertionError("gold was read")
        return self.known[key]

    def get(self, key: str, default: object = None) -> object:
        return self[key] if key in self.known else default

    def __iter__(self) -> Iterator[str]:
        return iter(self.known)

    def __len__(self) -> int:
        return len(self.known)


def test_a_label_is_taken_off_without_being_read():
    blind = without_label(Document("d", "text", "x", Trap(label="positive", url="u")), "label")
    assert blind.metadata == {"url": "u"}
    with pytest.raises(AssertionError, match="gold was read"):
        Trap(label="positive").get("label")
