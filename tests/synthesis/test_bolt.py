import itertools
import json
import math
import re

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from graftwork.errors import RunError, SpecError
from graftwork.plan import plan
from graftwork.spec.data import TrainedCharacters
from graftwork.spec.latents import SIGNS, Pieces
from graftwork.spec.load import load
from graftwork.spec.model import Architecture
from graftwork.spec.resources import Storage
from graftwork.spec.workflow import Stage
from graftwork_train.data.documents import Document
from graftwork_train.data.stream import Source, Stream
from graftwork_train.data.tokenizer import EOS, UNKNOWN, Makings, build, load_encoder
from graftwork_train.nn.hf import Saved, load_model, save_model
from graftwork_train.nn.transformer import Decoder
from graftwork_train.synthesis import _prompts
from graftwork_train.synthesis._latents import (
    NEVER,
    Piece,
    bound,
    cut,
    pieces,
    resampled,
    weights,
    with_posterior,
    with_prior,
)
from graftwork_train.synthesis._thinking import Thinker

from .conftest import TEXT, documents_of

BEGIN, END, PRIOR, POSTERIOR = SIGNS
SUMS = [f"{a}+{b}={a + b}" for a in range(1, 9) for b in range(1, 9)]
CUT = {"unit": 1, "ends": "=", "given": 1}
DRAWN = re.compile(re.escape(f"{BEGIN}{PRIOR}") + "(.*)" + re.escape(END), re.DOTALL)

# A latent of four values: p(z, x) for the x at hand, and what q draws z by.
JOINT = [0.02, 0.08, 0.001, 0.15]
Q = [0.4, 0.3, 0.2, 0.1]
LOGS = [math.log(p / q) for p, q in zip(JOINT, Q, strict=True)]
EVIDENCE = math.log(sum(JOINT))
TRUE = [p / sum(JOINT) for p in JOINT]


def draws(count):
    """Every way to draw so many latents by q, with its probability."""
    for some in itertools.product(range(4), repeat=count):
        yield some, math.prod(Q[z] for z in some)


def expected_bound(count):
    return sum(chance * bound([LOGS[z] for z in some]) for some, chance in draws(count))


def kept_by(count):
    """The exact distribution of the latent that is kept of so many."""
    found = np.zeros(4)
    for some, chance in draws(count):
        for z, weight in zip(some, weights([LOGS[z] for z in some]), strict=True):
            found[z] += chance * weight
    return found


def apart(one, other):
    return 0.5 * np.abs(np.subtract(one, other)).sum()


def test_weights_add_up_to_one_whatever_the_logs():
    for logs in ([0.0], [1e4, 1e4 - 1], [-1e4, -1e5, NEVER], LOGS):
        assert sum(weights(logs)) == pytest.approx(1, abs=1e-12)
    assert weights([0.0, math.log(3)]) == pytest.approx([0.25, 0.75])
    with pytest.raises(ValueError, match="no sample has a weight"):
        weights([NEVER, NEVER])


def test_one_sample_has_the_weight_one_and_is_kept():
    assert weights([-123.4]) == [1.0]
    assert resampled([-123.4], 0.999999) == 0
    assert bound([-123.4]) == pytest.approx(-123.4)


def test_the_bound_is_the_log_of_the_mean_weight():
    assert bound([math.log(2), math.log(4)]) == pytest.approx(math.log(3))
    assert bound([math.log(2), NEVER]) == pytest.approx(0)
    assert bound([NEVER]) == NEVER


def test_the_bound_rises_with_the_samples_and_stays_below_the_evidence():
    found = [expected_bound(count) for count in (1, 2, 3, 4, 5, 6)]
    assert all(more > fewer + 1e-3 for fewer, more in itertools.pairwise(found))
    assert found[-1] < EVIDENCE
    direct = sum(q * log for q, log in zip(Q, LOGS, strict=True))
    assert found[0] == pytest.approx(direct)


def test_one_sample_returns_q_and_more_come_near_the_true_posterior():
    assert kept_by(1) == pytest.approx(Q)
    distances = [apart(kept_by(count), TRUE) for count in (1, 2, 4, 6)]
    assert all(later < before for before, later in itertools.pairwise(distances))
    chance = np.random.default_rng(0)
    kept = np.zeros(4)
    for _ in range(4000):
        some = chance.choice(4, 64, p=Q)
        kept[some[resampled([LOGS[z] for z in some], chance.random())]] += 1
    assert apart(kept / 4000, TRUE) < 0.04 < distances[0]


def test_pieces_joined_are_the_document_again():
    for unit in (1, 2, 8):
        assert "".join(cut(TEXT, Pieces(unit=unit))) == TEXT
    assert len(cut(TEXT, Pieces(unit=1))) == 4
    assert cut("1+2=3", Pieces(unit=1, ends="=")) == ["1+2=", "3"]
    assert cut("1+2=3=3", Pieces(unit=2, ends="=")) == ["1+2=3=", "3"]


