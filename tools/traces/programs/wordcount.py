"""Counts words and pairs of words of a text in dictionaries, ranks them and prints a digest as JSON."""

import json
import sys


def main() -> None:
    with open(sys.argv[1], encoding="ascii") as text:
        words = text.read().split()
    count: dict[str, int] = {}
    pairs: dict[tuple[str, str], int] = {}
    before = ""
    for word in words:
        count[word] = count.get(word, 0) + 1
        pairs[before, word] = pairs.get((before, word), 0) + 1
        before = word
    ranked = sorted(pairs.items(), key=lambda item: (-item[1], item[0]))
    print(json.dumps({"words": len(count), "pairs": len(pairs), "top": ranked[:20]}))


main()
