"""Results as tables of text, for the terminal and for the page."""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from .peers import OURS

Spread = dict[str, float] | None


class Table(NamedTuple):
    """Texts; the first column names what the others measure."""

    title: str
    headings: list[str]
    rows: list[list[str]]


def tables(suite: str, result: Any) -> list[Table]:
    """The tables of a suite; none where it has no figures."""
    kind: Callable[[Any], Iterator[Table]] = KINDS.get(suite, _contests)
    return [*kind(result)] if result else []


def number(value: float) -> str:
    """Three digits that matter, or all before the point."""
    return f"{value:,.0f}".replace(",", " ") if abs(value) >= 100 else f"{value:.3g}"


def ranged(found: Spread, unit: str = "") -> str:
    """Median, and the range of the middle 80 %."""
    if found is None:
        return ""
    median, low, high = (f"{found[name]:.2f}" for name in ("median", "low", "high"))
    return f"{median}{unit} ({low} to {high})"


def name_of(shape: list[int]) -> str:
    """784x128 as text."""
    return "x".join(map(str, shape))


def _contests(rows: list[dict[str, Any]]) -> Iterator[Table]:
    yield from _at_best(rows)
    for network in dict.fromkeys(
        (row["workload"], tuple(row["sizes"]), row["batch"], row["optimizer"]) for row in rows
    ):
        name, sizes, batch, _ = network
        here = [r for r in rows if (r["workload"], tuple(r["sizes"]), r["batch"], r["optimizer"]) == network]
        body = []
        for contender, threads in dict.fromkeys((r["contender"], r["threads"]) for r in here):
            found = {r["normalized"]: r for r in here if (r["contender"], r["threads"]) == (contender, threads)}
            cells = [contender, str(threads)]
            for normalized in (False, True):
                row = found.get(normalized)
                cells += [number(row["microseconds"]["median"]), _against_ours(row)] if row else ["", ""]
            body.append([*cells, ranged(found[True]["over_plain"]) if True in found else ""])
        headings = [
            "",
            "threads",
            "plain, µs",
            "times tinygrad_wn",
            "weight norm, µs",
            "times tinygrad_wn",
            "over plain",
        ]
        yield Table(f"{name}: {'-'.join(map(str, sizes))}, batch {batch}", headings, body)


def _against_ours(row: dict[str, Any]) -> str:
    return "" if row["contender"] == OURS else ranged(row["ratio"])


def _at_best(rows: list[dict[str, Any]]) -> Iterator[Table]:
    """Everyone at the thread count that is best for it, weight-normalized."""
    best = [row for row in rows if row["normalized"] and row["ratio_at_best_threads"]]
    taking_part = {row["contender"] for row in best} - {OURS}
    contenders = [one for one in dict.fromkeys(row["contender"] for row in rows) if one in taking_part]
    body = []
    for name, batch in dict.fromkeys((row["workload"], row["batch"]) for row in best):
        here = {row["contender"]: row for row in best if (row["workload"], row["batch"]) == (name, batch)}
        own = number(here[OURS]["microseconds"]["median"]) if OURS in here else ""
        cells = [ranged(here[one]["ratio_at_best_threads"]) if one in here else "" for one in contenders]
        body.append([f"{name}, batch {batch}", own, *cells])
    if body and contenders:
        title = f"Weight-normalized, each at its best thread count: times the time of {OURS}"
        yield Table(title, ["", f"{OURS}, µs", *contenders], body)


def _growth(rows: list[dict[str, Any]]) -> Iterator[Table]:
    contenders = [*dict.fromkeys(row["contender"] for row in rows)]
    body = []
    for axis, value in dict.fromkeys((row["axis"], row["value"]) for row in rows):
        here = {r["contender"]: r for r in rows if (r["axis"], r["value"]) == (axis, value)}
        cells = [number(here[c]["microseconds"]["median"]) if c in here else "" for c in contenders]
        body.append([f"{axis} {value}", *cells])
    yield Table("A weight-normalized step as one number grows, µs, one thread", ["", *contenders], body)