def test_a_piece_comes_with_the_pieces_before_it():
    document = Document("d", TEXT, "web")
    found = list(pieces(document, Pieces(unit=1, prefix=2, given=1)))
    parts = cut(TEXT, Pieces(unit=1))
    assert [one.number for one in found] == [1, 2, 3]
    assert [one.text for one in found] == parts[1:]
    assert [one.prefix for one in found] == [parts[0], parts[0] + parts[1], parts[1] + parts[2]]


def test_the_two_formats_are_the_papers():
    piece = Piece(Document("d", "", "web"), 1, "c", "x")
    assert with_prior(piece, "z") == f"c{BEGIN}{PRIOR}z{END}x"
    assert with_posterior(piece, "z") == f"c{BEGIN}{END}x{BEGIN}{POSTERIOR}z{END}"


def stage(writer=None, corpus="web", **method):
    word = {"name": "bolt", **method}
    return {"synthesize": {"from": corpus, "method": word, "writer": writer or {"name": "rules"}}}


def test_written_latents_come_before_the_piece_in_half_of_the_documents(bench):
    texts = [f"{TEXT} This is text {n}. It is short." for n in range(120)]
    out, outcome = bench(stage(unit=2, posterior=0.5), web=bench.corpus(texts))
    made = documents_of(out)
    assert len(made) == 360
    share = sum(document.metadata["style"] == "posterior" for document in made) / len(made)
    assert share == pytest.approx(0.5, abs=0.08)
    for document in made:
        before = document.metadata["style"] == "prior"
        counts = [document.text.count(sign) for sign in SIGNS]
        assert counts == ([1, 1, 1, 0] if before else [2, 2, 0, 1])
        assert document.metadata["prompt"] == _prompts.digest("latent")
        assert document.metadata["writer"] == "rules"
    assert outcome.flops == 0


def test_an_endpoint_is_given_the_piece_with_what_came_before(bench, server):
    writer = {"name": "endpoint", "model": "m", "url": server.url}
    bench(stage(writer, unit=1, given=1), web=bench.corpus([TEXT]))
    asked = [body["messages"][1]["content"] for body in server.bodies]
    parts = [part.strip() for part in cut(TEXT, Pieces(unit=1))]
    assert len(asked) == 3
    assert any(f"Before:\n{parts[0]}\n\nPassage:\n{parts[1]}" in one for one in asked)


def test_steps_that_are_known_are_taken_by_the_rules(bench):
    method = {"name": "arithmetic", "digits": 2, "problems": 30}
    sums, _ = bench({"synthesize": {"method": method}})
    out, _ = bench(stage(corpus="sums", posterior=0.0, **CUT), {"from.0": sums})
    for document in documents_of(out):
        question, _, rest = document.text.partition("=")
        steps = DRAWN.fullmatch(rest.rpartition(END)[0] + END)[1]
        result = int(rest.rpartition(END)[2])
        assert result == sum(map(int, question.split("+")))
        digits = [int(line[3]) for line in steps.splitlines()]
        assert result % 10 == digits[0]


def test_documents_with_signs_of_latents_are_left_out_and_counted(bench):
    _, outcome = bench(stage(), web=bench.corpus([TEXT, f"A {BEGIN} here. {TEXT}"]))
    assert outcome.metrics["dropped/holds_signs"] == 1


class Mind:
    """A small model with weights as large as trained ones, in a folder with its tokenizer."""

    def __init__(self, folder, bench, signs=SIGNS, context=64, vocab=18):
        folder.mkdir()
        stream = Stream([Source("c", bench.corpus(SUMS))], Storage())
        word = TrainedCharacters(train="characters", vocab=vocab, tokens=tuple(signs))
        self.encoder = build(word, Makings(stream, Storage()))
        self.encoder.save(folder, context)
        shape = Architecture(layers=2, width=32, heads=4)
        self.model = Decoder(shape, vocab=vocab, context=context, seed=3)
        with torch.no_grad():
            for parameter in self.model.parameters():
                parameter.mul_(4.0 if parameter.ndim > 1 else 1.0)
            for sign in signs:
                # Latents come to an end now and then, and hold no other sign.
                number = int(self.encoder.each([sign])[0][0])
                scale = 1.0 if sign == END else 0.0
                self.model.lm_head.weight[number] *= scale
        save_model(self.model, folder, saved=Saved(cursor={}, eos=self.encoder.eos))
        self.folder = folder


@pytest.fixture
def mind(tmp_path, bench):
    return Mind(tmp_path / "mind", bench)


def log_of(model, ids, begin):
    """Log-probability of ids from `begin` on, by one plain pass."""
    tokens = torch.tensor([ids])
    with torch.no_grad():
        scores = model.logits(model(tokens).hidden_BTD)[0].double().log_softmax(-1)
    return sum(float(scores[at - 1, ids[at]]) for at in range(begin, len(ids)))


