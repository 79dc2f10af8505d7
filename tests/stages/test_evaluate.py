import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy
from transformers import AutoModelForCausalLM

from graftwork.errors import RunError
from graftwork.report.files import read_files
from graftwork.spec.data import ByteTokenizer, JsonlCorpus
from graftwork.spec.latents import SIGNS
from graftwork_train.data.marks import MARK
from graftwork_train.data.shards import ShardWriter, TokenShards
from graftwork_train.data.tokenizer import build_bytes
from graftwork_train.job import Artifact
from graftwork_train.nn.hf import Saved, load_model, save_model
from graftwork_train.stages.base import perform
from graftwork_train.stages.evaluate import evaluate

from .conftest import make_record

assert evaluate is not None  # imported for its registration


def _stage(**changes):
    return {"evaluate": {"from": "small", "data": "tokens", "sample_tokens": 8, **changes}}


def _perform(job):
    return perform(job.step.spec.body, job)


def _work(job, model, tokens, **changes):
    return job(_stage(**changes), ("from", model), ("data", tokens))


def test_losses_are_those_that_transformers_gives_on_the_same_text(job, model, tokens):
    small, data = model(), tokens()
    outcome = _perform(_work(job, small, data))
    theirs = AutoModelForCausalLM.from_pretrained(small.path)
    shards = TokenShards.open(data.path)
    means, weights = [], []
    for domain in ("code", "prose"):
        losses = []
        for index in range(shards.sequences("held_out", domain)):
            row, documents, _ = shards.read("held_out", domain, index)
            kept = int((documents >= 0).sum())
            ids = torch.from_numpy(row[:kept])
            with torch.no_grad():
                scores = theirs(ids[None, :-1]).logits[0]
            losses.append(cross_entropy(scores, ids[1:], reduction="none"))
        means.append(torch.cat(losses).mean().item())
        weights.append(shards.tokens("held_out", domain))
        assert outcome.metrics[f"loss/{domain}"] == pytest.approx(means[-1], abs=1e-4)
        assert outcome.metrics[f"perplexity/{domain}"] == pytest.approx(
            math.exp(outcome.metrics[f"loss/{domain}"])
        )
    mean = sum(m * w for m, w in zip(means, weights, strict=True)) / sum(weights)
    assert outcome.metrics["loss"] == pytest.approx(mean, abs=1e-4)
    assert outcome.metrics["perplexity"] == pytest.approx(math.exp(outcome.metrics["loss"]))
    assert outcome.metrics["parameters"] == theirs.num_parameters()


def test_fewer_sequences_measure_less(job, model, tokens):
    work = _work(job, model(), tokens(), sequences=2)
    _perform(work)
    assert read_files(work.out).summary.tables[0].title == "On 128 held-out tokens"


def test_samples_follow_the_prompts_and_the_seed(job, model, tokens):
    small, data = model(), tokens()
    work = _work(job, small, data, prompts=["abc", "", "née <|endoftext|>"])
    _perform(work)
    first = read_files(work.out).summary.samples
    assert [sample.prompt for sample in first] == ["abc", "", "née <|endoftext|>"]
    assert any(sample.text for sample in first)
    _perform(work)
    assert read_files(work.out).summary.samples == first


def test_a_further_prompt_changes_no_other_sample(job, model, tokens):
    small, data = model(), tokens()
    work = _work(job, small, data, prompts=["abc"])
    _perform(work)
    one = read_files(work.out).summary.samples
    longer = work.step.spec.body.model_copy(update={"prompts": ("abc", "def")})
    perform(longer, work)
    assert read_files(work.out).summary.samples[:1] == one


def test_no_samples_where_none_are_asked_for(job, model, tokens):
    work = _work(job, model(), tokens(), sample_tokens=0)
    _perform(work)
    assert read_files(work.out).summary.samples == []


def test_nothing_held_out_is_told(job, model, tokens):
    with pytest.raises(RunError, match="the tokens hold nothing out"):
        _perform(_work(job, model(), tokens(held_out=0)))


def test_another_vocabulary_is_told(job, model, tokens):
    small, data = model(), tokens()
    index = data.path / "index.json"
    index.write_text(index.read_text().replace('"vocab": 320', '"vocab": 512'))
    with pytest.raises(RunError, match="a vocabulary of 512, the model has 320"):
        _perform(_work(job, small, data))


