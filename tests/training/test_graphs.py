"""CUDA graphs of training, on the CPU by a backend that repeats the work with the memory that a graph would have."""

from __future__ import annotations

import gc
from collections.abc import Callable, Sequence
from typing import Any
from unittest.mock import Mock

import pytest
import torch
from torch import Tensor, nn

from frugan.errors import FruganError
from frugan.training.graphs import Graphs, eagerly


class Again:
    """A graph that does its work again on its own inputs and writes the results where the first ones lie."""

    def __init__(self, work: Callable[[], Any], made: tuple[Tensor, ...], parameters: list[nn.Parameter]) -> None:
        self.work, self.made, self.parameters = work, made, parameters
        self.grads = [p.grad for p in parameters]
        self.replays = 0

    def replay(self) -> None:
        self.replays += 1
        outside = [p.grad for p in self.parameters]
        for p in self.parameters:
            p.grad = None
        found = self.work()
        for place, value in zip(self.made, found if isinstance(found, tuple) else (found,)):
            place.detach().copy_(value.detach())
        for p, place, grad in zip(self.parameters, self.grads, outside):
            if place is not None and p.requires_grad:
                place.copy_(p.grad)  # pyright: ignore[reportArgumentType]
            p.grad = grad


class Simulated:
    """Captures by doing the work once on values that nobody may use: they are spoilt before a replay."""

    def __init__(self, parameters: list[nn.Parameter]) -> None:
        self.parameters, self.graphs = parameters, []

    def capture(self, rng: torch.Generator | None, work: Callable[[], Any]) -> tuple[Again, Any]:
        state = torch.empty(0) if rng is None else rng.get_state()
        made = work()
        if rng is not None:
            rng.set_state(state)
        outputs = made if isinstance(made, tuple) else (made,)
        graph = Again(work, outputs, self.parameters)
        for tensor in [*outputs, *(g for g in graph.grads if g is not None)]:
            tensor.detach().fill_(float("nan"))
        self.graphs.append(graph)
        return graph, made


def work(network: nn.Linear, rng: torch.Generator, rounds: int, x: Tensor, factor: Tensor) -> tuple[Tensor, ...]:
    y = network(x + torch.randn(x.shape, generator=rng)) * factor
    loss = y.square().mean()
    (loss / rounds).backward()
    return loss.detach(), y.detach().mean(0)


def made() -> tuple[nn.Linear, torch.Generator]:
    torch.manual_seed(0)
    network = nn.Linear(3, 2)
    network.bias.requires_grad_(False)
    return network, torch.Generator()


@pytest.mark.parametrize("rounds", [1, 3])
def test_replayed_steps_are_eager_ones(rounds: int) -> None:
    """Results and gradients of eight steps, with other inputs in each, whatever the number of micro-batches."""
    (network, rng), (twin, other) = made(), made()
    graphs = Graphs(list(network.parameters()), backend := Simulated(list(network.parameters())))
    optimizers = [torch.optim.Adam([n.weight], lr=0.1) for n in (network, twin)]
    results = []
    for step in range(8):
        for part in range(rounds):
            x, factor = torch.full((5, 3), step + part / 7), torch.tensor(1.0 + step)
            found = graphs(work, network, rng.manual_seed(10 * step + part), rounds, x, factor)
            expected = eagerly(work, twin, other.manual_seed(10 * step + part), rounds, x, factor)
            for a, b in zip(found, expected):
                assert torch.equal(a, b)
            results += found
        assert network.bias.grad is None
        assert torch.equal(network.weight.grad, twin.weight.grad)  # pyright: ignore[reportArgumentType]
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        assert torch.equal(network.weight, twin.weight)
    assert [g.replays for g in backend.graphs] == [8 * rounds - 1], "captured once, replayed from then on"
    assert len({float(r.sum()) for r in results}) == len(results), "results handed out before are not overwritten"