def _kernels(found: dict[str, Any]) -> Iterator[Table]:
    product, peak = found["matmul"], found["peak"]
    worst, slowest = product["worst"], product["excess_worst"]
    body = [
        [
            f"geometric mean, {len([c for c in product['cases'] if c['flops'] >= 1e6])} shapes of 1 Mflop and more",
            f"{product['geometric_mean']:.2f} times",
        ],
        [f"worst of them: {name_of(worst['shape'])}, {worst['layout']}", ranged(worst["ratio"], " times")],
        ["smaller: median of the time beyond NumPy's", f"{product['excess_median']:.2f} µs"],
        [f"most of them: {name_of(slowest['shape'])}, {slowest['layout']}", ranged(slowest["excess"], " µs")],
        [
            f"share of the FMA peak, {peak['possible']['median'] / 1e9:.0f} Gflop/s: {name_of(peak['shape'])}",
            ranged(peak["share"]),
        ],
    ]
    if two := found.get("two_threads_over_one"):
        body.append([f"two threads over one, {name_of(two['shape'])}", ranged(two["ratio"], " times")])
    yield Table("matmul, float32, times as fast as NumPy", ["", "tinygrad_wn"], body)
    body = [
        [
            f"{row['name']}, {name_of(row['shape'])}",
            number(row["microseconds"]["median"]),
            ranged(row["ratio"], " times"),
        ]
        for row in found["norms"]
    ]
    yield Table("Norms of rows, float32, one thread", ["", "µs", "times as fast as the NumPy definition"], body)
    body = [
        [f"{row['name']}, {name_of(row['shape'])}", f"{row['reached']['median'] / 1e9:.1f}", ranged(row["share"])]
        for row in found["bandwidth"]
    ]
    yield Table("Memory traffic, float32, one thread", ["", "GB/s", "share of np.copyto's"], body)


def _overhead(rows: list[dict[str, Any]]) -> Iterator[Table]:
    body = [
        [
            f"{r['op']}, {r['size']} numbers",
            f"{r['microseconds']['median']:.2f}",
            f"{r['numpy']['median']:.2f}",
            ranged(r["excess"]),
        ]
        for r in rows
    ]
    yield Table("A recorded elementwise op, float32, µs", ["", "tinygrad_wn", "NumPy", "beyond NumPy"], body)


def _memory(found: dict[str, Any]) -> Iterator[Table]:
    body = [
        [
            f"{r['workload']}, {'weight norm' if r['normalized'] else 'plain'}",
            r["contender"],
            f"{r['imported']:.0f}",
            f"{r['peak']:.0f}",
            f"{r['beyond_import']:.0f}",
        ]
        for r in found["peaks"]
    ]
    yield Table("Resident memory, MB", ["", "contender", "after import", "peak of ten steps", "beyond import"], body)
    if grown := found["growth"]:
        title = f"Resident memory over {grown[0]['steps']} digits steps, change after the first {grown[0]['from']}"
        yield Table(
            title, ["", "MB"], [[one["contender"], f"{one['least']:+.2f} to {one['most']:+.2f}"] for one in grown]
        )


def _cold(found: dict[str, Any]) -> Iterator[Table]:
    body = [
        ["import of Numba", *(ranged(found[kind]["numba"]) for kind in found)],
        ["import of tinygrad_wn beyond it", *(ranged(found[kind]["import"]) for kind in found)],
        ["making the digits model", *(ranged(found[kind]["model"]) for kind in found)],
        ["making it, and its first eager step", *(ranged(found[kind]["step"]) for kind in found)],
        ["after that, the first call of a compiled step", *(ranged(found[kind]["compiled"]) for kind in found)],
    ]
    names = {"empty": "empty cache", "kernels": "kernels cached", "warm": "all cached"}
    yield Table("Cold start, s", ["", *(names[kind] for kind in found)], body)


KINDS: dict[str, Callable[[Any], Iterator[Table]]] = {
    "growth": _growth,
    "kernels": _kernels,
    "overhead": _overhead,
    "memory": _memory,
    "cold": _cold,
}
