"""`evaluate`: loss and perplexity per domain on held-out text, and a few samples; or classes."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer

from graftwork.errors import RunError
from graftwork.spec.objective import Causal, MaskedLm
from graftwork.spec.stages import Evaluate
from graftwork_train.data.shards import TokenShards
from graftwork_train.generation import generate
from graftwork_train.job import SUMMARY, Job, Outcome
from graftwork_train.loop.held_out import HeldOut, held_out_loss, losses_of
from graftwork_train.loop.plan import CPU_TOKENS
from graftwork_train.loop.step import Place
from graftwork_train.nn import Decoder, load_model
from graftwork_train.objectives import HELD_OUT_SEED, pose
from graftwork_train.stages._telling import check_fits, tell_classes
from graftwork_train.stages.base import perform
from graftwork_train.state import State
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
    _write_summary(job.out, measured, samples)
    likeness = {}
    if model.architecture.experts:
        state = State.open(job.artifact("from").path, own=True)
        likeness["expert_similarity"] = similarity(state, model.architecture)
    return Outcome(metrics={**_metrics(measured, model), **likeness})


def _device(job: Job) -> torch.device:
    gpu = job.step.pool.gpus_per_worker > 0 and torch.cuda.is_available()
    torch.set_num_threads(job.step.pool.cpus_per_worker)
    return torch.device("cuda" if gpu else "cpu")


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


def _write_summary(out: Path, measured: HeldOut, samples: list[dict[str, str]]) -> None:
    rows: list[list[Any]] = [
        [domain, loss, math.exp(loss)] for domain, loss in measured.domains.items()
    ]
    rows.append(["all", measured.loss, math.exp(measured.loss)])
    table = {
        "title": f"On {measured.tokens:,} held-out tokens",
        "columns": ["domain", "loss, nats per token", "perplexity"],
        "rows": rows,
    }
    summary = {"tables": [table], "samples": samples}
    text = json.dumps(summary, indent=2, allow_nan=False, ensure_ascii=False)
    (out / SUMMARY).write_text(text + "\n", encoding="utf-8")


def _metrics(measured: HeldOut, model: Decoder) -> dict[str, float]:
    losses = measured.metrics()
    perplexities = {
        name.replace("loss", "perplexity", 1): math.exp(loss) for name, loss in losses.items()
    }
    return {**losses, **perplexities, "parameters": model.parameter_count()}