PIECE = Piece(Document("d", "", "web"), 1, "3+4=", "7")


def test_a_weight_is_the_joint_by_the_prior_over_what_the_latent_was_drawn_by(mind):
    thinker = Thinker(mind.model, mind.encoder, 1.0, 12)
    (found,) = thinker.think([PIECE], 32, [list(range(32))])
    begin, end, prior, posterior = (int(mind.encoder.each([sign])[0][0]) for sign in SIGNS)
    prefix, x = (ids.tolist() for ids in mind.encoder.each(["3+4=", "7"]))
    finished = [
        (z, log) for z, log in zip(found.latents, found.logs, strict=True)
        if log > NEVER and UNKNOWN not in z
    ]  # fmt: skip
    assert len(finished) > 5
    for latent, log in finished:
        z = mind.encoder.each([latent])[0].tolist()
        joint = [*prefix, begin, prior, *z, end, *x]
        drawn = [*prefix, begin, end, *x, begin, posterior, *z, end]
        p = log_of(mind.model, joint, len(prefix) + 2)
        q = log_of(mind.model, drawn, len(drawn) - len(z) - 1)
        assert log == pytest.approx(p - q, abs=1e-4)


def test_the_mean_weight_is_the_evidence_of_all_latents_and_the_bound_stays_below(mind):
    # Latents of at most one token: few enough to add up all of them.
    thinker = Thinker(mind.model, mind.encoder, 1.0, 2)
    begin, end, prior, posterior = (int(mind.encoder.each([sign])[0][0]) for sign in SIGNS)
    prefix, x = (ids.tolist() for ids in mind.encoder.each(["3+4=", "7"]))
    others = [n for n in range(18) if n not in {mind.encoder.eos, begin, end, prior, posterior}]
    latents = [[], *([n] for n in others)]
    texts = [[*prefix, begin, prior, *z, end, *x] for z in latents]
    evidence = math.log(sum(math.exp(log_of(mind.model, t, len(prefix) + 2)) for t in texts))
    samples = 4000
    (found,) = thinker.think([PIECE], samples, [list(range(samples))])
    ratios = np.exp(found.logs)
    error = ratios.std() / math.sqrt(samples)
    assert abs(ratios.mean() - math.exp(evidence)) < 5 * error
    means = []
    for size in (1, 8, 64):
        grouped = np.asarray(found.logs[: samples // size * size]).reshape(-1, size).tolist()
        means.append(np.mean([max(bound(logs), -40.0) for logs in grouped]))
    assert means[0] < means[1] < means[2] < evidence


def sampled(budget="30k tokens", **method):
    writer = {"name": "model", "from": "mind", "temperature": 1.0, "max_tokens": 12}
    return stage(writer, latents="sampled", budget=budget, **CUT, **method)


def test_an_e_step_keeps_one_latent_of_each_piece_within_its_budget(bench, mind):
    inputs = {"writer.from": mind.folder}
    out, outcome = bench(sampled(), inputs, web=bench.corpus(SUMS))
    made = documents_of(out)
    metrics = outcome.metrics
    assert metrics["elbo"] < 0
    assert 0 < metrics["unfinished_share"] < 1
    assert 1 <= metrics["effective_samples"] <= 4
    # Pieces are counted whole: one piece of 4 samples takes at most 4 x 2 x 40 tokens.
    assert 30_000 <= metrics["tokens_passed"] <= 30_000 + 320 * 4
    each = mind.model.architecture.flops_per_token(18, 64) / 3
    assert outcome.flops == pytest.approx(metrics["tokens_passed"] * each)
    # More than one turn over the sums, none of which is the other's copy.
    assert len(made) > len(SUMS)
    assert len({document.id for document in made}) == len(made)
    for document in made:
        assert document.text.replace(BEGIN, "").startswith(document.text[:4])
        assert document.metadata["latent"] == "sampled"
        assert document.metadata["writer"] == "model:mind"


def test_the_same_seed_samples_the_same_latents(bench, mind):
    web, inputs = bench.corpus(SUMS), {"writer.from": mind.folder}
    texts = []
    for seed in (1, 1, 2):
        out, _ = bench(sampled("6k tokens"), inputs, seed, web=web)
        texts.append([document.text for document in documents_of(out)])
    assert texts[0] == texts[1]
    assert texts[0] != texts[2]


def test_pieces_that_do_not_fit_are_counted_and_end_nothing(bench, tmp_path):
    small = Mind(tmp_path / "small", bench, context=16)
    texts = ["1111111111+2=1111111113", *SUMS[:5]]
    _, outcome = bench(sampled("2k tokens"), {"writer.from": small.folder}, web=bench.corpus(texts))
    assert outcome.metrics["dropped/too_long"] >= 1
    with pytest.raises(RunError, match="nothing was made of 1 documents"):
        bench(sampled(), {"writer.from": small.folder}, web=bench.corpus(texts[:1]))


def test_a_model_whose_tokenizer_lacks_the_signs_is_told(bench, tmp_path):
    plain = Mind(tmp_path / "plain", bench, signs=())
    with pytest.raises(RunError, match=r"takes '<\|latent\|>' for 10 tokens") as caught:
        bench(sampled(), {"writer.from": plain.folder}, web=bench.corpus(SUMS))
    assert "'<|posterior|>'" in caught.value.remedy


def test_signs_are_in_the_tokenizer_once_however_often_it_is_taken_over(mind):
    text = load_encoder(mind.folder).text
    added = [token["content"] for token in json.loads(text)["added_tokens"]]
    assert [added.count(sign) for sign in SIGNS] == [1, 1, 1, 1]
    ids = mind.encoder.each(["".join(SIGNS)])[0]
    assert len(set(ids.tolist())) == ids.size == 4
    assert load_model(mind.folder).vocab == 18
    assert EOS not in SIGNS


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (stage(latents="sampled", budget="1k tokens"), "by a model of this workflow"),
        (stage({"name": "model", "from": "m"}, latents="sampled"), "budget: 500k tokens"),
        (sampled("10 steps"), "budget: 500k tokens"),
        (stage(budget="1k tokens"), "these latents are written"),
        (
            stage({"name": "model", "from": "m", "temperature": 0}, latents="sampled",
                  budget="1k tokens"),
            "there is nothing to draw",
        ),
        (stage(unit=21), "less than or equal to 20"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused(changes, said):
    with pytest.raises(ValidationError, match=said):
        Stage.model_validate(changes)


def spec(root, *sets):
    return load([root / "specs" / "papers" / "32-bolt.yaml"], sets)


@pytest.fixture
def root(request):
    return request.config.rootpath


def test_every_m_step_begins_at_the_base_and_every_e_step_at_the_last_m_step(root):
    steps = {planned.step.name: planned.step for planned in plan(spec(root)).steps}
    for seed in ("", "-s18", "-s19"):
        base = steps[f"base{seed}"].fingerprint
        for name in ("m0", "m1", "m2"):
            assert steps[f"{name}{seed}"].one("from").fingerprint == base
        for e, m in (("e1", "m0"), ("e2", "m1")):
            writer = steps[f"{e}{seed}"].one("writer.from").fingerprint
            assert writer == steps[f"{m}{seed}"].fingerprint
            # What a model of one seed sampled is not what another seed's is trained on.
            read = steps[f"{e}-tokens{seed}"].one("from.0").fingerprint
            assert read == steps[f"{e}{seed}"].fingerprint


def test_an_m_step_that_goes_on_from_the_sampler_is_remarked_upon(root):
    assert not any("BoLT trains" in note.text for note in plan(spec(root)).notes)
    changed = plan(spec(root, "stages.m1.continue.from=m0"))
    (note,) = [note for note in changed.notes if "BoLT trains the base" in note.text]
    assert (note.step, note.level) == ("m1", "warning")


def test_the_plan_counts_what_sampling_costs(root):
    made = {planned.step.name: planned.cost for planned in plan(spec(root)).steps}
    each = made["m0"].flops / made["m0"].tokens / 3
    assert made["e1"].flops == pytest.approx(600_000 * each)
    assert made["m1"].total_flops == pytest.approx(
        sum(made[name].flops for name in ("base", "m0", "e1", "m1"))
    )


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("stages.tokens.prepare.tokenizer.tokens=[]", "these documents hold latents"),
        ("stages.tokens.prepare.tokenizer.tokens=['<|latent|>']", "not know '<|/latent|>' as one"),
        ("stages.tokens.prepare.tokenizer.tokens=[]", "the model 'm0' is to sample latents"),
        ("stages.tokens.prepare.tokenizer.tokens=[]", "the model 'm2' is to think first"),
    ],
)
def test_tokens_without_the_signs_are_found_before_anything_runs(root, change, said):
    with pytest.raises(SpecError) as caught:
        spec(root, change)
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("stages.warm-judged.evaluate.latents.ends=+", "measure bound of different pieces"),
        ("stages.warm-judged.evaluate.latents.documents=7", "measure bound of different pieces"),
        ("stages.warm-judged.evaluate.latents=null", "'warm-judged' measures no bound, since it"),
        ("stages.verdict.compare.metric=exact_match", "'m2-judged' measures no exact_match"),
    ],
)
def test_arms_that_were_not_asked_the_same_are_found_before_anything_runs(root, change, said):
    with pytest.raises(SpecError) as caught:
        spec(root, change)
    assert said in str(caught.value)