def test_sequences_longer_than_the_models_context_are_told(job, model, tokens):
    with pytest.raises(RunError, match="sequences have 32 tokens, the model was made for 16"):
        _perform(_work(job, model(context=16), tokens()))


def test_a_model_that_diverged_is_told(job, model, tokens):
    small = model()
    decoder = load_model(small.path)
    with torch.no_grad():
        decoder.lm_head.weight.fill_(float("nan"))
    save_model(decoder, small.path)
    with pytest.raises(RunError, match="the model's loss on code is nan"):
        _perform(_work(job, small, tokens()))


def test_a_mixture_of_experts_is_evaluated_too(job, model, tokens):
    moe = model(experts={"count": 4, "top_k": 2})
    metrics = _perform(_work(job, moe, tokens())).metrics
    assert metrics["loss"] > 0
    # Experts drawn apart have nothing in common.
    assert abs(metrics["expert_similarity"]) < 0.1


def questions(path, texts):
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    return JsonlCorpus(source="jsonl", uri=str(path))


def examined(job, model, tokens, corpus, **changes):
    """A job that asks the questions of a corpus, by a model that writes one letter for ever."""
    asked = {"from": "exam", "tokens": 4, **changes}
    work = _work(job, model, tokens, sample_tokens=0, exact_match=asked)
    return replace(work, step=work.step.model_copy(update={"corpora": {"exam": corpus}}))


def writes(artifact, after, surely=1.0):
    """Let a model write `after[token]` after each token, whatever came before."""
    decoder = load_model(artifact.path)
    with torch.no_grad():
        for name, parameter in decoder.named_parameters():
            if "proj" in name:
                parameter.zero_()
        decoder.model.embed_tokens.weight.zero_()
        decoder.lm_head.weight.zero_()
        for place, (token, following) in enumerate(after.items()):
            decoder.model.embed_tokens.weight[token, place] = 1.0
            decoder.lm_head.weight[following, place] = surely
    save_model(decoder, artifact.path, saved=Saved(cursor={"t": 128}, eos=256))
    return artifact


def test_answers_must_be_right_to_the_letter(job, model, tokens, tmp_path):
    # After "=" it writes "7", then the end.
    small = writes(model(tie_embeddings=False), {ord("="): ord("7"), ord("7"): 256})
    texts = ["3+4=7", "3+5=8", "3+14=17", "1+6= 7\n", "no question"]
    work = examined(job, small, tokens(), questions(tmp_path / "exam.jsonl", texts))
    assert _perform(work).metrics["exact_match"] == 0.5
    tables = read_files(work.out).summary.tables
    assert tables[1].title == "2 of 4 answers are right (50.0%)"
    assert tables[1].rows[1] == ["3+5=", "8", "7"]


def test_the_last_line_counts_or_all_of_the_answer(job, model, tokens, tmp_path):
    line = {ord("="): ord("1"), ord("1"): ord("\n"), ord("\n"): ord("7"), ord("7"): 256}
    small, data = writes(model(tie_embeddings=False), line), tokens()
    corpus = questions(tmp_path / "exam.jsonl", ["3+4=0\n7"])
    assert _perform(examined(job, small, data, corpus)).metrics["exact_match"] == 1.0
    whole = examined(job, small, data, corpus, answer="whole")
    assert _perform(whole).metrics["exact_match"] == 0.0


def test_an_answer_without_an_end_is_wrong(job, model, tokens, tmp_path):
    small = writes(model(tie_embeddings=False), {ord("="): ord("7"), ord("7"): ord("7")})
    corpus = questions(tmp_path / "exam.jsonl", ["3+4=7777"])
    assert _perform(examined(job, small, tokens(), corpus)).metrics["exact_match"] == 0.0


def test_documents_without_a_question_are_told(job, model, tokens, tmp_path):
    corpus = questions(tmp_path / "exam.jsonl", ["one", "two"])
    with pytest.raises(RunError, match="none of 2 documents has '='"):
        _perform(examined(job, model(), tokens(), corpus))


def test_a_question_longer_than_the_context_is_told(job, model, tokens, tmp_path):
    corpus = questions(tmp_path / "exam.jsonl", [f"{'1' * 70}=1"])
    with pytest.raises(RunError, match="has 71 tokens, and the model a context of 64"):
        _perform(examined(job, model(), tokens(), corpus))


