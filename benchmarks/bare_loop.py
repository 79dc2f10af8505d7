"""The reference for `benchmarks/train.py`: a Llama-style model and its training in one page.

Plain PyTorch, written to be fast on a CPU and on a GPU: grouped-query attention without repeating
keys, the fused AdamW, no loss looked at inside the loop, batches by one gather from a mapped file.
No documents, checkpoints, resuming, metrics, workers or errors.
"""

from __future__ import annotations

import contextlib
import math
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn


@dataclass
class Shape:
    vocab: int
    context: int
    layers: int
    width: int
    heads: int
    kv_heads: int
    ffn: int


class Block(nn.Module):
    def __init__(self, s: Shape):
        super().__init__()
        self.heads, self.kv, self.size = s.heads, s.kv_heads, s.width // s.heads
        self.norm1, self.norm2 = nn.RMSNorm(s.width, 1e-5), nn.RMSNorm(s.width, 1e-5)
        self.qkv = nn.Linear(s.width, (s.heads + 2 * s.kv_heads) * self.size, bias=False)
        self.out = nn.Linear(s.width, s.width, bias=False)
        self.gate_up = nn.Linear(s.width, 2 * s.ffn, bias=False)
        self.down = nn.Linear(s.ffn, s.width, bias=False)

    def forward(self, x, cos, sin):
        b, t, _ = x.shape
        qkv = self.qkv(self.norm1(x)).view(b, t, -1, self.size).transpose(1, 2)
        qk, v = qkv.split([self.heads + self.kv, self.kv], dim=1)
        first, second = qk.chunk(2, dim=-1)
        cos, sin = cos.to(qk.dtype), sin.to(qk.dtype)
        qk = torch.cat((first * cos - second * sin, second * cos + first * sin), dim=-1)
        q, k = qk.split([self.heads, self.kv], dim=1)
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)
        x = x + self.out(y.transpose(1, 2).reshape(b, t, -1))
        gate, up = self.gate_up(self.norm2(x)).chunk(2, dim=-1)
        return x + self.down(F.silu(gate) * up)


class Model(nn.Module):
    def __init__(self, s: Shape):
        super().__init__()
        self.embed = nn.Embedding(s.vocab, s.width)
        self.blocks = nn.ModuleList(Block(s) for _ in range(s.layers))
        self.norm, self.head = nn.RMSNorm(s.width, 1e-5), nn.Linear(s.width, s.vocab, bias=False)
        half = s.width // s.heads // 2
        angles = torch.outer(torch.arange(s.context), 1e4 ** (-torch.arange(half) / half))
        self.register_buffer("cos", angles.cos())
        self.register_buffer("sin", angles.sin())
        for name, p in self.named_parameters():
            if p.ndim > 1:
                small = name.endswith(("out.weight", "down.weight"))
                nn.init.normal_(p, std=0.02 / math.sqrt(2 * s.layers) if small else 0.02)

    def forward(self, tokens, labels):
        x = self.embed(tokens)
        for block in self.blocks:
            x = block(x, self.cos, self.sin)
        return F.cross_entropy(self.head(self.norm(x)).flatten(0, 1).float(), labels.flatten())


class Loop:
    """Steps over `tokens`, a flat array of ids, in random order."""

    def __init__(self, s: Shape, tokens: np.ndarray, batch: int, total: int, bf16: bool, device):
        torch.manual_seed(0)
        self.model = Model(s).to(device)
        matrices = [p for p in self.model.parameters() if p.ndim > 1]
        vectors = [p for p in self.model.parameters() if p.ndim == 1]
        groups = [{"params": matrices}, {"params": vectors, "weight_decay": 0.0}]
        self.optimizer = torch.optim.AdamW(
            groups, lr=1e-3, betas=(0.9, 0.95), weight_decay=0.1, fused=True
        )
        self.tokens, self.batch, self.context, self.total = tokens, batch, s.context, total
        self.order = np.random.default_rng(0).permutation(len(tokens) // s.context - 1)
        self.device, self.done = device, 0
        self.autocast = contextlib.nullcontext
        if bf16:
            self.autocast = lambda: torch.autocast(device.type, dtype=torch.bfloat16)

    def step(self) -> torch.Tensor:
        places = np.arange(self.done * self.batch, (self.done + 1) * self.batch) % len(self.order)
        columns = np.arange(self.context + 1)
        rows = self.tokens[self.order[places, None] * self.context + columns].astype(np.int64)
        rows = torch.from_numpy(rows).to(self.device)
        with self.autocast():
            loss = self.model(rows[:, :-1], rows[:, 1:].contiguous())
        loss.backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        for group in self.optimizer.param_groups:
            group["lr"] = 1e-3 * 0.5 * (1 + math.cos(math.pi * self.done / self.total))
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.done += 1
        return loss.detach()
