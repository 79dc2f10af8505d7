"""One of several gloo processes that take DPO's gradient of one batch; run as a script.

Arguments: rank, workers, a file to meet at, a file for the gradients, model, data.
"""

import sys
from pathlib import Path

import torch
import torch.distributed as dist
from safetensors.torch import save_file
from torch import nn

from graftwork_train.continuing.dpo import Comparison
from graftwork_train.data.shards import TokenShards
from graftwork_train.loop.loader import Loader, Source
from graftwork_train.loop.preference import PairLoader
from graftwork_train.nn import load_model


def main(rank, workers, meeting, out, base, data):
    torch.set_num_threads(1)
    if workers > 1:
        dist.init_process_group(
            "gloo", init_method=f"file://{meeting}", rank=rank, world_size=workers
        )
    model = load_model(Path(base))
    objective = Comparison(0.5).objective(model)(model, 0.0, workers)
    if workers > 1:
        objective = nn.parallel.DistributedDataParallel(objective)
    with torch.no_grad():
        for number, parameter in enumerate(model.parameters()):
            parameter.add_(
                0.01 * torch.sin(torch.arange(parameter.numel()) + number).view_as(parameter)
            )
    loader = PairLoader.of(Loader(Source(TokenShards.open(data), 1), 6, document_mask=True))
    batch, whole = loader.read(0, rank, workers), loader.read(0)
    loss, _, _ = objective(batch.tokens_BT, batch.labels_BT, batch.documents_BT)
    (loss * workers / whole.predicted).backward()
    gradients = {name: p.grad.clone() for name, p in model.named_parameters()}
    save_file(gradients | {"loss": loss.detach() / whole.predicted}, f"{out}.{rank}")
    if workers > 1:
        dist.destroy_process_group()


if __name__ == "__main__":
    rank, workers, meeting, out, base, data = sys.argv[1:]
    main(int(rank), int(workers), meeting, out, base, data)
