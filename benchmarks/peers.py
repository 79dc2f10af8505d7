"""Other people's training loops for `benchmarks/train.py`, which says when they go on.

All train a Llama of the same shape on the same tokens, with the batch, precision, clipping and
optimizer of the bare loop (AdamW, fused where they let one choose it), and log every tenth step,
as ours does. They are measured where they are installed: `pip install accelerate litgpt`. Where one
is not, the results say so.

- Hugging Face's Trainer, as `Trainer.train` runs it.
- litgpt, as `litgpt pretrain` runs it, from `litgpt.pretrain.fit` on.
- transformers' Mixtral in a bare step, as nobody's loop adds to it.
"""

from __future__ import annotations

import importlib.util
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from parts.turns import Hold
from torch import nn

CONTEXT, LOG_EVERY, ENDLESS = 512, 10, 10**6


def absent(*modules: str) -> str | None:
    """Why a peer that needs these modules cannot be measured, if it cannot."""
    missing = [module for module in modules if importlib.util.find_spec(module) is None]
    if not missing:
        return None
    return f"{' and '.join(missing)} cannot be imported; pip install accelerate litgpt"


def _llama(shape: dict, vocab: int) -> nn.Module:
    from transformers import LlamaConfig, LlamaForCausalLM  # noqa: PLC0415 - optional

    config = LlamaConfig(
        vocab_size=vocab, hidden_size=shape["width"], intermediate_size=shape["ffn"],
        num_hidden_layers=shape["layers"], num_attention_heads=shape["heads"],
        num_key_value_heads=shape["kv_heads"], max_position_embeddings=CONTEXT,
        rms_norm_eps=1e-5, use_cache=False,
    )  # fmt: skip
    return LlamaForCausalLM(config)


class Rows(torch.utils.data.Dataset):
    """Sequences of a flat array; `extra` tokens more than the context."""

    def __init__(self, ids: np.ndarray, extra: int) -> None:
        self._ids, self._length = ids, CONTEXT + extra

    def __len__(self) -> int:
        return len(self._ids) // CONTEXT - 1

    def row(self, index: int) -> torch.Tensor:
        start = index * CONTEXT
        return torch.from_numpy(self._ids[start : start + self._length].astype(np.int64))

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        row = self.row(index)
        return {"input_ids": row, "labels": row}


class TensorRows(Rows):
    """The same as bare tensors."""

    def __getitem__(self, index: int) -> torch.Tensor:
        return self.row(index)


def hf_trainer(
    hold: Hold, *, shape: dict, vocab: int, ids: np.ndarray, batch: int, precision: str,
    compiled: bool,
) -> None:  # fmt: skip
    """Hugging Face's Trainer; held by a callback at the end of each step."""
    from transformers import Trainer, TrainerCallback, TrainingArguments  # noqa: PLC0415 - optional

    class Held(TrainerCallback):
        def on_step_end(self, *_: object, **__: object) -> None:
            hold()

    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            folder, use_cpu=True, bf16=precision == "bf16", torch_compile=compiled,
            per_device_train_batch_size=batch, max_steps=ENDLESS, learning_rate=1e-3,
            lr_scheduler_type="cosine", optim="adamw_torch_fused", adam_beta2=0.95,
            weight_decay=0.1, max_grad_norm=1.0, logging_steps=LOG_EVERY, save_strategy="no",
            report_to=[], disable_tqdm=True, dataloader_pin_memory=False,
        )  # fmt: skip
        Trainer(
            _llama(shape, vocab), arguments, train_dataset=Rows(ids, 0), callbacks=[Held()]
        ).train()


class _Gated:
    """Batches for a loop that is held whenever it asks for another one."""

    def __init__(self, batches: torch.utils.data.DataLoader, hold: Hold) -> None:
        self._batches, self._hold, self._begun = batches, hold, False

    def __len__(self) -> int:
        return len(self._batches)

    def __iter__(self) -> Iterator[torch.Tensor]:
        for batch in self._batches:
            if self._begun:
                self._hold()
            self._begun = True
            yield batch


def litgpt(
    hold: Hold, *, shape: dict, vocab: int, ids: np.ndarray, batch: int, precision: str,
    compiled: bool,
) -> None:  # fmt: skip
    """litgpt's pretraining; held when it asks for its next batch."""
    from lightning import Fabric  # noqa: PLC0415 - optional
    from litgpt.args import EvalArgs, TrainArgs  # noqa: PLC0415 - optional
    from litgpt.config import Config  # noqa: PLC0415 - optional
    from litgpt.model import GPT  # noqa: PLC0415 - optional
    from litgpt.pretrain import fit, initialize_weights  # noqa: PLC0415 - optional

    config = Config(
        block_size=CONTEXT, n_layer=shape["layers"], n_embd=shape["width"],
        n_head=shape["heads"], n_query_groups=shape["kv_heads"], vocab_size=vocab,
        padded_vocab_size=vocab, intermediate_size=shape["ffn"], rotary_percentage=1.0,
        parallel_residual=False, bias=False, norm_class_name="RMSNorm",
        mlp_class_name="LLaMAMLP",
    )  # fmt: skip
    fabric = Fabric(
        accelerator="cpu", devices=1, precision="bf16-mixed" if precision == "bf16" else 32
    )
    model = GPT(config)
    initialize_weights(fabric, model, config.n_layer, config.n_embd)
    model = fabric.setup(torch.compile(model) if compiled else model)
    optimizer = fabric.setup_optimizers(
        torch.optim.AdamW(
            model.parameters(), lr=1e-3, betas=(0.9, 0.95), weight_decay=0.1, fused=True
        )
    )
    loader = torch.utils.data.DataLoader(TensorRows(ids, 1), batch, shuffle=True)
    state = {"model": model, "optimizer": optimizer, "iter_num": 0, "step_count": 0}
    train = TrainArgs(
        save_interval=None, log_interval=LOG_EVERY, global_batch_size=batch,
        micro_batch_size=batch, lr_warmup_steps=0, max_tokens=ENDLESS * batch * CONTEXT,
        max_norm=1.0, min_lr=1e-4,
    )  # fmt: skip
    fit(
        fabric, 1, state, _Gated(loader, hold), loader, Path(), None, train,
        EvalArgs(interval=ENDLESS, max_iters=1),
    )  # fmt: skip


def mixtral(
    *, shape: dict, vocab: int, ids: np.ndarray, batch: int, kind: str
) -> Callable[[], torch.Tensor]:
    """A bare step in bf16 on transformers' Mixtral, by one of its implementations of experts."""
    from transformers import MixtralConfig, MixtralForCausalLM  # noqa: PLC0415 - optional

    config = MixtralConfig(
        vocab_size=vocab, hidden_size=shape["width"], intermediate_size=shape["experts"]["width"],
        num_hidden_layers=shape["layers"], num_attention_heads=shape["heads"],
        num_key_value_heads=shape["kv_heads"], num_local_experts=shape["experts"]["count"],
        num_experts_per_tok=shape["experts"]["top_k"], max_position_embeddings=CONTEXT,
        use_cache=False,
    )  # fmt: skip
    model = MixtralForCausalLM._from_config(config, experts_implementation=kind).train()
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=1e-3, betas=(0.9, 0.95), weight_decay=0.1, fused=True
    )
    rows, done = Rows(ids, 0), 0

    def step() -> torch.Tensor:
        nonlocal done
        tokens = torch.stack([rows.row((done + n) % len(rows)) for n in range(batch)])
        done += batch
        with torch.autocast("cpu", dtype=torch.bfloat16):
            loss = model(input_ids=tokens, labels=tokens).loss
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        return loss.detach()

    return step
