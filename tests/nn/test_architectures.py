"""Every word of an architecture: its arithmetic, its masks, two steps of training, its export."""

import importlib.util
from pathlib import Path

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from graftwork.errors import RunError
from graftwork.spec.family import family
from graftwork.spec.optimizer import AdamW
from graftwork_train.loop.objective import Objective
from graftwork_train.nn import Decoder, load_model, save_model
from graftwork_train.nn.loss import IGNORE
from graftwork_train.optimizers import build as build_optimizer

spec = importlib.util.spec_from_file_location("shapes", Path(__file__).with_name("shapes.py"))
shapes = importlib.util.module_from_spec(spec)
spec.loader.exec_module(shapes)
VOCAB, CONTEXT, build = shapes.VOCAB, shapes.CONTEXT, shapes.build


def ids(seed=0, sequences=1):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, VOCAB, (sequences, CONTEXT), generator=generator)


def spread(model):
    """Weights large enough that what is masked would show."""
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.normal_(0.0, 0.2, generator=generator)
    return model


def logits(model, tokens, documents=None):
    with torch.no_grad():
        return model.logits(model(tokens, documents).hidden_BTD)


@pytest.mark.parametrize("name", shapes.WORDS)
def test_the_model_has_the_parameters_that_arithmetic_says(name):
    model = Decoder(build(name), VOCAB, CONTEXT)
    assert model.parameter_count() == build(name).parameters(VOCAB)


@pytest.mark.parametrize("name", shapes.WORDS)
def test_active_parameters_are_all_but_the_experts_that_a_token_misses(name):
    architecture = build(name)
    missed = 0
    if architecture.experts:
        block = Decoder(architecture, VOCAB, CONTEXT).model.layers[0].mlp
        each = (block.first().numel() + block.down.numel()) // architecture.experts.count
        missed = architecture.layers * (architecture.experts.count - architecture.experts.top_k)
        missed *= each
    assert architecture.active_parameters(VOCAB) == architecture.parameters(VOCAB) - missed


@pytest.mark.parametrize("name", ["llama", "qwen2", "relu2-alibi", "bert"])
def test_flops_are_those_that_torch_counts(name):
    architecture = build(name)
    model = Decoder(architecture, VOCAB, CONTEXT)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        hidden = model(ids()).hidden_BTD
        model.logits(hidden)
    forward = architecture.flops_per_token(VOCAB, CONTEXT) / 3 * CONTEXT
    # Its counter takes causal attention for full attention, and the CPU's kernel for none.
    size = architecture.layers * architecture.heads * architecture.head_size * CONTEXT**2
    seen = 2 if architecture.kind == "decoder" else 4
    assert counter.get_total_flops() in (forward - seen * size, forward - seen * size + 4 * size)


@pytest.mark.parametrize("name", shapes.INDEPENDENT)
def test_a_document_is_read_as_if_it_stood_alone(name):
    model = spread(Decoder(build(name), VOCAB, CONTEXT))
    documents = torch.tensor([[0] * 5 + [1] * 7 + [2] * 4])
    together = logits(model, ids(), documents)
    for start, end in ((0, 5), (5, 12), (12, 16)):
        alone = logits(model, ids()[:, start:end])
        torch.testing.assert_close(together[:, start:end], alone, atol=2e-5, rtol=0)


@pytest.mark.parametrize("name", shapes.INDEPENDENT)
def test_a_later_token_changes_nothing_before_it(name):
    model = spread(Decoder(build(name), VOCAB, CONTEXT))
    changed = ids().clone()
    changed[0, 9] = (changed[0, 9] + 1) % VOCAB
    before, after = logits(model, ids()), logits(model, changed)
    torch.testing.assert_close(before[:, :9], after[:, :9], atol=1e-6, rtol=0)
    assert not torch.allclose(before[:, 9], after[:, 9], atol=1e-3)


@pytest.mark.parametrize("name", ["bert", "pre-norm-encoder"])
def test_an_encoder_looks_ahead_but_not_into_another_document(name):
    model = spread(Decoder(build(name), VOCAB, CONTEXT))
    documents = torch.tensor([[0] * 10 + [1] * 6])
    changed = ids().clone()
    changed[0, 9] = (changed[0, 9] + 1) % VOCAB
    before, after = logits(model, ids(), documents), logits(model, changed, documents)
    assert not torch.allclose(before[:, 0], after[:, 0], atol=1e-4)
    torch.testing.assert_close(before[:, 10:], after[:, 10:], atol=1e-6, rtol=0)


