"""The collapse guard's verdicts: which level is badly used, since when, and what to change.

Pure functions on a history, the closing metrics and facts about the data. A verdict is one
sentence; verdicts are keyed by what they are about, ``level 0``, ``error`` or ``data``. The
findings of `semid evaluate` are the same, and more of the kind: `semid.evaluation.findings`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from semid.data_facts import DataFacts, perplexity_ceiling
from semid.fit_config import NETWORKS, FitConfig
from semid.model_config import CodebookConfig

# Perplexity over K below which k-means itself, or a ceiling, calls the data uneven.
UNEVEN = 0.6
# Share of rows that repeat another one from which it is worth a sentence.
REPEATED = 0.1
# Share of the variance in the farthest 1% of the rows from which tails are heavy; normal rows: 2%.
HEAVY_TAIL = 0.15
# Share of the rows in dense places from which levels that follow distances are used unevenly; 3%
# is the most seen of other catalogs.
DENSE = 0.3
# A level has decayed when its perplexity ends below this share of its best.
DECAYED = 0.75
# Rows per codeword below which there are too many codewords.
FEW_ROWS = 5


class Verdict(NamedTuple):
    """What is wrong: what it is about, what is found there, and what to do, or ""."""

    about: str
    says: str
    advice: str

    @property
    def sentence(self) -> str:
        """Both in one sentence."""
        return f"{self.says}; {self.advice}" if self.advice else self.says


def verdicts(
    history: Sequence[Mapping[str, Any]],
    metrics: Mapping[str, Any],
    config: FitConfig,
    facts: DataFacts,
) -> dict[str, str]:
    """Judge a fit; empty when all is well. See `judge`."""
    return {found.about: found.sentence for found in judge(history, metrics, config, facts)}


def judge(
    history: Sequence[Mapping[str, Any]],
    metrics: Mapping[str, Any],
    config: FitConfig,
    facts: DataFacts,
) -> list[Verdict]:
    """Judge a fit: levels, error and data; empty when all is well.

    Parameters
    ----------
    history : one row per epoch, as `semid.monitoring.Monitor` makes them; empty for baselines
    metrics : as `semid.metrics.measurement.Measurement`, beside ``train_rows``
    config : the settings of the fit
    facts : of a sample of the training rows
    """
    data = judge_data(facts, config.levels)
    blamed = data is not None and _uneven(facts, config.levels)
    found = []
    for level, used in enumerate(metrics["levels"]):
        said = _below(level, used, history, config) or _decayed(level, history)
        if said:
            advice = (
                "the data is the cause, so use smaller levels or mend it"
                if blamed
                else _advice(level, used, history, config, metrics["train_rows"])
            )
            found.append(Verdict(f"level {level}", said, advice))
    if worse := _worse_than_the_mean(metrics, config, history, blamed=blamed):
        found.append(worse)
    return found + ([Verdict("data", data, "")] if data else [])


def missed(metrics: Mapping[str, Any], config: FitConfig) -> list[int]:
    """Return the levels whose closing perplexity is below the utilization floor."""
    floor = config.training.utilization_floor
    levels = enumerate(metrics["levels"])
    return [level for level, used in levels if used["perplexity"] < floor * used["size"]]


def judge_data(facts: DataFacts, levels: Sequence[int]) -> str | None:
    """Say in one sentence, with its figures, why no codebook is used evenly; None if it can be."""
    k, copies_m = max(levels), facts.copies_m
    if len(copies_m) < k:
        return (
            f"the {facts.rows:,} sampled rows hold {len(copies_m):,} distinct ones, fewer than "
            f"the {k} codewords of a level"
        )
    if facts.repeated >= REPEATED * facts.rows:
        ceiling = perplexity_ceiling(copies_m, k)
        bound = f" and no level's perplexity {ceiling:.1f} of {k}" if ceiling < UNEVEN * k else ""
        return (
            f"{facts.repeated / facts.rows:.1%} of the {facts.rows:,} sampled rows repeat another "
            f"bit for bit, one row stands there {copies_m.max():,} times: raw uniqueness cannot "
            f"exceed {len(copies_m) / facts.rows:.3f}{bound}"
        )
    probe = facts.probe
    if probe.perplexity >= UNEVEN * probe.size:
        if facts.dense_share < DENSE:
            return None
        return (
            f"the catalog is dense in places: {facts.dense_share:.0%} of the rows are nearer to "
            "their k-means codeword than a fifth of the mean squared distance, which the others "
            "make up"
        )
    reached = f"k-means itself reaches only perplexity {probe.perplexity:.1f} of {probe.size} on it"
    if facts.tail_share >= HEAVY_TAIL:
        return (
            f"{reached}, since its tails are heavy: the farthest 1% of the rows hold "
            f"{facts.tail_share:.0%} of the variance; clip such features or take their logarithm"
        )
    return (
        f"{reached}, since it is dense in places: one codeword holds {probe.largest_share:.0%} of "
        "the rows"
    )


def _uneven(facts: DataFacts, levels: Sequence[int]) -> bool:
    """Tell whether no codebook can be used evenly; rows that repeat need not be too many."""
    k, probe = max(levels), facts.probe
    return (
        perplexity_ceiling(facts.copies_m, k) < UNEVEN * k
        or probe.perplexity < UNEVEN * probe.size
        or facts.dense_share >= DENSE
    )


def _worse_than_the_mean(
    metrics: Mapping[str, Any],
    config: FitConfig,
    history: Sequence[Mapping[str, Any]],
    *,
    blamed: bool,
) -> Verdict | None:
    """Say that codes give items back worse than none would."""
    which = "held-out" if metrics.get("held_out_error") is not None else "training"
    error = metrics.get("held_out_error" if which == "held-out" else "train_error")
    if error is None or not error > 1:
        return None
    advice = "use larger levels"
    if blamed:
        advice = "the data is the cause, so mend it"
    elif history and "contrast_loss" in history[-1]:
        advice = f"lower contrast.weight, which is {config.contrast.weight:g}"
    elif config.quantizer in NETWORKS:
        rate, epochs = config.training.learning_rate, config.training.epochs
        advice = (
            f"lower training.learning_rate, which is {rate:g}, or raise training.epochs, which is "
            f"{epochs}"
        )
    said = f"the {which} error is {error:.3g} of what the catalog's mean alone leaves"
    return Verdict("error", said, advice)


def _below(
    level: int, used: Mapping[str, Any], history: Sequence[Mapping[str, Any]], config: FitConfig
) -> str | None:
    floor, size = config.training.utilization_floor, used["size"]
    if used["perplexity"] >= floor * size:
        return None
    since = _since(history, level, floor * size)
    return (
        f"perplexity {used['perplexity']:.1f} of {size} misses the floor of {floor * size:.1f} "
        f"(training.utilization_floor {floor:g}){since}"
    )


def _decayed(level: int, history: Sequence[Mapping[str, Any]]) -> str | None:
    perplexities = dict(_perplexities(history, level))
    if not perplexities:
        return None
    best = max(perplexities, key=lambda epoch: perplexities[epoch])
    last, peak = max(perplexities), perplexities[best]
    if perplexities[last] >= DECAYED * peak:
        return None
    since = _since(history, level, DECAYED * peak)
    return (
        f"perplexity decayed from {peak:.1f} in epoch {best} to {perplexities[last]:.1f} in epoch "
        f"{last}, below {DECAYED:.0%} of it{since}"
    )


def _since(history: Sequence[Mapping[str, Any]], level: int, bound: float) -> str:
    """Say from which epoch on a level has stayed below a bound."""
    since = None
    for epoch, perplexity in _perplexities(history, level):
        if perplexity >= bound:
            since = None
        elif since is None:
            since = epoch
    if since is not None:
        return f" since epoch {since}"
    return " in the kept model, though not while it was trained" if history else ""


def _perplexities(history: Sequence[Mapping[str, Any]], level: int) -> Iterator[tuple[int, float]]:
    """Yield epoch and perplexity once the level has started."""
    for row in history:
        if row[f"used_{level}"]:
            yield row["epoch"], row[f"perplexity_{level}"]


def _advice(
    level: int,
    used: Mapping[str, Any],
    history: Sequence[Mapping[str, Any]],
    config: FitConfig,
    rows: int,
) -> str:
    """Name the setting to change: the first of the known causes that applies."""
    books, size = config.codebooks, config.levels[level]
    if config.quantizer == "rqkmeans":
        return "use quantizer rqvae, or smaller levels"
    last = level == len(config.levels) - 1
    if config.quantizer == "fsq" or (books.fsq == "last" and last):
        return "choose another codebooks.fsq_grid, or smaller levels"
    if known := _worse_than_default(books):
        return known
    if rows < FEW_ROWS * size:
        return f"use smaller levels: {rows:,} training rows are few for {size} codewords"
    said = [perplexity for _, perplexity in _perplexities(history, level)]
    bound = config.training.utilization_floor * size
    if said and used["perplexity"] < bound <= said[-1]:
        name, value = "training.learning_rate", config.training.learning_rate
        if config.model.encoder_dropout:
            name, value = "model.encoder_dropout", config.model.encoder_dropout
        return f"rows differ less than training moves them, so lower {name}, which is {value:g}"
    if len(said) < 5 or said[-1] > 1.02 * said[-3]:
        return f"raise training.epochs, which is {config.training.epochs}: it still rises"
    return f"raise codebooks.balance, which is {books.balance:g}"


def _worse_than_default(books: CodebookConfig) -> str | None:
    """Name the first setting that was changed to where codebooks are used less evenly."""
    default = CodebookConfig()
    for name in ("init", "layer_norm", "restart_below", "balance", "locality", "separation"):
        wanted, value = getattr(default, name), getattr(books, name)
        worse = value != wanted
        if isinstance(wanted, float):
            worse = value > wanted if name in ("locality", "separation") else value < wanted
        if worse:
            return f"set codebooks.{name}={str(wanted).lower()}, which is {str(value).lower()}"
    return None