def measured(job, model, tokens, corpus, **changes):
    """A job that measures the pieces after `=` of a corpus's documents."""
    asked = {"from": "exam", "unit": 1, "ends": "=", **changes}
    work = _work(job, model, tokens, sample_tokens=0, latents=asked)
    return replace(work, step=work.step.model_copy(update={"corpora": {"exam": corpus}}))


def test_pieces_are_measured_as_plain_text_without_latents(job, model, tokens, tmp_path):
    small, texts = model(), ["12+5=17", "1+1=2", "no piece"]
    work = measured(job, small, tokens(), questions(tmp_path / "e.jsonl", texts), samples=0)
    decoder = load_model(small.path)
    nats = []
    for text in texts[:2]:
        ids = torch.tensor([list(text.encode())])
        with torch.no_grad():
            scores = decoder.logits(decoder(ids[:, :-1]).hidden_BTD)[0]
        begin = text.index("=")
        nats += cross_entropy(scores[begin:], ids[0, begin + 1 :], reduction="none").tolist()
    assert _perform(work).metrics["bound"] == pytest.approx(sum(nats) / 3, abs=1e-4)
    assert len(nats) == 3


def test_latents_need_a_tokenizer_that_knows_their_signs(job, model, tokens, tmp_path):
    corpus = questions(tmp_path / "e.jsonl", ["12+5=17"])
    with pytest.raises(RunError, match="latents need it as one"):
        _perform(measured(job, model(), tokens(), corpus, samples=2))


def test_a_model_that_thinks_first_is_measured_by_what_its_latents_make_likely(
    job, model, tokens, tmp_path
):
    data = tokens()
    signed = build_bytes(ByteTokenizer(name="bytes", tokens=SIGNS), None)
    signed.save(data.path, 32)
    _, end, prior, posterior = (int(signed.each([sign])[0][0]) for sign in SIGNS)
    # Before the piece and after it, it thinks of nothing but a "z", and then it writes "7".
    letter = ord("z")
    after = {prior: letter, posterior: letter, letter: end, end: ord("7")}
    small = writes(model(tie_embeddings=False), after, surely=10.0)
    corpus = questions(tmp_path / "e.jsonl", ["3+4=7", "5+2=7"])
    thinking = measured(job, small, data, corpus, samples=2)
    assert _perform(thinking).metrics["bound"] == pytest.approx(0, abs=1e-6)
    table = read_files(thinking.out).summary.tables[1]
    assert table.title == "Pieces of documents, at most, by 2 latents each"
    plain = _perform(measured(job, small, data, corpus, samples=0))
    assert plain.metrics["bound"] == pytest.approx(math.log(320))


def test_documents_without_pieces_to_measure_are_told(job, model, tokens, tmp_path):
    corpus = questions(tmp_path / "e.jsonl", ["one", "two"])
    with pytest.raises(RunError, match="no piece of these documents could be measured"):
        _perform(measured(job, model(), tokens(), corpus, samples=0))


def test_pairs_are_judged_by_which_answer_is_likelier(job, model, tmp_path):
    folder, small = tmp_path / "pairs", model()
    folder.mkdir()
    build_bytes(ByteTokenizer(name="bytes"), None).save(folder, 16)
    writer = ShardWriter(folder, 320, 256, 16, "best_fit", labels="pairs")
    answers = [(65 + n, 97 + n) for n in range(12)]
    for chosen, rejected in answers:
        both = [part for answer in (chosen, rejected) for part in (63 | MARK, answer, 256)]
        writer.add_rows("held_out", "d", [np.array(both)], 1)
    writer.close()
    data = Artifact(make_record(stage="pairs", kind="prepare"), folder)
    metrics = _perform(_work(job, small, data, prompts=[])).metrics
    theirs = AutoModelForCausalLM.from_pretrained(small.path)
    margins = []
    for pair in answers:
        with torch.no_grad():
            log = [theirs(torch.tensor([[63, n, 256]])).logits[0].log_softmax(-1) for n in pair]
        sums = [one[0, n] + one[1, 256] for one, n in zip(log, pair, strict=True)]
        margins.append(float(sums[0] - sums[1]))
    assert metrics["preference_margin"] == pytest.approx(sum(margins) / 12, abs=1e-4)
    assert metrics["preference_accuracy"] == sum(margin > 0 for margin in margins) / 12
    assert 0 < metrics["preference_accuracy"] < 1


def test_text_without_pairs_has_no_preferences(job, model, tokens):
    metrics = _perform(_work(job, model(), tokens(), prompts=[])).metrics
    assert not any(name.startswith("preference") for name in metrics)