@pytest.mark.parametrize("name", [name for name in shapes.DECODERS if name != "no-positions"])
def test_the_order_of_earlier_tokens_counts_but_for_attention_alone(name):
    model = spread(Decoder(build(name), VOCAB, CONTEXT))
    swapped = ids()[:, [1, 0, *range(2, CONTEXT)]]
    assert not torch.allclose(logits(model, ids())[:, -1], logits(model, swapped)[:, -1], atol=1e-4)


def batch(architecture):
    tokens = ids(sequences=4)
    documents = torch.zeros((4, CONTEXT), dtype=torch.int32)
    documents[2:, 7:] = 1
    labels = tokens.roll(-1, 1)
    if architecture.kind == "encoder":
        # The objective of masked tokens: every fifth is hidden, and asked for.
        hidden = torch.arange(CONTEXT) % 5 == 0
        labels = tokens.masked_fill(~hidden, IGNORE)
        tokens = tokens.masked_fill(hidden, 0)
    return tokens, labels, documents


class Trainer:
    """The objective and the optimizer of the engine, without all that is around them there."""

    def __init__(self, architecture, precision="fp32"):
        self.model = Decoder(architecture, VOCAB, CONTEXT)
        self.objective = Objective(self.model, 1e-4)
        self.bf16 = precision == "bf16"
        parameters = {n: p for n, p in self.model.named_parameters() if p.requires_grad}
        self.optimizer = build_optimizer(AdamW(name="adamw"), parameters)

    def step(self):
        """One step; gives the loss a token and how experts were used."""
        architecture = self.model.architecture
        tokens, labels, documents = batch(architecture)
        self.model.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=self.bf16):
            aim, nats, used = self.objective(tokens, labels, documents)
        count = (labels != IGNORE).sum()
        aim = aim / count
        if used is not None:
            aim = aim + architecture.experts.balance * used.balance
            aim = aim + architecture.experts.z_loss * used.z
        aim.backward()
        self.optimizer.step(0.01, torch.ones(()), torch.zeros(()))
        if used is not None:
            self.model.balance_experts(used.load_LE, torch.zeros(()))
        return nats.item() / count.item(), used


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("name", shapes.WORDS)
def test_every_architecture_trains_two_steps_and_is_exported(name, precision, tmp_path):
    architecture = build(name)
    trainer = Trainer(architecture, precision)
    before = {n: p.detach().clone() for n, p in trainer.model.named_parameters()}
    losses = [trainer.step()[0] for _ in range(2)]
    assert losses[1] < losses[0]
    still = [n for n, p in trainer.model.named_parameters() if torch.equal(p, before[n])]
    # What balances experts goes up and down by one step, and may be back where it began.
    assert [n for n in still if not n.endswith("mlp.bias")] == []
    save_model(trainer.model, tmp_path)
    assert (tmp_path / "config.json").is_file() == (family(architecture) is not None)
    loaded = load_model(tmp_path)
    assert loaded.architecture == architecture
    assert torch.equal(logits(loaded, ids()), logits(trainer.model, ids()))


def test_biases_that_balance_experts_move_by_their_rate_and_not_by_gradient():
    trainer = Trainer(build("shared-biased"))
    _, used = trainer.step()
    bias = trainer.model.get_parameter("model.layers.1.mlp.bias")
    assert bias.grad is None
    torch.testing.assert_close(bias.detach(), 0.01 * (0.25 - used.load_LE[1]).sign())


def test_a_step_that_is_to_be_passed_over_moves_no_bias():
    model = Decoder(build("shared-biased"), VOCAB, CONTEXT)
    load = torch.tensor([[1.0, 0.0, 0.0, 0.0]] * 2)
    model.balance_experts(load, torch.ones(()))
    assert not model.get_parameter("model.layers.0.mlp.bias").any()
    model.balance_experts(load, torch.zeros(()))
    assert model.get_parameter("model.layers.0.mlp.bias")[0].item() == pytest.approx(-0.01)


def test_dropped_assignments_are_counted_in_what_the_objective_gives():
    _, used = Trainer(build("capacity", experts={"count": 4, "capacity": 0.25})).step()
    assert used.dropped.item() >= 0.5
    _, used = Trainer(build("mixtral")).step()
    assert used.dropped.item() == 0.0


def test_a_context_beyond_the_table_of_positions_is_refused():
    with pytest.raises(RunError, match="25 tokens are longer than the model's 24 positions"):
        Decoder(build("learned"), VOCAB, 25)


@pytest.mark.parametrize("name", ["llama", "gelu-layer-norm", "bert", "shared-biased"])
def test_norms_begin_at_one_and_biases_at_zero(name):
    for parameter_name, parameter in Decoder(build(name), VOCAB, CONTEXT).named_parameters():
        if parameter.ndim == 1:
            assert torch.all(parameter == (0.0 if parameter_name.endswith("bias") else 1.0))
