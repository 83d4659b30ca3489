"""IDs in training code: look-ups, and the step of constrained decoding, beside what peers do.

    python benchmarks/recsys.py --rows 1000000

Random codes, three levels of 256 and a suffix of 3. Items are looked up in random order, by
integers of 60 bits and by strings of ten letters. Decoding: 16 batch rows of 32 beams, prefixes of
random items; beside it transformers' own processor of ``prefix_allowed_tokens_fn``, with the nested
dictionaries that LC-Rec and its followers walk. All in one process, one after the other in every
repetition; times are the least of them, since other jobs only add. A missed target is exit code 1.
"""

from __future__ import annotations

import argparse
import gc
import sys
import time
from collections.abc import Callable

import numpy as np
import psutil
import torch
from measuring import machine
from transformers.generation.logits_process import PrefixConstrainedLogitsProcessor

from semid.id_table import IdTable
from semid.recsys import SidConstraint, SidLogitsProcessor, SidLookup, SidTrie, SidVocabulary

LEVELS = (256, 256, 256, 3)
INTEGERS_MS, STRINGS_MS, RATIO = 50, 400, 20
SEEN = 100
Work = Callable[[], object]


def least(works: dict[str, Work], repeats: int, *, device: str = "cpu") -> dict[str, float]:
    """Return the least milliseconds of each, taken in turns."""
    took: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(repeats):
        for name, work in works.items():
            wait(device)
            started = time.perf_counter()
            work()
            wait(device)
            took[name].append(1e3 * (time.perf_counter() - started))
    return {name: min(times) for name, times in took.items()}


def wait(device: str) -> None:
    if device != "cpu":
        torch.cuda.synchronize()


def timed(work: Work) -> tuple[object, float, float]:
    """Return what comes out, the seconds, and by how many MB the process grew."""
    gc.collect()
    before, started = psutil.Process().memory_info().rss, time.perf_counter()
    made = work()
    seconds = time.perf_counter() - started
    return made, seconds, (psutil.Process().memory_info().rss - before) / 1e6


