"""Whether a model that knows the tokens of one stage can read those of another."""

from __future__ import annotations

from graftwork.spec.data import (
    ByteTokenizer,
    TokenizerFile,
    TokenizerFrom,
    TrainedBpe,
    TrainedCharacters,
)
from graftwork.spec.graph import tokenizer_stage, vocabulary
from graftwork.spec.pretrained import Pretrained
from graftwork.spec.stages import Prepare
from graftwork.spec.workflow import Workflow


def tokenizer_difference(workflow: Workflow, one: str, other: str) -> str | None:
    """Why a model that knows the tokens of `one` cannot read those of `other`, if so.

    Tokenizers trained on the same documents by the same parameters are the same.
    """
    makers = [tokenizer_stage(workflow, name) for name in (one, other)]
    if makers[0] == makers[1]:
        return None
    remedy = f"write 'tokenizer: {{from: {one}}}' in {other!r}"
    if any(isinstance(workflow.stages[name].body, Pretrained) for name in makers):
        # What such a model's tokenizer is shows when its folder is read.
        sizes = [vocabulary(workflow, name) for name in makers]
        if not isinstance(workflow.stages[other].body, Prepare):
            remedy = "take models of one tokenizer"
        told = f"{one!r} has {sizes[0]:,} entries and {other!r} {sizes[1]:,}; {remedy}"
        return None if sizes[0] == sizes[1] else told
    stages = [_prepare(workflow, name) for name in makers]
    tokenizers = [stage.tokenizer for stage in stages]
    if tokenizers[0] != tokenizers[1]:
        words = [_words(tokenizer) for tokenizer in tokenizers]
        return f"{one!r} has {words[0]} and {other!r} {words[1]}; {remedy}"
    trained_alike = (
        set(stages[0].from_) == set(stages[1].from_) and stages[0].held_out == stages[1].held_out
    )
    if isinstance(tokenizers[0], TrainedBpe | TrainedCharacters) and not trained_alike:
        return f"{one!r} and {other!r} train their tokenizers on different text; {remedy}"
    return None


def _prepare(workflow: Workflow, name: str) -> Prepare:
    body = workflow.stages[name].body
    if not isinstance(body, Prepare):
        raise AssertionError(f"{name} was checked to make tokens")
    return body


def _words(
    tokenizer: ByteTokenizer | TrainedBpe | TrainedCharacters | TokenizerFile | TokenizerFrom,
) -> str:
    if isinstance(tokenizer, TrainedCharacters):
        return f"a tokenizer of characters with {tokenizer.vocab} entries"
    if isinstance(tokenizer, TrainedBpe):
        return f"a BPE tokenizer of {tokenizer.vocab} entries"
    if isinstance(tokenizer, TokenizerFile):
        return f"the tokenizer {tokenizer.file!r} of {tokenizer.vocab} entries"
    return "a byte tokenizer"
