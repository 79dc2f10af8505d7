"""A model as one worker holds it: cut, connected, sharded, and called.

The model arrives with all its weights, the same on every worker, and leaves with a part of them;
what workers make together is what one alone would make, up to the order of sums.
"""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING

import torch
import torch.distributed as dist
from torch import Tensor, nn

from graftwork.spec.stages import Training
from graftwork_train.loop.objective import Objective
from graftwork_train.loop.parallel import expert as across_experts
from graftwork_train.loop.parallel import tensor as within_blocks
from graftwork_train.loop.parallel.hardware import check_device
from graftwork_train.loop.parallel.layout import AXES, Axis, Division, Layout
from graftwork_train.loop.parallel.recompute import recompute
from graftwork_train.loop.pieces import Piece, Shape, share
from graftwork_train.loop.place import Place
from graftwork_train.nn import Decoder
from graftwork_train.nn.hf import Tensors
from graftwork_train.nn.moe import MixtureOfExperts

if TYPE_CHECKING:
    from torch.distributed.device_mesh import DeviceMesh

_FSDP = "graftwork_train.loop.parallel.fsdp"
_FP8 = "graftwork_train.loop.parallel.fp8"


class Network:
    """A model among the others' parts.

    Args:
        model: With all weights; cut in place, and moved to the worker's device.
        word: The stage's parameters.
        place: This worker's.
        objective: Makes the objective, of the model, the z-loss and the number of workers.

    Raises:
        RunError: the worker's device does not do the stage's arithmetic.

    Attributes:
        model: It.
        layout: Of the workers.
        parameters: What this worker holds, by name; the optimizer's to update.
        objective: What is called with a micro-batch; its backward pass leaves the batch's
            gradient, a mean over the workers that share the batch.
    """

    def __init__(
        self,
        model: Decoder,
        word: Training,
        place: Place,
        objective: Callable[[Decoder, float, int], Objective] = Objective,
    ) -> None:
        self.model, self.layout = model, Layout.of(word.parallel, place.workers)
        self._place, self._word = place, word
        self._mesh = _mesh(self.layout, place.device) if self.layout.divided else None
        self._divisions = self._cut()
        self._connect()
        if word.precision == "fp8":
            check_device(word, place.device)
            # Imported where it is used: torchao is needed for nothing else.
            importlib.import_module(_FP8).convert(model)
        for block in model.model.layers:
            recompute(block, word.activation_checkpointing)
        if word.compile:
            for module in (*model.model.layers, model.model.norm):
                module.compile()
            if place.device.type == "cpu":
                for part in model.model.layers.modules():
                    if isinstance(part, MixtureOfExperts):
                        part.leave_out()
        self._bare = objective(model, word.z_loss, place.workers)
        self._bare.compiled = word.compile
        self.objective = self._wrap()
        self._sources = dict(model.named_parameters())
        self.parameters: dict[str, Tensor] = dict(self._sources)
        if self.layout.sharded:
            fsdp = importlib.import_module(_FSDP)
            self.parameters = {name: fsdp.local(p) for name, p in self._sources.items()}
        self._all = {*self._sources.values(), *self.parameters.values()}

    def _cut(self) -> dict[str, Division]:
        """Cut the parameters, and say how."""
        expert_cuts = (
            across_experts.expert_cuts(self.model) if self.layout.size("expert") > 1 else {}
        )
        tensor_cuts = (
            within_blocks.tensor_cuts(self.model) if self.layout.size("tensor") > 1 else {}
        )
        found: dict[str, Division] = {}
        for name, parameter in list(self.model.named_parameters()):
            cuts = tuple(cuts[name] for cuts in (expert_cuts, tensor_cuts) if name in cuts)
            rows: tuple[Axis, ...] = ("replica",) if name in expert_cuts else ("replica", "expert")
            rows = rows if self.layout.sharded and parameter.requires_grad else ()
            found[name] = Division(tuple(parameter.shape), cuts, rows)
            if cuts:
                part = Division(found[name].shape, cuts).part(
                    parameter.detach(), self.layout, self._place.rank
                )
                _replace(self.model, name, part)
        return found

    def _connect(self) -> None:
        if self._mesh is not None and self.layout.size("tensor") > 1:
            within_blocks.connect(self.model, self._mesh.get_group("tensor"))
        if self._mesh is not None and self.layout.size("expert") > 1:
            across_experts.connect(self.model, self._mesh.get_group("expert"))

    def _wrap(self) -> nn.Module:
        """The objective, so that its backward pass exchanges gradients."""
        if self.layout.sharded:
            named = dict(self.model.named_parameters())
            importlib.import_module(_FSDP).shard(
                self._bare,
                self.model,
                self._mesh,
                experts=[named[name] for name in self._experts()],
                low=self._word.precision != "fp32",
            )
            return self._bare.to(self._place.device)
        self._bare.to(self._place.device)
        if self.layout.size("replica", "expert") == 1:
            return self._bare
        parallel = nn.parallel.DistributedDataParallel
        # What is divided among the workers is synchronised apart.
        parallel._set_params_and_buffers_to_ignore_for_model(
            self._bare, [f"decoder.{name}" for name in self._experts()]
        )
        group = None
        if self._mesh is not None:
            group = self._mesh["replica", "expert"]._flatten("data").get_group()
        return parallel(
            self._bare,
            process_group=group,
            gradient_as_bucket_view=True,
            forward_sync_buffers=False,
        )

    def _experts(self) -> list[str]:
        """Parameters that are divided along `expert`."""
        return [
            name
            for name, division in self._divisions.items()
            if any(cut.axis == "expert" for cut in division.cuts)
        ]

    @contextlib.contextmanager
    def synchronised(self, *, last: bool) -> Iterator[None]:
        """Workers exchange gradients once, with the last micro-batch."""
        if self.layout.sharded:
            importlib.import_module(_FSDP).synchronise(self.objective, last=last)
            yield
        elif isinstance(self.objective, nn.parallel.DistributedDataParallel) and not last:
            with self.objective.no_sync():
                yield
        else:
            yield

    def clear(self) -> None:
        """Forget the gradients."""
        for parameter in self._all:
            parameter.grad = None

    def collect(self) -> None:
        """After the last backward pass: every parameter of ours gets its part of the gradient."""
        if self.layout.sharded:
            fsdp = importlib.import_module(_FSDP)
            for name, parameter in self._sources.items():
                if parameter.grad is not None:
                    self.parameters[name].grad = fsdp.local(parameter.grad)
        # FSDP has taken the mean of experts of which there are several copies.
        if not self.layout.sharded or self.layout.size("replica") == 1:
            self._average_experts()

    def _average_experts(self) -> None:
        """The mean, as of all other gradients; tokens of all have come to the experts already."""
        if self._mesh is None:
            return
        sharers = self.layout.size("replica", "expert")
        for name in self._experts():
            gradient = self.parameters[name].grad
            if gradient is not None:
                gradient /= sharers
                if self.layout.size("replica") > 1:
                    dist.all_reduce(gradient, group=self._mesh.get_group("replica"))

    def norm(self) -> Tensor:
        """Norm of the whole gradient, the same on every worker."""
        if not self.layout.divided:
            given = [p.grad for p in self.parameters.values() if p.grad is not None]
            return torch.nn.utils.get_total_norm(given)
        by_copies: dict[int, list[Tensor]] = {}
        for name, parameter in self.parameters.items():
            if parameter.grad is not None and parameter.grad.numel():
                copies = self._divisions[name].copies(self.layout)
                by_copies.setdefault(copies, []).append(parameter.grad)
        total = torch.zeros((), device=self._place.device)
        for copies, gradients in by_copies.items():
            norms = torch.stack(torch._foreach_norm(gradients))
            total = total + norms.square().sum() / copies
        dist.all_reduce(total)
        return total.sqrt()

    @torch.no_grad()
    def measure(self, tokens_BT: Tensor, labels_BT: Tensor, documents_BT: Tensor | None) -> Tensor:
        """Sum of the losses in nats; in fp32, except that FSDP gathers weights in bf16 if it may.

        All workers must call it as often, with sequences of their own or with the same.
        """
        low = self.layout.sharded and self._word.precision != "fp32"
        with torch.autocast(self._place.device.type, dtype=torch.bfloat16, enabled=low):
            nats: Tensor = self._bare(tokens_BT, labels_BT, documents_BT)[1]
        if self.layout.sharded:
            importlib.import_module(_FSDP).let_go(self._bare)
        return nats

    def part(self, name: str, tensor: Tensor) -> Tensor:
        """This worker's part of a tensor like the parameter `name`."""
        return self._divisions[name].part(tensor, self.layout, self._place.rank)

    def parts(self, tensors: Mapping[str, Tensor]) -> Tensors:
        """This worker's parts of whole tensors, named after parameters, as an optimizer's are."""
        found: Tensors = {}
        for name, whole in tensors.items():
            owner = self._owner(name)
            like = owner is not None and tuple(whole.shape) == self._divisions[owner].shape
            found[name] = self.part(owner, whole) if owner and like else whole
        return found

    def pieces(self, tensors: Mapping[str, Tensor]) -> list[Piece]:
        """What this worker holds of all tensors, as boxes of them.

        Args:
            tensors: Parts, or whole tensors, by names `<anything>.<parameter>` or others. What is
                not as large as this worker's part of that parameter is whole.
        """
        return [
            piece
            for name, tensor in tensors.items()
            for piece in self._division(name, tensor).pieces(
                name, tensor, self.layout, self._place.rank
            )
        ]

    def shapes(self, tensors: Mapping[str, Tensor]) -> dict[str, Shape]:
        """Of the whole tensors, by name, the same on every worker; arguments as of `pieces`."""
        return {name: self._division(name, tensor).shape for name, tensor in tensors.items()}

    def share(self, tensors: Mapping[str, Tensor]) -> list[Piece]:
        """What this worker writes of them, so that all workers' pieces are everything once."""
        rank = self._place.rank
        by_holders: dict[tuple[int, int], list[Piece]] = {}
        for name, tensor in tensors.items():
            division = self._division(name, tensor)
            holders = division.copy(self.layout, rank), division.copies(self.layout)
            found = division.pieces(name, tensor, self.layout, rank)
            by_holders.setdefault(holders, []).extend(found)
        return [
            piece
            for (copy, copies), found in by_holders.items()
            for piece in share(found, copy, copies)
        ]

    def _division(self, name: str, tensor: Tensor) -> Division:
        """How a tensor is divided: as the parameter that its name ends with."""
        owner = self._owner(name)
        if owner is not None and tensor.shape == self.parameters[owner].shape:
            return self._divisions[owner]
        return Division(tuple(tensor.shape))

    def _owner(self, name: str) -> str | None:
        while name and name not in self._divisions:
            name = name.partition(".")[2]
        return name or None

    def gather(self, tensors: Mapping[str, Tensor]) -> Tensors:
        """The whole tensors on the first worker's host, one after the other; none elsewhere."""
        rank = self._place.rank
        if not self.layout.divided:
            return {name: t.detach().cpu() for name, t in tensors.items()} if rank == 0 else {}
        found: Tensors = {}
        for name, part in tensors.items():
            division = self._division(name, part)
            own = division.pieces(name, part.detach(), self.layout, rank)
            if rank == 0:
                found[name] = self._receive(division, own, part.dtype)
            elif division.copy(self.layout, rank) == 0:
                for piece in own:
                    dist.send(piece.values.cpu().contiguous(), 0)
        return found

    def _receive(self, division: Division, own: list[Piece], dtype: torch.dtype) -> Tensor:
        target = torch.empty(division.shape, dtype=dtype)
        for piece in own:
            _view(target, piece.offset, tuple(piece.values.shape)).copy_(piece.values)
        for rank in range(1, self.layout.workers):
            if division.copy(self.layout, rank) == 0:
                for box in division.boxes(self.layout, rank):
                    buffer = torch.empty(box.size, dtype=dtype)
                    dist.recv(buffer, rank)
                    _view(target, box.offset, box.size).copy_(buffer)
        return target


def _mesh(layout: Layout, device: torch.device) -> DeviceMesh:
    if device.type == "cuda":
        # Else the mesh would choose one by the worker's rank.
        torch.cuda.set_device(device)
    # Imported where it is used: one worker, or DDP, needs none of it.
    mesh = importlib.import_module("torch.distributed.device_mesh")
    found: DeviceMesh = mesh.init_device_mesh(device.type, layout.sizes, mesh_dim_names=AXES)
    return found


def _replace(model: nn.Module, name: str, part: Tensor) -> None:
    path, _, last = name.rpartition(".")
    old = model.get_parameter(name)
    setattr(model.get_submodule(path), last, nn.Parameter(part, requires_grad=old.requires_grad))


def _view(target: Tensor, offset: Shape, size: Shape) -> Tensor:
    for dim, (begin, length) in enumerate(zip(offset, size, strict=True)):
        target = target.narrow(dim, begin, length)
    return target
