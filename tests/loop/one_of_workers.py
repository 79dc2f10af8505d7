"""One of several gloo processes that train a mixture of experts for a few steps; run as a script.

Arguments: rank, workers, a file to meet at, a file for the weights, the architecture as JSON.
"""

import json
import sys

import torch
import torch.distributed as dist
from safetensors.torch import save_file
from torch import nn

from graftwork.spec.model import Architecture
from graftwork.spec.optimizer import AdamW
from graftwork_train.loop.objective import Objective
from graftwork_train.nn import Decoder
from graftwork_train.nn.loss import IGNORE
from graftwork_train.optimizers import build

SEQUENCES, LENGTH, VOCAB = 8, 16, 50


def batch(rank, workers, step):
    """The same batch for any number of workers, and this one's slice of it."""
    generator = torch.Generator().manual_seed(step)
    tokens = torch.randint(0, VOCAB, (SEQUENCES, LENGTH), generator=generator)
    labels = tokens.roll(-1, 1)
    labels[:3, 5:] = IGNORE
    mine = slice(rank * SEQUENCES // workers, (rank + 1) * SEQUENCES // workers)
    return tokens[mine], labels[mine], int((labels != IGNORE).sum())


def main(rank, workers, meeting, out, architecture):
    torch.set_num_threads(1)
    if workers > 1:
        dist.init_process_group(
            "gloo", init_method=f"file://{meeting}", rank=rank, world_size=workers
        )
    model = Decoder(Architecture.model_validate(architecture), VOCAB, LENGTH)
    experts = model.architecture.experts
    objective = Objective(model, workers=workers)
    if workers > 1:
        objective = nn.parallel.DistributedDataParallel(objective)
    parameters = {n: p for n, p in model.named_parameters() if p.requires_grad}
    optimizer = build(AdamW(name="adamw"), parameters)
    results = {}
    for step in range(4):
        tokens, labels, predicted = batch(rank, workers, step)
        objective.zero_grad()
        aim, nats, used = objective(tokens, labels, None)
        aim = aim * workers / predicted + experts.balance * used.balance + experts.z_loss * used.z
        aim.backward()
        optimizer.step(0.001, torch.ones(()), torch.zeros(()))
        model.balance_experts(used.load_LE, torch.zeros(()))
        results[f"loss.{step}"] = nats / predicted
        results[f"load.{step}"] = used.load_LE
    results |= {f"weight.{n}": p.detach() for n, p in model.named_parameters()}
    results |= {f"gradient.{n}": p.grad for n, p in parameters.items()}
    save_file({n: t.clone() for n, t in results.items()}, f"{out}.{rank}")
    if workers > 1:
        dist.destroy_process_group()


if __name__ == "__main__":
    rank, workers, meeting, out, architecture = sys.argv[1:]
    main(int(rank), int(workers), meeting, out, json.loads(architecture))
