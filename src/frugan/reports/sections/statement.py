"""Statement of a report: sentences that follow from its numbers by rules whose thresholds stand beside them.

A rule never says more than its number: "supported" is that one comparison found no difference, or an advantage; "against"
that it found one; "open" that nothing was measured, or too little. No rule concludes that images are private, safe or fit for a use.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Literal, NamedTuple

from frugan.reports import blocks
from frugan.reports.store import Findings

Verdict = Literal["supported", "against", "open"]
Numbers = Mapping[str, Any]
Judgement = Iterator[tuple[Verdict, str]]

C_T_DEVIATIONS = 3.0
COPIED = 0.01
MEMBERSHIP_P = 0.01
MEMBERSHIP_WEAK = 0.6
"""AUC up to which an attack that did not succeed is said to tell next to nothing."""
FEW_UNSEEN = 100
SHARPNESS = 0.1
"""How far from 0.5 the chance may lie that a sample is sharper than a real image."""
UNBIASED = ("kid", "kid_full")
WORSE_ABOVE = ("kid", "kid_full", "fid")
WORSE_BELOW = ("precision", "recall", "density", "coverage")
_MEANS = {
    "precision": "look like real ones",
    "density": "lie among real ones",
    "recall": "of the real variety",
    "coverage": "of the real variety",
}

LIMITS = (
    "The numbers hold for this checkpoint, these images, these sample counts and this ψ, and for nothing else made from them.",
    "Feature networks see what they were trained to see: differences that matter in a special field can escape all of them.",
    "Measures of copying find copies that are near in features or pixels; a face, a lesion or a text that recurs in other "
    "surroundings can escape them. Look at the nearest pairs.",
    "Attacks that succeed prove a leak; attacks that fail prove nothing about others. No number here is a guarantee of "
    "privacy such as differential privacy gives, and none is a legal opinion.",
    "Held-out images are a control only if they were drawn as the training images were, with all images of a person, film or slide "
    "on one side.",
)  # fmt: skip


class Rule(NamedTuple):
    """`threshold` in words, for the table of rules; `judge` takes the numbers of its section."""

    name: str
    section: str
    threshold: str
    judge: Callable[[Numbers], Judgement]


def _span(interval: Sequence[float] | None, digits: str = ".3g") -> str:
    """A 95 % interval as text that follows its number; empty without one."""
    return f" ({interval[0]:{digits}} to {interval[1]:{digits}})" if interval else ""


def _distance(n: Numbers) -> Judgement:
    for network, measured in n["networks"].items():
        name = next((k for k in UNBIASED if k in measured["values"]), None)
        if name is None or name not in measured.get("floor", {}):
            continue
        value, high = measured["values"][name], measured["floor"][name][2]
        span = measured.get("intervals", {}).get(name)
        low = span[0] if span else value
        said = f"{name} {value:.3g}{_span(span)}, by {network}; halves of the real images lie up to {high:.3g} apart"
        if low > high:
            yield "against", f"The samples differ from real images as a set ({said})."
        elif value <= high:
            yield "supported", f"By this distance the samples could not be told from real images as a set ({said})."
        else:
            yield "open", f"Whether the samples differ from real images as a set is within the noise ({said})."


def _variety(n: Numbers) -> Judgement:
    for network, measured in n["networks"].items():
        for name in WORSE_BELOW:
            if name not in measured["values"] or name not in measured.get("floor", {}):
                continue
            value, floor = measured["values"][name], measured["floor"][name][1]
            span = measured.get("intervals", {}).get(name)
            if (span[1] if span else value) < floor:
                less = "Fewer samples " if name in ("precision", "density") else "Less "
                said = f"{name} {value:.3g}{_span(span)}, floor from {floor:.3g} on, by {network}"
                yield "against", f"{less}{_MEANS[name]} than halves of the real images show of each other ({said})."


def _one_network(n: Numbers) -> Judgement:
    if len(n["networks"]) < 2:
        yield "open", "Quality was measured in one feature network only; another one may see it otherwise."


def _trained_reference(n: Numbers) -> Judgement:
    if n.get("against") == "train":
        yield (
            "open",
            "Samples were compared with the training images themselves, so a generator that copies looks good here.",
        )


def _truncated(n: Numbers) -> Judgement:
    if (psi := n.get("truncation", 1.0)) != 1:
        yield "open", f"All numbers are those of ψ = {psi:g}; at other truncations quality, variety and copying differ."


def _is_off(n: Numbers) -> bool:
    """Whether samples lie so much farther from training images than unseen images do that copies could hide among them."""
    test = n.get("c_t")
    return test is not None and test["c_t"] > C_T_DEVIATIONS * test["error"]


def _copying_test(n: Numbers) -> Judgement:
    if (found := n.get("c_t")) is None:
        return
    c_t, noise = found["c_t"], C_T_DEVIATIONS * found["error"]
    said = f"C_T {c_t:.3g}, noise up to ±{noise:.2g}"
    if c_t < -noise:
        yield "against", f"Samples lie nearer to training images than unseen images do: the generator copies ({said})."
    elif _is_off(n):
        yield (
            "open",
            f"Samples lie farther from training images than unseen images do ({said}): that is underfitting, behind which copies can hide.",
        )
    else:
        yield "supported", f"On the whole, samples lie no nearer to training images than unseen images do ({said})."


def _copied(n: Numbers) -> Judgement:
    copied = (n.get("distances") or {}).get("copied")
    if copied is None:
        return
    said = f"{copied['value']:.2%} of the samples are nearer to a training image than 99 % of unseen images, 95 % interval {copied['low']:.2%} to {copied['high']:.2%}"
    if copied["low"] > COPIED:
        yield "against", f"Some samples are suspiciously near to training images: {said}; chance gives 1 %."
    elif max(copied["high"], 3 / n.get("samples", math.inf)) > 2 * COPIED:  # of none among n, up to 3 / n
        yield "open", f"Too few samples to exclude that one in fifty is a near copy: {said}."
    elif _is_off(n):
        yield "open", f"Near copies are rare, but so are samples near any real image: {said}."
    else:
        yield "supported", f"Near copies are no more frequent than chance gives: {said}."


def _authentic(n: Numbers) -> Judgement:
    if (found := n.get("authenticity")) is None:
        return
    ours, control = found["generated"], found["unseen"]
    ours_said, control_said = (f"{e['value']:.1%}{_span((e['low'], e['high']), '.1%')}" for e in (ours, control))
    said = f"authenticity {ours_said}, of unseen images {control_said}"
    if ours["high"] < control["low"]:
        yield "against", f"Fewer samples than unseen images keep their distance from training images ({said})."
    elif ours["low"] > control["high"]:
        yield "open", f"Samples lie farther from training images than unseen images do ({said}), which hides copies."
    else:
        yield "supported", f"Samples keep their distance from training images as unseen images do ({said})."


def _likelihood(n: Numbers) -> Judgement:
    if (found := n.get("fld")) is None:
        return
    copying = found["copying"]
    said = f"FLD gap less that of exchanged sets {copying['value']:.3g}, {copying['low']:.3g} to {copying['high']:.3g}; 0 without"
    if copying["high"] < 0:
        yield "against", f"The samples make training images likelier than unseen ones ({said}): a sign of memorising."
    elif _is_off(n):
        yield "open", f"The samples are too far from real images to say whether they memorise ({said})."
    else:
        yield "supported", f"The samples make training images no likelier than unseen ones ({said})."


def _few_unseen(n: Numbers) -> Judgement:
    if 0 < (count := n.get("unseen_count", 0)) < FEW_UNSEEN:
        yield "open", f"Only {count} unseen images stand as the control: rare copies cannot be seen with so few."


def _divided_groups(n: Numbers) -> Judgement:
    if count := n.get("unseen_left_out", 0):
        yield (
            "open",
            f"{count} unseen images share a group with training images; they are no control, and were left out of it.",
        )


def _near_duplicates(n: Numbers) -> Judgement:
    if count := n.get("near_duplicates", {}).get("held_out", 0):
        yield (
            "open",
            f"{count} held-out images are near-duplicates of training images: beside them, copies look less like copies.",
        )


def _copies_in_pixels(n: Numbers) -> Judgement:
    if (found := n.get("copies_in_pixels")) is None:
        return
    ours, control = found["samples"], found["unseen"]
    ours_said, control_said = (f"{e['value']:.2%}{_span((e['low'], e['high']), '.2%')}" for e in (ours, control))
    said = f"{ours_said} of the samples, {control_said} of unseen images"
    no_more = "Samples are near-duplicates of training images in pixels no more often than unseen images are"
    if ours["low"] > control["high"]:
        more = no_more.replace("no more", "more")
        yield "against", f"{more}: the generator copies ({said})."
    elif _is_off(n):
        yield "open", f"{no_more}, but they are far from any real image ({said})."
    else:
        yield "supported", f"{no_more} ({said})."


def _membership(n: Numbers) -> Judgement:
    for name, attack in n["attacks"].items():
        auc, by = attack["auc"], ATTACKS.get(name, name)
        said = f"AUC {auc['value']:.3f}, {auc['low']:.3f} to {auc['high']:.3f}; chance 0.5"
        if attack["p"] < MEMBERSHIP_P and auc["low"] > 0.5:
            advice = " Do not publish the discriminator." if name == "discriminator" else ""
            yield (
                "against",
                f"Which images were trained on can be told, better than by chance, by {by} ({said}).{advice}",
            )
        elif auc["high"] > MEMBERSHIP_WEAK:
            yield "open", f"Whether {by} tells which images were trained on is within the noise ({said})."
        elif auc["high"] < 0.5:
            yield (
                "open",
                f"By {by}, unseen images look more trained on than training images do ({said}): they differ in something else, "
                "behind which a leak can hide.",
            )
        else:
            yield "supported", f"The attack by {by} told next to nothing ({said}); stronger ones were not tried."


ATTACKS = {
    "discriminator": "the output of the discriminator",
    "distance": "the distance to the nearest sample",
    "reconstruction": "how well the generator reconstructs an image",
}


def _utility(n: Numbers) -> Judgement:
    for name, task in n["tasks"].items():
        difference = task["difference"]
        said = f"{task['score']} on real test images: difference {difference['value']:+.3g}, {difference['low']:+.3g} to {difference['high']:+.3g}"
        if difference["high"] < 0:
            yield "against", f"For {name}, training on samples is worse than on as many real images ({said})."
        elif difference["low"] > 0:
            yield "supported", f"For {name}, training on samples was better than on as many real images ({said})."
        else:
            yield (
                "open",
                f"For {name}, no difference was shown between training on samples and on as many real images ({said}).",
            )


def _statistics(n: Numbers) -> Judgement:
    for name, found in n["statistics"].items():
        ks = found["ks"]
        said = f"means {found['real_mean']:.4g} real, {found['generated_mean']:.4g} generated, KS distance {ks['value']:.3g}{_span((ks['low'], ks['high']))}"
        if found["p"] < MEMBERSHIP_P:
            yield "against", f"The statistic {name} is distributed otherwise in samples ({said})."
        else:
            yield "supported", f"No difference was found in the statistic {name} ({said})."


def _leaks(n: Numbers) -> Judgement:
    leaks = n.get("leaks", {})
    if "missing" in leaks:
        yield "open", f"Leaks of augmentations were not measured: {leaks['missing']}."
        return
    for leak in leaks.values():
        if leak["leaks"]:
            yield "against", f"An augmentation shows in the samples: {leak['sentence']}."
    unknown = [leak["about"] for leak in leaks.values() if not leak["answerable"]]
    if unknown:
        yield "open", f"Of these augmentations it cannot be told whether they leak: {', '.join(unknown)}."
    if leaks and not unknown and not any(leak["leaks"] for leak in leaks.values()):
        yield "supported", "None of the augmentations that were asked about shows in the samples."


def _spectrum(n: Numbers) -> Judgement:
    if found := n.get("spectrum"):
        said = f"up to {found['largest_difference_db']:.2g} dB, halves of real images up to {found['floor_db']:.2g} dB"
        if found["largest_difference_db"] > found["floor_db"]:
            yield "against", f"The power spectrum of the samples differs from that of real images ({said})."
        else:
            yield "supported", f"The power spectrum could not be told from that of real images ({said})."


def _values(n: Numbers) -> Judgement:
    channels = n.get("values", {}).get("channels", {})
    if off := [name for name, c in channels.items() if c["distance"] > c["floor"]]:
        yield "against", f"Values are distributed otherwise than in real images: {', '.join(off)}."
    elif channels:
        yield "supported", "The histograms of values could not be told from those of real images."


def _sharp(n: Numbers) -> Judgement:
    if found := n.get("sharpness"):
        chance = found["chance_sharper"]
        span = _span(found.get("chance_sharper_interval"), ".2f")
        said = f"a sample is sharper than a real image with chance {chance:.2f}{span}"
        if abs(chance - 0.5) <= SHARPNESS:
            yield "supported", f"Samples are about as sharp as real images ({said})."
        elif found["distance"] <= found["floor"]:
            yield "open", f"Whether samples are as sharp as real images is within the noise ({said})."
        else:
            yield (
                "against",
                f"Samples are {'sharper or noisier' if chance > 0.5 else 'less sharp'} than real images ({said}).",
            )


RULES: tuple[Rule, ...] = (
    Rule("distance", "quality", "against: the lower end of KID's interval is above the floor's upper end (97.5 %); supported: KID is not above it", _distance),
    Rule("variety", "quality", "against: the upper end of the interval of precision, density, recall or coverage is below the floor's lower end (2.5 %)", _variety),
    Rule("one network", "quality", "open: fewer than two feature networks", _one_network),
    Rule("training images as reference", "quality", "open: no unseen images to compare with", _trained_reference),
    Rule("truncation", "quality", "open: ψ is not 1", _truncated),
    Rule("data-copying test", "copying", f"against: C_T below −{C_T_DEVIATIONS:g} of its deviations; supported: within; open: above", _copying_test),
    Rule("near copies", "copying", f"against: the interval of their share is above {COPIED:.0%}; open: it reaches {2 * COPIED:.0%}, or C_T is above its noise; else supported", _copied),
    Rule("authenticity", "copying", "against: the interval lies below that of unseen images; open: above; else supported", _authentic),
    Rule("generalisation gap", "copying", "against: the interval of FLD's gap, less that of exchanged sets, lies below 0; open: C_T is above its noise; else supported", _likelihood),
    Rule("few unseen images", "copying", f"open: fewer than {FEW_UNSEEN}", _few_unseen),
    Rule("groups", "copying", "open: unseen images share a group (patient, film, slide) with training images", _divided_groups),
    Rule("near-duplicates", "copying", "open: held-out images are near-duplicates of training images", _near_duplicates),
    Rule("copies in pixels", "copying", "against: the interval of the samples' share lies above that of unseen images; open: C_T is above its noise; else supported", _copies_in_pixels),
    Rule("membership", "privacy", f"against: AUC's interval above 0.5 and p below {MEMBERSHIP_P:g}; open: it reaches beyond {MEMBERSHIP_WEAK:g}, or lies below 0.5; else supported", _membership),
    Rule("usefulness", "usefulness", "against or supported: the interval of the difference in score does not hold 0; else open", _utility),
    Rule("own statistics", "usefulness", f"against: p below {MEMBERSHIP_P:g}; else supported", _statistics),
    Rule("leaks", "artefacts", "against: share above 2 % at significance 1 %; open: cannot tell; supported: all answered no", _leaks),
    Rule("spectrum", "artefacts", "against: the largest difference is above that of halves of real images (97.5 %)", _spectrum),
    Rule("values", "artefacts", "against: a channel's distance is above that of halves of real images (97.5 %)", _values),
    Rule("sharpness", "artefacts", f"supported: the chance to be sharper is within {SHARPNESS:g} of 0.5; against: it is not, and the distance is above the halves'; else open", _sharp),
)  # fmt: skip
"""In the order in which their sentences stand."""

_EMPTY = {
    "quality": "Quality was not measured",
    "copying": "Whether it copies was not measured",
    "privacy": "Membership inference was not tried",
    "usefulness": "Usefulness was not measured",
    "artefacts": "Artefacts were not looked for",
}


def state(sections: Mapping[str, Findings]) -> Findings:
    """The sentences that the rules draw from the sections' numbers, and the limits of all of them."""
    sentences = [*judged(sections)]
    found = Findings(numbers={"sentences": sentences, "limits": [*LIMITS]})
    for verdict, title in (
        ("supported", "The evidence supports"),
        ("against", "The evidence speaks against"),
        ("open", "Left open"),
    ):
        rows = [(s["sentence"], s["rule"]) for s in sentences if s["verdict"] == verdict]
        if rows:
            found.blocks.append(blocks.table(title, ("finding", "rule"), rows))
    found.blocks.append(blocks.paragraph("These sentences are written by rules, from the numbers above:"))
    found.blocks.append(blocks.table("Rules", ("rule", "section", "threshold"), [rule[:3] for rule in RULES]))
    found.blocks += [blocks.paragraph(text, kind="note") for text in LIMITS]
    return found


def judged(sections: Mapping[str, Findings]) -> Iterator[dict[str, str]]:
    """`verdict`, `sentence` and `rule` of each sentence; a section without findings leaves its question open."""
    for section, words in _EMPTY.items():
        found = sections.get(section)
        if found is None or found.empty:
            reason = "it was not asked for" if found is None else found.empty.rstrip(".")
            yield {"verdict": "open", "sentence": f"{words}: {reason}.", "rule": "empty section"}
            continue
        for rule in RULES:
            if rule.section == section:
                for verdict, sentence in rule.judge(found.numbers):
                    yield {"verdict": verdict, "sentence": sentence, "rule": rule.name}
        for part, reason in found.numbers.get("missing", {}).items():
            yield {"verdict": "open", "sentence": f"{part}: {str(reason).rstrip('.')}.", "rule": "not computed"}
