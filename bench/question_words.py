"""How often the paragraph that answers repeats a word of the question: counts question_word_rates_ja.txt.

    python bench/question_words.py ../shared/data/jaquad/train > src/hagane/rag/question_word_rates_ja.txt

Prints the rates per kind of word (answer_weights.toml, [rates]) on stderr. A word's own rate is drawn towards that of
its kind as if PRIOR more questions had held it; kept are words of at least LEAST articles whose rate is FAR from it.
"""

from __future__ import annotations

import json
import sys
from collections import Counter, defaultdict
from pathlib import Path

from hagane.index.words import Sudachi
from hagane.rag.answer_features import kind_of_word
from hagane.rag.answer_support import own_words

PRIOR, LEAST, FAR = 20, 10, 0.08
HEADER = """\
# How often the paragraph that answers repeats a question's word: 名前 hardly ever, 島 nearly always. Search terms of the
# sudachi analyzer with their rates, where these are far from the rate of their kind (answer_weights.toml, [rates]).
# Counted by bench/question_words.py over the 31,748 questions of JaQuAD's training part (CC BY-SA 3.0), in words that
# questions of at least ten articles hold."""


def counts(folder: Path) -> tuple[Counter[str], Counter[str], dict[str, set[str]]]:
    """Of each word: questions, questions whose paragraph holds it, articles."""
    analyzer = Sudachi()
    asked, held, articles = Counter[str](), Counter[str](), defaultdict[str, set[str]](set)
    for file in sorted(folder.glob("*.json")):
        for article in json.loads(file.read_text())["data"]:
            for paragraph in article["paragraphs"]:
                there = set(analyzer.tokens(paragraph["context"]))
                for question in paragraph["qas"]:
                    words = own_words(question["question"], analyzer)
                    asked.update(words)
                    held.update(there.intersection(words))
                    for word in words:
                        articles[word].add(article["title"])
    return asked, held, articles


def main() -> None:
    asked, held, articles = counts(Path(sys.argv[1]))
    n, n_held = Counter[str](), Counter[str]()
    for word in asked:
        n[kind_of_word(word)] += asked[word]
        n_held[kind_of_word(word)] += held[word]
    kinds = {kind: n_held[kind] / n[kind] for kind in n}
    print("\n".join(f"{kind} = {rate:.3f}" for kind, rate in kinds.items()), file=sys.stderr)
    rows = []
    for word, count in asked.items():
        kind = kind_of_word(word)
        rate = (held[word] + PRIOR * kinds[kind]) / (count + PRIOR)
        far = rate < kinds[kind] - FAR or (kind == "kana_end" and rate > kinds[kind] + FAR)
        if far and len(articles[word]) >= LEAST and kind not in ("number", "latin"):
            rows.append((round(rate, 2), word))
    print(HEADER)
    print("\n".join(f"{word} {rate:.2f}" for rate, word in sorted(rows)))


if __name__ == "__main__":
    main()
