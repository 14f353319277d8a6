"""Controllers of the augmentation's probability: the sums they keep, the steps they take, what they refuse."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from frugan.augment import CONTROLLERS, Controller, ControllerConfig, logit_sums
from frugan.errors import FruganError

SURE, UNSURE = torch.ones(64), torch.cat([torch.ones(40), -torch.ones(24)])  # r_t = 1 and 0.25


def play(controller: Controller, logits: list[torch.Tensor]) -> list[float]:
    """One minibatch after another; p after each."""
    ps = []
    for real in logits:
        controller.merge(logit_sums(real=real, generated=-SURE))
        controller.update(len(real))
        ps.append(float(controller.p))
    return ps


def test_the_papers_step_at_batch_64() -> None:
    """Batch 64: every 4 minibatches p moves by 256 / 500 000 = 0.000512."""
    ps = play(Controller(ControllerConfig()), [SURE] * 8 + [UNSURE] * 12)
    steps = [0, 1, 2, 1, 0, 0]  # windows of 4; never below zero
    expected = [s * 0.000512 for s in steps for _ in range(4)][1 : len(ps) + 1]
    assert ps == pytest.approx(expected, abs=1e-9)


def test_a_window_averages_over_its_images() -> None:
    """Three minibatches of r_t = 0.25 and a larger one of 1: mean of the images, not of the minibatches."""
    controller = Controller(ControllerConfig())
    play(controller, [UNSURE, UNSURE, UNSURE, torch.ones(192)])
    assert float(controller.r_t) == pytest.approx(0.625)
    assert float(controller.p) == pytest.approx((3 * 64 + 192) / 500_000)


def test_heuristics() -> None:
    generator = torch.Generator().manual_seed(0)
    real, generated, held_out = (torch.randn(8, generator=generator) + shift for shift in (1.5, -1.5, 0.0))
    controller = Controller(ControllerConfig(interval=2))
    for half in (slice(0, 4), slice(4, 8)):
        controller.merge(logit_sums(real=real[half], generated=generated[half]))
        controller.merge(logit_sums(held_out=held_out[half]))
        controller.update(4)
    expected = (real.mean() - held_out.mean()) / (real.mean() - generated.mean())
    assert float(controller.r_v) == pytest.approx(float(expected), rel=1e-5)
    assert float(controller.r_t) == pytest.approx(float(real.sign().mean()))


def test_heuristics_are_nan_without_their_inputs() -> None:
    controller = Controller(ControllerConfig(interval=1))
    assert controller.r_t.isnan()
    assert controller.r_v.isnan()
    controller.merge(logit_sums(generated=SURE))
    controller.update(64)
    assert controller.r_t.isnan()
    assert float(controller.p) == 0
    controller.merge(logit_sums(real=SURE, generated=-SURE))
    controller.update(64)
    assert float(controller.r_t) == 1
    assert controller.r_v.isnan()
    controller.update(64)
    assert controller.r_t.isnan()  # of the last window alone


@pytest.mark.parametrize("generated", [2.0, 1.0, 1 - 1e-6])
@pytest.mark.parametrize("held_out, r_v", [(0.5, 3), (1.5, -3)])
def test_the_denominator_of_r_v_is_floored_and_its_value_bounded(generated: float, held_out: float, r_v: float) -> None:
    controller = Controller(ControllerConfig(kind="rv", interval=1, p_init=0.5))
    controller.merge(logit_sums(real=SURE, generated=SURE * generated, held_out=SURE * held_out))
    controller.update(64)
    assert float(controller.r_v) == r_v
    assert (float(controller.p) > 0.5) == (r_v > 0)


@pytest.mark.parametrize("held_out, direction", [(-0.5, 1), (0.0, 0), (0.5, -1)])
def test_rv_steers_towards_one_half(held_out: float, direction: int) -> None:
    controller = Controller(ControllerConfig(kind="rv", p_init=0.3))
    for _ in range(4):
        controller.merge(logit_sums(real=SURE, generated=-SURE, held_out=SURE * held_out))
        controller.update(64)
    assert float(controller.r_v) == pytest.approx((1 - held_out) / 2)
    assert float(controller.p) == pytest.approx(0.3 + direction * 0.000512, abs=1e-7)


def test_default_targets() -> None:
    """Karras et al. 2020: 0.6 for r_t, 0.5 for r_v."""
    assert [Controller(ControllerConfig(kind)).target for kind in ("rt", "rv")] == [0.6, 0.5]


def test_no_move_at_the_target() -> None:
    controller = Controller(ControllerConfig(target=0.25, p_init=0.5, interval=1))
    assert play(controller, [UNSURE]) == [0.5]


@pytest.mark.parametrize("p_max", [0.85, 0.0])
def test_cap(p_max: float) -> None:
    controller = Controller(ControllerConfig(interval=1, speed_kimg=0.256, p_max=p_max))
    assert not controller.at_cap
    ps = play(controller, [SURE] * 6)
    expected = [min(0.25 * k, p_max or 9) for k in range(1, 7)]
    assert ps == pytest.approx(expected)
    assert bool(controller.at_cap) == (p_max > 0)
    play(controller, [-SURE])
    assert not controller.at_cap


@pytest.mark.parametrize("kind, p_init", [("fixed", 0.95), ("none", 0.0)])
def test_these_do_not_move_but_watch(kind: str, p_init: float) -> None:
    controller = Controller(ControllerConfig(kind=kind, p_init=p_init, interval=1))  # pyright: ignore[reportArgumentType]
    assert play(controller, [SURE, -SURE]) == pytest.approx([p_init] * 2)
    assert float(controller.r_t) == -1
    assert not controller.at_cap


@pytest.mark.parametrize("kind", CONTROLLERS)
def test_state_round_trips_bit_for_bit(kind: str) -> None:
    generator = torch.Generator().manual_seed(0)
    batches = [torch.randn(3, 32, generator=generator) + 0.8 for _ in range(11)]

    def feed(controller: Controller, some: list[torch.Tensor]) -> None:
        for real, generated, held_out in some:
            controller.merge(logit_sums(real=real, generated=generated, held_out=held_out))
            controller.update(32)

    config = ControllerConfig(kind=kind)  # pyright: ignore[reportArgumentType]
    whole, first, second = (Controller(config) for _ in range(3))
    feed(whole, batches)
    feed(first, batches[:6])  # in the middle of a window
    saved = first.state_dict()
    assert all(isinstance(value, torch.Tensor) for value in saved.values())
    feed(first, batches[6:])  # what was saved is a copy
    second.load_state_dict(saved)
    feed(second, batches[6:])
    for name, value in whole.state_dict().items():
        assert torch.equal(second.state_dict()[name].nan_to_num(), value.nan_to_num())
    with pytest.raises(FruganError, match="sums"):
        second.load_state_dict({"p": saved["p"]})


def test_earlier_p_stays_what_it_was() -> None:
    controller = Controller(ControllerConfig(interval=1))
    before = controller.p
    play(controller, [SURE])
    assert float(before) == 0


def test_half_precision_logits_that_need_grad() -> None:
    controller = Controller(ControllerConfig(interval=1))
    logits = torch.full((4096,), 30.0, dtype=torch.float16, requires_grad=True)
    controller.merge(logit_sums(real=logits, generated=-logits, held_out=logits))
    controller.update(4096)
    assert float(controller.r_t) == 1
    assert float(controller.r_v) == 0
    assert not controller.p.requires_grad


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_broken_logit_does_not_poison_p(bad: float) -> None:
    controller = Controller(ControllerConfig(interval=1, p_init=0.5))
    play(controller, [torch.tensor([bad, 1.0]), SURE])
    assert controller.p.isfinite()


@pytest.mark.parametrize(
    "options, says",
    [
        ({"kind": "magic"}, "magic"),
        ({"target": 1.0}, "target of r_t is 1.0"),
        ({"kind": "rv", "target": -0.1}, "target of r_v is -0.1"),
        ({"kind": "fixed", "target": 0.6}, "no target"),
        ({"interval": 0}, "interval 0"),
        ({"speed_kimg": 0}, "speed_kimg 0"),
        ({"speed_kimg": float("nan")}, "speed_kimg nan"),
        ({"p_max": 1.5}, "p_max 1.5"),
        ({"p_max": -0.1}, "p_max -0.1"),
        ({"p_init": 0.9}, "p_init is 0.9.*0.85"),
        ({"p_init": -0.1}, "p_init -0.1"),
        ({"kind": "fixed", "p_init": 1.1}, "p_init 1.1"),
        ({"kind": "none", "p_init": 0.1}, "p_init is 0.1.*fixed"),
    ],
)
def test_bad_options_are_refused(options: dict, says: str) -> None:
    with pytest.raises(FruganError, match=says):
        ControllerConfig(**options)


def test_where_p_may_begin() -> None:
    """Below the cap of a p that moves; anywhere without a cap, or where p stays."""
    for config in (ControllerConfig(p_max=0), ControllerConfig("rv", p_max=0), ControllerConfig("fixed")):
        assert float(Controller(replace(config, p_init=1.0)).p) == 1


def test_a_saved_state_stays_as_it_was() -> None:
    first, second = Controller(ControllerConfig()), Controller(ControllerConfig())
    saved = first.state_dict()
    second.load_state_dict(saved)
    second.merge(torch.ones(3, 3))
    first.merge(torch.ones(3, 3))
    assert not saved["sums"].any()


def test_schedule_is_half_a_cosine() -> None:
    config = ControllerConfig(kind="scheduled", speed_kimg=1, p_max=0.3, interval=1)
    controller = Controller(config)
    seen = []
    for _ in range(15):
        controller.update(100)
        seen.append(float(controller.p))
    expected = [0.3 * (1 - math.cos(math.pi * min(k / 10, 1))) / 2 for k in range(1, 16)]
    assert seen == pytest.approx(expected, abs=1e-6)


def test_only_real_images_count_among_pseudo_real_ones() -> None:
    controller = Controller(ControllerConfig(interval=1))
    logits = torch.tensor([1.0, -1.0, 3.0, -7.0])
    controller.merge(logit_sums(real=logits, generated=-logits.abs(), among=torch.tensor([1, 0, 1, 0])))
    controller.update(4)
    assert float(controller.r_t) == 1.0
