"""Counts every word once, however often it occurs."""


def pair_counts(symbols: list[list[str]], times: list[int]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for word, n in zip(symbols, times, strict=True):
        for i in range(len(word) - 1):
            pair = f"{word[i]} {word[i + 1]}"
            counts[pair] = counts.get(pair, 0) + min(n, 1)
    return counts


def merge(word: list[str], a: str, b: str) -> list[str]:
    found, i = [], 0
    while i < len(word):
        if word[i : i + 2] == [a, b]:
            found.append(a + b)
            i += 2
        else:
            found.append(word[i])
            i += 1
    return found


def train(words: dict[str, int], n: int) -> list[list[str]]:
    symbols, times = [list(word) for word in words], list(words.values())
    merges: list[list[str]] = []
    while len(merges) < n:
        counts = pair_counts(symbols, times)
        if not counts:
            break
        best = min(counts, key=lambda pair: (-counts[pair], pair.split(" ")))
        a, b = best.split(" ")
        merges.append([a, b])
        symbols = [merge(word, a, b) for word in symbols]
    return merges


def encode(word: str, merges: list[list[str]]) -> list[str]:
    symbols = list(word)
    while True:
        pairs = [symbols[i : i + 2] for i in range(len(symbols) - 1)]
        known = [merges.index(pair) for pair in pairs if pair in merges]
        if not known:
            return symbols
        symbols = merge(symbols, *merges[min(known)])
