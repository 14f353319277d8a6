"""Metrics that compare with held-out images: copying, membership inference, usefulness."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict
from functools import partial

import numpy as np

from frugan.errors import FruganError
from frugan.metrics.copying import authenticity, data_copying, memorisation, nearest_distances
from frugan.metrics.evidence import Evidence, Measurement
from frugan.metrics.likelihood import feature_likelihood
from frugan.metrics.membership import NOT_TRIED, Attack, membership_attack
from frugan.metrics.neighbours import nearest
from frugan.metrics.resampling import Estimate
from frugan.metrics.utility import utility


def measure_memorisation(e: Evidence) -> Measurement:
    nearer, copied = memorisation(e.nearest_train[0], e.nearest_unseen, unseen_groups=e.unseen_groups)
    total = Measurement()
    total.add("memorisation", nearer)
    total.add("copied", copied)
    return total


def measure_c_t(e: Evidence) -> Measurement:
    assert e.train is not None
    found = data_copying(e.generated.features, e.unseen, e.train.features, unseen_groups=e.unseen_groups)
    total = Measurement(details={"c_t": asdict(found)})
    total.add("c_t", Estimate.of(found.c_t, found.error))
    total.values["c_t_error"] = found.error
    total.add("c_t_one_cell", Estimate.of(found.z, 1.0))
    return total


def measure_authenticity(e: Evidence) -> Measurement:
    assert e.train is not None
    sets = e.generated.features, e.train.features, e.unseen
    found = authenticity(*sets, train_groups=e.train_groups, unseen_groups=e.unseen_groups)
    distances = nearest_distances(*sets, train_groups=e.train_groups)
    total = Measurement(details={"authenticity": asdict(found), "distances": asdict(distances)})
    total.add("authenticity", found.generated)
    total.add("authenticity_unseen", found.unseen)
    return total


def measure_fld(e: Evidence) -> Measurement:
    assert e.train is not None
    found = feature_likelihood(
        e.generated.features,
        e.train.features,
        e.unseen,
        train_groups=e.train_groups,
        unseen_groups=e.unseen_groups,
    )
    total = Measurement(details={"fld": asdict(found)})
    total.add("fld", found.fld)
    total.add("fld_gap", found.gap)
    total.add("fld_copying", found.copying)
    return total


def measure_membership(e: Evidence) -> Measurement:
    """The membership attacks that there are scores for; the one by the distance to the nearest sample is always possible."""
    assert e.train is not None
    total, found = Measurement(), dict[str, Attack]()
    for name, attack in _attacks(e).items():
        try:
            found[name] = attack()
        except FruganError as error:
            total.missing[f"membership by {name}"] = str(error)
            continue
        total.add(f"membership_{name}", found[name].auc)
        total.add(f"membership_{name}_tpr", found[name].tpr)
    if not found:
        raise FruganError("; ".join(total.missing.values()))
    if e.images is not None:
        total.missing |= {f"membership by {name}": why for name, why in e.images.untried.items()}
    total.values["membership"] = max(attack.auc.value for attack in found.values())
    total.details["membership"] = {name: asdict(attack) for name, attack in found.items()} | {"not_tried": [*NOT_TRIED]}
    return total


def _attacks(e: Evidence) -> Mapping[str, Callable[[], Attack]]:
    """The attacks by name, as functions; each takes the groups of its images into account."""
    assert e.train is not None
    train, images = e.train.features, e.images
    members = np.arange(len(train)) if e.members is None else e.members

    def owners(groups: np.ndarray | None, positions: np.ndarray) -> np.ndarray | None:
        return None if groups is None else groups[positions]

    def by_distance() -> Attack:
        own, others = (-nearest(x, e.generated.features)[0][:, 0] for x in (train[members], e.unseen))
        groups = owners(e.train_groups, members)
        return membership_attack(own, others, member_groups=groups, non_member_groups=e.unseen_groups)

    def by_score(name: str) -> Attack:
        assert images is not None
        found = images.scores(name)
        return membership_attack(
            found.members,
            found.non_members,
            member_groups=owners(e.train_groups, found.member_positions),
            non_member_groups=owners(e.real_groups, found.non_member_positions),
        )

    return {"distance": by_distance, **{name: partial(by_score, name) for name in (images.attacks if images else ())}}


def measure_utility(e: Evidence) -> Measurement:
    """The usefulness of samples for predicting each part of the labels, and each mask.

    The headline values are those of the first one that works.
    """
    assert e.images is not None
    total = Measurement(details={"utility": {}})
    tasks = list(e.images.tasks())
    if not tasks:
        raise FruganError(
            "usefulness is measured by labels or masks, which the generator and the real images must share"
        )
    for task in tasks:
        groups = None if e.real_groups is None else e.real_groups[task.test_positions]
        try:
            found = utility(task.kind, task.real, task.synthetic, task.test, test_groups=groups, device=e.images.device)
        except FruganError as error:
            total.missing[f"utility for {task.name}"] = str(error)
            continue
        total.details["utility"][task.name] = asdict(found)
        if not total.values:
            total.add("utility", found.difference)
            for arm in ("real", "synthetic", "both"):
                total.add(f"utility_{arm}", found.arms[arm])
    if not total.values:
        raise FruganError("; ".join(total.missing.values()))
    return total
