"""CUDA graphs for training: the work of a micro-batch is captured once and replayed, instead of launching each kernel
from the host.

A phase of a 256² step consists of some two thousand kernels, many of which take less time than the host needs to launch
one. A graph replays the same kernels on the same memory with one launch. Its inputs are therefore copied to their
places at capture, and its results copied out; the random generator is registered with it, so that its draws follow the
generator's seed and equal those of the eager step.
"""

from __future__ import annotations

import gc
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor, nn

from frugan.errors import FruganError, fault
from frugan.training.state import TrainingConfig

Work = Callable[..., tuple[Tensor, ...]]
"""`work(phases, rng, rounds, *tensors)` adds to gradients of the networks' parameters and returns tensors."""


class Runner(Protocol):
    """Executes the work of a micro-batch, directly or by a graph."""

    def __call__(self, work: Work, *given: Any) -> tuple[Tensor, ...]:
        """`work(*given)`, whose last arguments are tensors."""
        ...

    def in_place(self, change: Callable[[Sequence[Tensor]], Tensor], tensors: Sequence[Tensor]) -> Tensor:
        """The result of `change(tensors)`, which modifies the tensors in place."""
        ...


class _Eagerly:
    """Executes work directly."""

    def __call__(self, work: Work, *given: Any) -> tuple[Tensor, ...]:
        return work(*given)

    def in_place(self, change: Callable[[Sequence[Tensor]], Tensor], tensors: Sequence[Tensor]) -> Tensor:
        return change(tensors)


eagerly = _Eagerly()


class Graph(Protocol):
    """A graph of kernels, such as `torch.cuda.CUDAGraph`."""

    def replay(self) -> None: ...


class Backend(Protocol):
    """Makes graphs."""

    def capture(self, rng: torch.Generator | None, work: Callable[[], Any]) -> tuple[Graph, Any]:
        """(a graph of `work`'s kernels, what `work` returned); its memory is the graph's and holds nothing before a replay."""
        ...


class Cuda:
    """CUDA graphs that share one memory pool, since only one of them is replayed at a time."""

    def __init__(self) -> None:
        self.pool = torch.cuda.graph_pool_handle()

    def capture(self, rng: torch.Generator | None, work: Callable[[], Any]) -> tuple[Graph, Any]:
        torch.cuda.synchronize()
        torch.cuda.empty_cache()  # memory that eager work has freed is not available to the graph's pool
        graph = torch.cuda.CUDAGraph()
        if rng is not None:
            graph.register_generator_state(rng)
        # "thread_local": threads that load data may allocate pinned memory during the capture
        with torch.cuda.graph(graph, pool=self.pool, capture_error_mode="thread_local"):
            made = work()
        return graph, made


class _Captured(NamedTuple):
    """A captured graph with the memory of its inputs, results and gradients."""

    graph: Graph
    inputs: list[Tensor]
    outputs: tuple[Tensor, ...]
    grads: list[Tensor | None]


class Graphs:
    """Runs each kind of work eagerly the first time, captures it the second time, and replays it from then on.

    Work is of the same kind where the function, the shapes and dtypes of its tensors and the trained parameters are the
    same. Gradients end up in `p.grad` as after the work itself: with one round in a step `p.grad` is the graph's own
    memory, else gradients are added up outside of it.
    """

    def __init__(self, parameters: Sequence[Tensor], backend: Backend) -> None:
        self.parameters, self.backend = parameters, backend
        self.seen: Counter[Any] = Counter()
        self.captured: dict[Any, _Captured] = {}
        self.changes: dict[Any, tuple[Graph, Tensor]] = {}

    def __call__(self, work: Work, *given: Any) -> tuple[Tensor, ...]:
        _, _, rounds, *tensors = given
        trained = [p for p in self.parameters if p.requires_grad]
        key = work, rounds, tuple((t.shape, t.dtype) for t in tensors), tuple(map(id, trained))
        self.seen[key] += 1
        if self.seen[key] == 1:  # chooses algorithms, compiles and allocates, none of which may be captured
            return work(*given)
        if key not in self.captured:
            self.captured[key] = self._capture(trained, work, *given)
        one = self.captured[key]
        for place, tensor in zip(one.inputs, tensors):
            place.copy_(tensor)
        one.graph.replay()
        self._give_gradients(trained, one.grads, alone=rounds == 1)
        return tuple(t.clone() for t in one.outputs)

    def _capture(
        self, trained: list[Tensor], work: Work, phases: Any, rng: Any, rounds: int, *tensors: Tensor
    ) -> _Captured:
        before = [p.grad for p in trained]
        for p in trained:
            p.grad = None
        gc.collect()  # an autograd graph of eager work, kept by a cycle, has nodes that belong to a stream outside of the capture
        inputs = [t.detach().clone() for t in tensors]
        try:
            graph, outputs = self.backend.capture(rng, lambda: work(phases, rng, rounds, *inputs))
        except RuntimeError as error:
            if isinstance(error, torch.OutOfMemoryError):
                raise
            why = fault(error, "it fails here")
            raise FruganError(
                f"a phase of training cannot be captured as a CUDA graph ({why}); --no-cuda-graphs trains without, more slowly"
            ) from error
        grads = [p.grad for p in trained]
        for p, grad in zip(trained, before):
            p.grad = grad
        return _Captured(graph, inputs, outputs, grads)

    @torch.no_grad()
    def _give_gradients(self, trained: list[Tensor], grads: list[Tensor | None], *, alone: bool) -> None:
        """Adds the graph's gradients to `p.grad`; `alone`: this is the step's only round, so that its memory can be `p.grad`."""
        pairs = [(p, grad) for p, grad in zip(trained, grads) if grad is not None]
        more = [(p.grad, grad) for p, grad in pairs if p.grad is not None]
        for p, grad in pairs:
            if p.grad is None:
                p.grad = grad if alone else grad.clone()
        if more:
            torch._foreach_add_(*zip(*more))  # pyright: ignore[reportPrivateImportUsage, reportArgumentType]

    def in_place(self, change: Callable[[Sequence[Tensor]], Tensor], tensors: Sequence[Tensor]) -> Tensor:
        key = change, tuple((t.data_ptr(), t.shape, t.stride()) for t in tensors)
        self.seen[key] += 1
        if (
            self.seen[key] < 3
        ):  # only gradients in a graph's memory, where they lie from the second step on, come so often
            return change(tensors)
        if key not in self.changes:
            self.changes[key] = self.backend.capture(None, lambda: change(tensors))
        graph, made = self.changes[key]
        graph.replay()
        return made.clone()


def runner_for(networks: Sequence[nn.Module], config: TrainingConfig) -> Runner:
    """CUDA graphs for networks on a CUDA device, unless the configuration excludes them; else direct execution."""
    parameters = [p for network in networks for p in network.parameters()]
    if parameters[0].device.type != "cuda" or not config.cuda_graphs:
        return eagerly
    return Graphs(parameters, Cuda())


@contextmanager
def search_algorithms(device: torch.device) -> Iterator[None]:
    """Context in which cuDNN times its algorithms for each new shape and keeps the fastest, as shapes do not change in training."""
    cudnn = torch.backends.cudnn
    if device.type != "cuda" or cudnn.benchmark:
        yield
        return
    cudnn.benchmark = True
    try:
        yield
    finally:
        cudnn.benchmark = False
