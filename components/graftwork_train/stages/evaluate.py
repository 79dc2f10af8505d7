"""`evaluate`: loss and perplexity per domain on held-out text, and a few samples; or classes."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer

from graftwork.errors import RunError
from graftwork.spec.objective import Causal, MaskedLm
from graftwork.spec.stages import Evaluate
from graftwork_train.answers import Answered, exact_match
from graftwork_train.data.documents import Document
from graftwork_train.data.shards import TokenShards
from graftwork_train.data.stream import Stream, sources_of
from graftwork_train.data.tokenizer import load_encoder
from graftwork_train.generation import generate
from graftwork_train.job import SUMMARY, Job, Outcome
from graftwork_train.loop.held_out import HeldOut, held_out_loss, losses_of
from graftwork_train.loop.plan import CPU_TOKENS
from graftwork_train.loop.preference import preferred
from graftwork_train.loop.step import Place
from graftwork_train.nn import Decoder, load_model
from graftwork_train.objectives import HELD_OUT_SEED, pose
from graftwork_train.stages._telling import check_fits, tell_classes
from graftwork_train.stages.base import perform
from graftwork_train.state import State
from graftwork_train.thinking import Measured, measure
from graftwork_train.upcycling import similarity

# exp of more than this is no fp64 number; no model that learned anything comes near.
_LARGEST_LOSS = 700.0


@perform.register
def evaluate(body: Evaluate, job: Job) -> Outcome:
    """Measure the model of `from` on the held-out part of `data`; writes `summary.json`.

    Raises:
        RunError: model and data do not fit together, nothing is held out, or the model diverged.
    """
    shards = TokenShards.open(job.artifact("data").tokens)
    if body.classes:
        return tell_classes(body, job, shards, _device(job))
    model = load_model(job.artifact("from").path)
    check_fits(model, shards)
    place = Place(device=_device(job))
    model.to(place.device).eval()
    total = sum(
        min(body.sequences, shards.sequences("held_out", domain))
        for domain in shards.domains("held_out")
    )
    job.progress(0, total, "sequences")
    micro = max(1, CPU_TOKENS // shards.context)
    nats = losses_of(model)
    encoder = model.architecture.kind == "encoder"
    asked = MaskedLm(name="mlm") if encoder else Causal(name="causal")
    measured = held_out_loss(
        nats, shards, sequences=body.sequences, micro=micro, place=place,
        pose=pose(asked, shards, HELD_OUT_SEED),
    )  # fmt: skip
    if measured is None:
        raise RunError(
            "the tokens hold nothing out, so there is nothing to measure on",
            "Prepare the data with a larger 'held_out', for example 5%, or with more text.",
        )
    job.progress(total, total, "sequences", loss=measured.loss)
    _refuse_divergence(measured)
    samples = [] if encoder else _samples(body, model, shards, job.step.seed)
    answered = _answered(body, model, shards, job)
    thought = _thought(body, model, shards, job)
    _write_summary(job.out, measured, samples, _tables(body, answered, thought))
    likeness = {}
    if model.architecture.experts:
        state = State.open(job.artifact("from").path, own=True)
        likeness["expert_similarity"] = similarity(state, model.architecture)
    found = {} if answered is None else {"exact_match": answered.share}
    found |= {} if thought is None else {"bound": thought.each}
    pairs = _preferences(body, model, shards)
    return Outcome(metrics={**_metrics(measured, model), **likeness, **found, **pairs})


def _device(job: Job) -> torch.device:
    gpu = job.step.pool.gpus_per_worker > 0 and torch.cuda.is_available()
    torch.set_num_threads(job.step.pool.cpus_per_worker)
    return torch.device("cuda" if gpu else "cpu")


def _preferences(body: Evaluate, model: Decoder, shards: TokenShards) -> dict[str, float]:
    """How often, and by how much, chosen answers are likelier; nothing without pairs."""
    judged = None
    if shards.labels == "pairs":
        judged = preferred(model, shards, sequences=body.sequences)
    if judged is None:
        return {}
    return {"preference_accuracy": judged.accuracy, "preference_margin": judged.margin}


def _refuse_divergence(measured: HeldOut) -> None:
    for domain, loss in measured.domains.items():
        if not math.isfinite(loss) or loss > _LARGEST_LOSS:
            raise RunError(
                f"the model's loss on {domain} is {loss:g}",
                "Its training diverged; train it again with a lower learning rate.",
            )


def _samples(
    body: Evaluate, model: Decoder, shards: TokenShards, seed: int
) -> list[dict[str, str]]:
    if not body.sample_tokens:
        return []
    tokenizer = Tokenizer.from_file(str(shards.folder / "tokenizer.json"))
    tokenizer.encode_special_tokens = True
    samples = []
    for number, prompt in enumerate(body.prompts):
        # Each prompt has a generator of its own: adding one changes no other sample.
        generator = torch.Generator().manual_seed(seed * 1000 + number)
        written = generate(
            model,
            tokenizer.encode(prompt, add_special_tokens=False).ids,
            body.sample_tokens,
            eos=shards.eos,
            temperature=body.temperature,
            generator=generator,
        )
        samples.append({"prompt": prompt, "text": tokenizer.decode(written)})
    return samples


def _answered(body: Evaluate, model: Decoder, shards: TokenShards, job: Job) -> Answered | None:
    """The model's answers to the stage's questions, if it has any."""
    if body.exact_match is None:
        return None
    sources = sources_of(job, body.exact_match.from_, several=False, field="exact_match.from")
    with Stream(sources, job.step.storage) as stream:
        texts = _documents(stream)
        return exact_match(body.exact_match, model, load_encoder(shards.folder), texts)


def _thought(body: Evaluate, model: Decoder, shards: TokenShards, job: Job) -> Measured | None:
    """How likely pieces of documents are with latents before them, if that is asked."""
    if body.latents is None:
        return None
    sources = sources_of(job, body.latents.from_, several=False, field="latents.from")
    with Stream(sources, job.step.storage) as stream:
        encoder = load_encoder(shards.folder)
        return measure(body.latents, model, encoder, _documents(stream), job.step.seed)


def _tables(
    body: Evaluate, answered: Answered | None, thought: Measured | None
) -> list[dict[str, Any]]:
    found = [] if answered is None else [answered.table()]
    if thought is not None and body.latents is not None:
        found.append(thought.table(body.latents.samples))
    return found


def _documents(stream: Stream) -> Iterator[Document]:
    for batch in stream.batches("asking"):
        yield from batch.documents


def _write_summary(
    out: Path,
    measured: HeldOut,
    samples: list[dict[str, str]],
    further: list[dict[str, Any]],
) -> None:
    rows: list[list[Any]] = [
        [domain, loss, math.exp(loss)] for domain, loss in measured.domains.items()
    ]
    rows.append(["all", measured.loss, math.exp(measured.loss)])
    table = {
        "title": f"On {measured.tokens:,} held-out tokens",
        "columns": ["domain", "loss, nats per token", "perplexity"],
        "rows": rows,
    }
    summary = {"tables": [table, *further], "samples": samples}
    text = json.dumps(summary, indent=2, allow_nan=False, ensure_ascii=False)
    (out / SUMMARY).write_text(text + "\n", encoding="utf-8")


def _metrics(measured: HeldOut, model: Decoder) -> dict[str, float]:
    losses = measured.metrics()
    perplexities = {
        name.replace("loss", "perplexity", 1): math.exp(loss) for name, loss in losses.items()
    }
    return {**losses, **perplexities, "parameters": model.parameter_count()}