def look_up(sids_ns: np.ndarray, repeats: int) -> bool:
    random, n = np.random.default_rng(1), len(sids_ns)
    numbers = random.permutation(np.unique(random.integers(0, 1 << 60, n + n // 100))[:n])
    names = [f"B{number:09d}" for number in random.permutation(n)]
    place_n = random.integers(0, n, n)
    held = True
    print(f"\n| {n:,} look-ups | made, s | SIDs, ms | tokens, ms | dict.get, ms | ratio |")
    print("|" + " --- |" * 6)
    for label, ids, target in (
        ("integers", numbers, INTEGERS_MS),
        ("strings", np.array(names, object), STRINGS_MS),
    ):
        table = IdTable.from_arrays(ids, sids_ns[:, :3], sids_ns)
        lookup, seconds, _ = timed(lambda table=table: SidLookup.of(table))
        listed = ids[place_n].tolist()
        asked = torch.tensor(listed) if label == "integers" else listed
        rows = {item: row for row, item in enumerate(ids.tolist())}
        sids, vocabulary = torch.from_numpy(sids_ns), SidVocabulary.of(lookup)

        def by_dict(rows=rows, listed=listed, sids=sids) -> torch.Tensor:
            return sids[torch.tensor([rows.get(item, -1) for item in listed])]

        assert torch.equal(by_dict().long(), lookup.sids(asked))
        # Which makes the table of tokens, too.
        assert torch.equal(lookup.tokens(asked, vocabulary), vocabulary.tokens(lookup.sids(asked)))
        took = least(
            {
                "sids": lambda lookup=lookup, asked=asked: lookup.sids(asked),
                "tokens": lambda lookup=lookup, asked=asked, vocabulary=vocabulary: lookup.tokens(
                    asked, vocabulary
                ),
                "dict": by_dict,
            },
            repeats,
        )
        cells = (took["sids"], took["tokens"], took["dict"], took["dict"] / took["sids"])
        print(f"| {label} | {seconds:.2f} | " + " | ".join(f"{cell:.1f}" for cell in cells) + " |")
        held &= max(took["sids"], took["tokens"]) <= target
    return held


class Nested:
    """A trie of nested dictionaries, as LC-Rec's."""

    def __init__(self, tokens_ns: np.ndarray, prompt: int) -> None:
        self.root: dict[int, dict] = {}
        self.prompt = prompt
        for tokens in tokens_ns.tolist():
            node = self.root
            for token in tokens:
                node = node.setdefault(token, {})

    def __call__(self, batch: int, sequence: torch.Tensor) -> list[int]:
        """Return what may follow a sequence."""
        node = self.root
        for token in sequence.tolist()[self.prompt :]:
            node = node[token]
        return list(node)


def decode(sids_ns: np.ndarray, batch: int, beams: int, repeats: int) -> bool:
    random, rows, prompt = np.random.default_rng(2), batch * beams, 8
    vocabulary = SidVocabulary(LEVELS)
    tokens_ns = vocabulary.tokens(torch.from_numpy(sids_ns))
    nested, slow_s, slow_mb = timed(lambda: Nested(tokens_ns.numpy(), prompt))
    peer = PrefixConstrainedLogitsProcessor(nested, beams)
    trie, fast_s, _ = timed(lambda: SidTrie.of(sids_ns, levels=LEVELS))
    print(f"\ntrie: {trie.nbytes / 1e6:.0f} MB in {fast_s:.2f} s ({trie.num_nodes:,} nodes)")
    print(f"nested dictionaries: {slow_mb:.0f} MB in {slow_s:.2f} s")
    chosen = tokens_ns[random.integers(0, len(sids_ns), rows)]
    seen_bm = torch.from_numpy(random.integers(0, len(sids_ns), (batch, SEEN)))
    stock = torch.from_numpy(random.choice(len(sids_ns), len(sids_ns) // 10, replace=False))
    ratio = 0.0
    for device in ("cpu", *(("cuda",) if torch.cuda.is_available() else ())):
        constraint = SidConstraint.of(trie.to(device), vocabulary.sid_tokens)
        kinds = {
            "all items": constraint,
            "a tenth excluded": constraint.excluding(stock),
            f"{SEEN} seen excluded a row": constraint.excluding_by_row(seen_bm),
        }
        print(f"\n| {device}, {batch} x {beams} beams, ms a step | " + " | ".join(
            f"level {level}" for level in range(len(LEVELS))) + " | mean | ratio |")  # fmt: skip
        print("|" + " --- |" * (len(LEVELS) + 3))
        found: dict[str, list[float]] = {name: [] for name in ("prefix_allowed_tokens_fn", *kinds)}
        for depth in range(len(LEVELS)):
            before = torch.cat([torch.zeros(rows, prompt).long(), chosen[:, :depth]], 1).to(device)
            scores = torch.randn(rows, len(vocabulary), device=device)
            ours = {
                name: SidLogitsProcessor(kind, prompt_length=prompt, num_beams=beams)
                for name, kind in kinds.items()
            }
            assert torch.equal(peer(before, scores), ours["all items"](before, scores))
            works = {
                name: lambda made=made, before=before, scores=scores: made(before, scores)
                for name, made in ours.items()
            }
            works["prefix_allowed_tokens_fn"] = lambda before=before, s=scores: peer(before, s)
            for name, took in least(works, repeats, device=device).items():
                found[name].append(took)
        slow = float(np.mean(found["prefix_allowed_tokens_fn"]))
        for name, times in found.items():
            cells = " | ".join(f"{took:.3f}" for took in times)
            print(f"| {name} | {cells} | {np.mean(times):.3f} | {slow / np.mean(times):.1f} |")
        if device == "cpu":
            ratio = slow / float(np.mean(found["all items"]))
    return ratio >= RATIO


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--beams", type=int, default=32)
    parser.add_argument("--repeats", type=int, default=20)
    options = parser.parse_args()
    print(f"{machine()}, {torch.get_num_threads()} threads; {options.rows:,} items")
    random = np.random.default_rng(0)
    sids_ns = np.stack([random.integers(0, k, options.rows) for k in LEVELS], 1).astype(np.int32)
    held = [look_up(sids_ns, options.repeats)]
    held += [decode(sids_ns, options.batch, options.beams, options.repeats)]
    if not all(held):
        sys.exit("a target was missed")


if __name__ == "__main__":
    main()
