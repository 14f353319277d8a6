"""The fitting loop against closed forms, its early stop, and resuming after a kill."""

from __future__ import annotations

from itertools import islice
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from frugan.errors import FruganError
from frugan.latent.fitting import Schedule, Terms, fit


class Linear:
    """Images A x, targets b: distance ‖A x - b‖², penalty λ‖x‖²; the optimum solves (AᵀA + λ) x = Aᵀ b."""

    def __init__(self, b: Tensor, penalty: float = 0.0, shared: bool = False) -> None:
        rng = torch.Generator().manual_seed(3)
        self.A, self.b, self.penalty, self.count = torch.randn(6, 4, generator=rng), b, penalty, len(b)
        self.variables = {"x": torch.zeros(1 if shared else len(b), 4)}
        self.shared = frozenset(["x"] if shared else [])
        self.settled, self.drawn = 0, list[float]()

    def __call__(self, rows: Tensor, progress: float, rng: torch.Generator) -> Terms:
        self.drawn.append(float(torch.rand((), generator=rng)))
        x = self.variables["x"].expand(self.count, -1)[rows] if self.shared else self.variables["x"][rows]
        made = x @ self.A.T
        distance = (made - self.b[rows]).square().sum(1)
        return Terms(distance, self.penalty * x.square().sum(1), made[:, None, None])

    def settle(self) -> None:
        self.settled += 1

    def optimum(self) -> Tensor:
        return torch.linalg.solve(self.A.T @ self.A + self.penalty * torch.eye(4), self.A.T @ self.b.T).T


def targets(n: int = 3) -> Tensor:
    return torch.randn(n, 6, generator=torch.Generator().manual_seed(7))


@pytest.mark.parametrize("penalty", [0.0, 2.0])
def test_the_optimum_of_a_linear_problem(penalty: float) -> None:
    problem = Linear(targets(), penalty)
    reports = list(fit(problem, Schedule(800, 0.05)))
    assert [r.step for r in reports] == list(range(1, 801))
    assert problem.settled == 800
    assert torch.allclose(problem.variables["x"], problem.optimum(), atol=1e-2)
    residual = (problem.optimum() @ problem.A.T - problem.b).square().sum(1)
    assert torch.allclose(reports[-1].distance, residual, atol=1e-2)


def test_the_first_step_is_adam_s_along_the_gradient() -> None:
    problem = Linear(targets())
    next(fit(problem, Schedule(10, 0.1, ramp_up=0, ramp_down=0)))
    gradient = -2 * problem.b @ problem.A  # at x = 0
    assert torch.allclose(problem.variables["x"], -0.1 * gradient.sign(), atol=1e-5)


@settings(max_examples=30)
@given(
    steps=st.integers(1, 500), lr=st.floats(1e-4, 10), up=st.floats(0, 1), down=st.floats(0, 1), at=st.floats(0, 0.999)
)
def test_schedules_ramp(steps: int, lr: float, up: float, down: float, at: float) -> None:
    """0.5 - 0.5 cos(π min(1, (1 - t)/down)), times min(1, (step + 1)/(up·steps)): never 0, never above lr."""
    step = int(at * steps)
    rate = Schedule(steps, lr, up, down).rate(step)
    assert 0 < rate <= lr * (1 + 1e-12)
    if step >= up * steps and step <= (1 - down) * steps:
        assert rate == pytest.approx(lr)


@pytest.mark.parametrize("stop_at", [1, 10, 37])
def test_a_killed_fit_goes_on_bit_for_bit(tmp_path: Path, stop_at: int) -> None:
    whole = Linear(targets())
    report = list(fit(whole, Schedule(60, 0.1), seed=5))[-1]
    first = Linear(targets())
    for _ in islice(fit(first, Schedule(60, 0.1), seed=5, state=tmp_path / "s", state_every=5), stop_at + 1):
        pass
    again = Linear(targets())
    resumed = list(fit(again, Schedule(60, 0.1), seed=5, state=tmp_path / "s", state_every=5))
    assert resumed[0].step == stop_at // 5 * 5
    assert again.drawn == whole.drawn[stop_at // 5 * 5 :]
    assert torch.equal(again.variables["x"], whole.variables["x"])
    assert torch.equal(resumed[-1].distance, report.distance)
    finished = Linear(targets())
    (last,) = fit(finished, Schedule(60, 0.1), seed=5, state=tmp_path / "s")
    assert last.step == 60
    assert torch.equal(finished.variables["x"], whole.variables["x"])


@pytest.mark.parametrize("other", [{"seed": 6}, {"facts": "other"}, {"target": 0.1}, {}])
def test_the_state_of_another_fit_is_ignored(tmp_path: Path, other: dict) -> None:
    for _ in fit(Linear(targets()), Schedule(20, 0.1), state=tmp_path / "s"):
        pass
    if not other:
        (tmp_path / "s").write_bytes(b"damaged")
    assert next(iter(fit(Linear(targets()), Schedule(20, 0.1), state=tmp_path / "s", **other))).step == 0


def test_an_image_that_reached_the_target_stays_and_the_fit_ends_early() -> None:
    b = targets(2)
    reachable = Linear(b).optimum() @ Linear(b).A.T  # distance 0 is possible
    reachable[1] *= 3
    problem = Linear(reachable)
    kept = None
    for report in fit(problem, Schedule(2000, 0.1), target=0.05):
        if report.reached[0] and not report.reached[1]:
            kept = problem.variables["x"][0].detach().clone() if kept is None else kept
            assert torch.equal(problem.variables["x"][0], kept)
    assert report.reached.all()
    assert report.step < 2000
    assert kept is not None
    distance = (problem.variables["x"] @ problem.A.T - reachable).square().sum(1)
    assert (distance <= 0.05).all()


def test_images_do_not_depend_on_their_company() -> None:
    together, alone = Linear(targets(3)), Linear(targets(3)[1:2])
    for problem in (together, alone):
        for _ in fit(problem, Schedule(50, 0.1)):
            pass
    assert torch.allclose(together.variables["x"][1], alone.variables["x"][0], atol=1e-6)


def test_shared_variables_stop_only_when_all_are_near() -> None:
    b = targets(2)
    b[0] = 0  # near from the beginning
    reports = list(fit(Linear(b, shared=True), Schedule(50, 0.1), target=1e-3))
    assert len(reports) == 50
    assert not reports[-1].reached.any()


def test_what_is_not_finite_is_a_sentence() -> None:
    b = targets()
    b[0, 0] = float("inf")
    with pytest.raises(FruganError, match="smaller learning rate"):
        list(fit(Linear(b), Schedule(5)))
    with pytest.raises(FruganError, match="steps"):
        Schedule(0)
