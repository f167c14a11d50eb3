"""What a fact is about, found in its prompt: in any script, with or without capitals.

Capitalised words, or else the run of content words that looks rarest to the tokenizer, which knows frequent words as one token;
where a rephrase lacks that, what the prompt and all its rephrases have in common. Function words never begin or end a subject.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path

from editor_core.scoped.words import Word, is_unspaced, name_key, words

Rarity = Callable[[str], float]  # of a word as it is written
FUNCTION_WORDS, PREDICATES = (Path(__file__).with_name(name) for name in ("function_words.txt", "predicates.txt"))
# Lower-case words that may stand inside a name.
INSIDE_NAMES = frozenset(
    [
        "a",
        "al",
        "am",
        "an",
        "and",
        "as",
        "at",
        "auf",
        "aus",
        "by",
        "d",
        "da",
        "das",
        "de",
        "del",
        "della",
        "den",
        "der",
        "des",
        "di",
        "die",
        "do",
        "dos",
        "du",
        "e",
        "ed",
        "el",
        "en",
        "et",
        "for",
        "from",
        "i",
        "il",
        "im",
        "in",
        "l",
        "la",
        "las",
        "le",
        "les",
        "lo",
        "los",
        "n",
        "o",
        "of",
        "on",
        "or",
        "sur",
        "the",
        "to",
        "und",
        "van",
        "vom",
        "von",
        "vs",
        "with",
        "y",
        "zu",
        "zum",
        "zur",
    ]
)
# What something is measured in is not what is asked about: "the boiling point of quornite in degrees Celsius".
UNITS = frozenset(
    name_key(
        "celsius fahrenheit kelvin degree degrees km kilometre kilometer mile cm mm metre meter feet foot inch kg kilogram gram"
        " tonne ton pound lb mph kmh litre liter usd eur gbp dollar euro percent hour minute second hertz hz mhz ghz gb mb kb"
    ).split()
)
MOST_WORDS = 12
_YEAR = re.compile(r"1[1-9]\d{2}|20\d{2}")
_APOSTROPHES = ("'", "’")
# In a question with one of these a verb or an adjective may come after the subject: "was Castle Orwin built", "does it work".
_INVERTING = frozenset(
    name_key("is are was were do does did has have had can could will would shall should may might must").split()
)
_OF_SUBJECTS = _INVERTING | {"why", "when", "where", "how"}  # what begins with them says something of its subject at the end
_DO = frozenset(name_key("do does did").split())
_ARTICLES = frozenset(["the", "a", "an"])
_PREPOSITIONS = frozenset(["of", "for", "in", "at", "by", "from", "on", "about", "near", "to", "with"])
MOST_NOUNS = 2  # in small letters after a name: "Kegworth air disaster"


@cache
def predicates() -> frozenset[str]:
    """Words that say something of a name after it, beside those in -ed, -ing and -ly; in small letters."""
    return frozenset(PREDICATES.read_text(encoding="utf-8").split())


@cache
def function_words() -> frozenset[str]:
    """Words that say how a question is asked, not what it is about, of several languages; folded."""
    return frozenset(word.text for word in words(FUNCTION_WORDS.read_text(encoding="utf-8")))


def find_subject(prompt: str, rephrases: Sequence[str] = (), rarity: Rarity = len) -> str | None:
    """The subject as the prompt writes it; None for a prompt without a content word."""
    found = words(prompt)
    content = [word.text not in function_words() and word.text not in UNITS for word in found]
    if not any(content):
        return None
    span = _capitalised(prompt, found, content, rarity) or _rarest(prompt, found, content, rarity)
    others = [_padded(words(each)) for each in rephrases]
    if not all(_padded(found[slice(*span)]) in other for other in others):
        span = _shared(found, content, others, span) or span
    return prompt[found[span[0]].start : found[span[1] - 1].end]


def _padded(run: Sequence[Word]) -> str:
    return f" {' '.join(word.text for word in run)} "


def _trimmed(span: tuple[int, int], content: Sequence[bool]) -> tuple[int, int] | None:
    start, end = span
    while start < end and not content[start]:
        start += 1
    while start < end and not content[end - 1]:
        end -= 1
    return (start, end) if start < end else None


def _shared(
    found: Sequence[Word], content: Sequence[bool], others: Sequence[str], preferred: tuple[int, int]
) -> tuple[int, int] | None:
    """The longest run of words, in characters, that all other wordings have as well: within the preferred run, if any is."""
    runs = [
        span
        for start in range(len(found))
        for end in range(start + 1, min(len(found), start + MOST_WORDS) + 1)
        if (span := _trimmed((start, end), content)) and all(_padded(found[slice(*span)]) in other for other in others)
    ]
    within = [span for span in runs if preferred[0] <= span[0] and span[1] <= preferred[1]]
    return max(within or runs, key=lambda span: _size(found, span), default=None)


def _size(found: Sequence[Word], span: tuple[int, int]) -> int:
    return sum(len(word.text) for word in found[span[0] : span[1]])


def _capitalised(prompt: str, found: Sequence[Word], content: Sequence[bool], rarity: Rarity) -> tuple[int, int] | None:
    """The longest run from one capitalised content word to another, across small words that names have inside."""
    capital = [prompt[word.start].isupper() or prompt[word.start].isdigit() for word in found]
    if all(capital[index] for index, word in enumerate(found) if prompt[word.start].isalpha()) and len(found) > 2:
        return None  # a prompt in capitals
    runs, start, last = [], None, 0
    for index, word in enumerate(found):
        between = prompt[found[index - 1].end : word.start] if index else ""
        is_tied = between in ("-", "‐") or _numbered(prompt, found, capital, index + 1)
        is_tied = is_tied or _elided(prompt, found, capital, index)
        goes_on = capital[index] or word.text in INSIDE_NAMES or is_tied
        if start is not None and (_breaks(between) or not goes_on):
            runs.append((start, last + 1))
            start = None
        if capital[index] and (content[index] or index > 0):
            start = index if start is None else start
            last = index
        elif start is not None and (between in ("-", "‐") or (between in _APOSTROPHES and word.text != "s")):
            last = index
    if start is not None:
        runs.append((start, last + 1))
    kept = [run for run in runs if any(content[index] and prompt[found[index].start].isupper() for index in range(*run))]
    kept = [run for run in kept if run[0] > 0 or run[1] > 1 or content[0]]
    later = [run for run in kept if run[0] > 0] or kept
    if not later:
        return None
    start, end = max(later, key=lambda run: _size(found, run))
    end = _with_nouns(prompt, found, content, (start, end))
    names = sum(capital[index] and content[index] for index in range(start, end))
    opens_sentence = start == 0 and names > 2 and rarity(prompt[found[0].start : found[0].end]) < 1
    if names > 1 and _YEAR.fullmatch(prompt[found[start].start : found[start].end]):
        return start + 1, end  # "the 2031 Harrow Cup": other wordings say the year elsewhere
    return start + opens_sentence, end  # "Player Jo Doe": a frequent word is capitalised only because it comes first


def _elided(prompt: str, found: Sequence[Word], capital: Sequence[bool], index: int) -> bool:
    """Whether an apostrophe ties this word to a name: "Mor'du", "dell'Accademia", and the s of "Leno's Garage"."""
    word = found[index]
    before = prompt[found[index - 1].end : word.start] if index else ""
    after = prompt[word.end : found[index + 1].start] if index + 1 < len(found) else ""
    is_named = index + 1 < len(found) and capital[index + 1]
    if prompt[word.start : word.end].lower() == "s" and before in _APOSTROPHES:
        return is_named and after.isspace()
    return before in _APOSTROPHES or (after in _APOSTROPHES and is_named)


def _with_nouns(prompt: str, found: Sequence[Word], content: Sequence[bool], run: tuple[int, int]) -> int:
    """Where a name ends with the nouns in small letters that follow it, as in "Kegworth air disaster", and not a predicate."""
    start, end = run
    before = [word.text for word in found[:start] if word.text not in _ARTICLES]
    if not before or _DO & set(before) or before[-1] in function_words() - _PREPOSITIONS - _INVERTING:
        return end  # "did", "where", "that": its verb follows
    last = end
    while last < len(found) and content[last] and found[last].start == found[last - 1].end + 1:
        last += 1
    nouns = end
    while nouns < last and not _is_predicate(prompt, found[nouns]):
        nouns += 1
    goes_on = last < len(found) and not _is_predicate(prompt, found[last])
    if before[0] in _OF_SUBJECTS or before[-1] in _INVERTING or goes_on:
        nouns = min(nouns, last - 1)  # the last of them may be the verb, or what the subject is
    return max(nouns, end) if nouns - end <= MOST_NOUNS else end


def _is_predicate(prompt: str, word: Word) -> bool:
    written = prompt[word.start : word.end].lower()
    return written in predicates() or written.endswith(("ed", "ing", "ly"))


def _numbered(prompt: str, found: Sequence[Word], capital: Sequence[bool], index: int) -> bool:
    """Whether a number, or a capital and a number, come next: "torpedo Mark 19", "submarine U-270"."""
    following = found[index : index + 2]
    digits = [any(map(str.isdigit, prompt[word.start : word.end])) for word in following]
    return bool(digits) and (digits[0] or (len(digits) == 2 and digits[1] and capital[index]))


def _breaks(between: str) -> bool:
    """Whether a name cannot go on across this."""
    return re.search(r"[?!;\n\"“”]|\.\s*\n", between) is not None


def _rarest(prompt: str, found: Sequence[Word], content: Sequence[bool], rarity: Rarity) -> tuple[int, int]:
    """Of the runs of adjacent content words the one with the rarest word, then the longest; without frequent words at its ends.

    A word of rarity 1 or more is several tokens: the tokenizer's corpus seldom had it.
    """
    runs: list[tuple[int, int]] = []
    for index in range(len(found)):
        if not content[index]:
            continue
        joined = runs and runs[-1][1] == index and not prompt[found[index - 1].end : found[index].start].strip(" '’-")
        if joined:
            runs[-1] = (runs[-1][0], index + 1)
        else:
            runs.append((index, index + 1))

    def rank(run: tuple[int, int]) -> tuple[float, int]:
        unspaced = is_unspaced(found[run[0]].text)
        rarest = 0.0 if unspaced else max(rarity(prompt[word.start : word.end]) for word in found[run[0] : run[1]])
        return rarest, _size(found, run)

    start, end = max(runs, key=rank)
    if end - start > 1 and _YEAR.fullmatch(prompt[found[start].start : found[start].end]):
        start += 1  # as of a name in capitals
    rare = [index for index in range(start, end) if rarity(prompt[found[index].start : found[index].end]) >= 1]
    return (rare[0], rare[-1] + 1) if rare and not is_unspaced(found[start].text) else (start, end)