def test_no_autograd_graph_of_eager_work_outlives_it_into_the_capture() -> None:
    """Its AccumulateGrad nodes belong to the stream of eager work, which a capture may not touch."""
    network, rng = made()
    alive: list[bool] = []

    def node() -> Any:
        return network.weight.view_as(network.weight).grad_fn.next_functions[0][0]  # pyright: ignore[reportOptionalMemberAccess]

    class Watching(Simulated):
        def capture(self, rng: torch.Generator | None, work: Callable[[], Any]) -> tuple[Again, Any]:
            alive.append("kept" in node().metadata)
            return super().capture(rng, work)

    def in_a_cycle(network: nn.Linear, rng: torch.Generator, rounds: int, x: Tensor) -> tuple[Tensor, ...]:
        loss = network(x).square().mean()
        node().metadata["kept"] = True
        loss.backward()
        held: list[Any] = [loss]
        held.append(held)
        return (loss.detach(),)

    graphs = Graphs(list(network.parameters()), Watching(list(network.parameters())))
    gc.disable()
    try:
        graphs(in_a_cycle, network, rng, 1, torch.ones(5, 3))
        assert "kept" in node().metadata
        graphs(in_a_cycle, network, rng, 1, torch.ones(5, 3))
    finally:
        gc.enable()
    assert alive == [False]


@pytest.mark.parametrize("raised", [RuntimeError("no such stream"), torch.OutOfMemoryError("no such room")])
def test_a_capture_that_fails_says_how_to_train_without(raised: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    network, rng = made()
    graphs = Graphs(list(network.parameters()), backend := Simulated([]))
    monkeypatch.setattr(backend, "capture", Mock(side_effect=raised))
    given = network, rng, 1, torch.ones(5, 3), torch.tensor(1.0)
    graphs(work, *given)
    if isinstance(raised, torch.OutOfMemoryError):  # has advice of its own
        with pytest.raises(torch.OutOfMemoryError, match="no such room"):
            graphs(work, *given)
    else:
        with pytest.raises(FruganError, match=r"no such stream.*--no-cuda-graphs"):
            graphs(work, *given)


def test_other_shapes_and_other_trained_parameters_are_other_graphs() -> None:
    network, rng = made()
    graphs = Graphs(list(network.parameters()), backend := Simulated(list(network.parameters())))
    for _ in range(3):
        graphs(work, network, rng, 1, torch.zeros(5, 3), torch.tensor(1.0))
        graphs(work, network, rng, 1, torch.zeros(4, 3), torch.tensor(1.0))
    network.zero_grad(set_to_none=True)
    network.bias.requires_grad_(True)
    for _ in range(3):
        graphs(work, network, rng, 1, torch.zeros(5, 3), torch.tensor(1.0))
    assert len(backend.graphs) == 3
    assert network.bias.grad is not None


def test_changes_in_place_are_captured_where_memory_stays() -> None:
    def halve(tensors: Sequence[Tensor]) -> Tensor:
        for t in tensors:
            t.mul_(0.5)
        return torch.stack([t.sum() for t in tensors])

    kept = [torch.ones(3), torch.ones(2)]
    graphs = Graphs([], backend := Simulated([]))
    found = [graphs.in_place(halve, kept) for _ in range(2)]
    assert not backend.graphs
    before = [t.clone() for t in kept]
    with pytest.MonkeyPatch.context() as patch:  # a capture computes nothing
        patch.setattr(backend, "capture", lambda rng, change: (Again(change, (out := torch.empty(2),), []), out))
        found += [graphs.in_place(halve, kept) for _ in range(3)]
    assert torch.equal(kept[0], before[0] / 8)
    assert [f[0].item() for f in found] == [1.5, 0.75, 0.375, 0.1875, 0.09375]
    assert len(graphs.changes) == 1
    graphs.in_place(halve, [torch.ones(3), torch.ones(2)])
    assert len(graphs.changes) == 1
