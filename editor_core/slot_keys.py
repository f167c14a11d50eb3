"""Which inputs a new slot is to open for: the subject's token in a prompt, and the positions that say an answer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from editor_core.background import BlockBackground
from editor_core.breathing import breathe
from editor_core.slot_capture import SlotRows
from editor_core.texts import Example

HIGHEST_THRESHOLD = 0.85
LOOKALIKE_WEIGHT = 100.0  # of one of them, in inputs of the background
SWAY_WEIGHT = 200.0  # of how an input differs from its owner's centre, likewise
LONGEST_NAME = 10  # tokens
PARTICLES = (",", "of", "the", "and", "or", "&", "de", "la", "du", "da", "di", "von", "van")  # between words of one name
LONGEST_LINK, LINKS = 3, 3  # letters of a small word within a name, and one more than how many of them may stand together
INDISTINCT = 0.95  # the background's highest score from which on a slot would open for no reason of its own
SHUT = 4.0  # the threshold of a slot that nothing opens
NEAREST, NEAR = 4, 0.4  # earlier keys that a slot is kept from by its discriminant, and the score they have at least
LEAST_ALIKE = 0.3  # inputs of one slot score at least this share of their centre's own score, or are not what it opens for


def subject_positions(
    tokenizer: Any, examples: Sequence[Example], rows: SlotRows, background: BlockBackground, name: str
) -> list[int]:
    """Per example, the position that tells its edit from everything else.

    In the first example of each edit that is the token of the highest leverage (the input least like what the model usually
    reads), among those of names where there are any, or rather the last token of its name; in its other examples the position
    most like that one. Position 0 is passed over where there is another: models park attention there, whatever the token.
    """
    chosen: list[int] = []
    discriminant: dict[int, torch.Tensor] = {}
    for index, example in enumerate(examples):
        breathe()
        mine = rows.example == index
        position, order = rows.position[mine].sort()
        x = rows.inputs[name][mine][order]  # (T, d_in), in order
        first = 1 if len(x) > 1 and position[0] == 0 else 0
        if example.edit not in discriminant:
            leverage = background.leverage(x)
            named = torch.tensor(in_names([tokenizer.decode([token]) for token in example.prompt]))[position]
            leverage[~named if bool(named.any()) else position < first] = 0.0
            best = int(leverage.argmax())
            best += name_end([tokenizer.decode([token]) for token in example.prompt[int(position[best]) :]])
            discriminant[example.edit] = x[best] @ background.precision
        else:
            best = first + int((x[first:] @ discriminant[example.edit]).argmax())
        chosen.append(int(position[best]))
    return chosen


def in_names(tokens: Sequence[str]) -> list[bool]:
    """Which tokens are in words that begin with a capital, or in numbers; the first word of all says nothing by its capital."""
    named, first, current, begun = [], True, False, False
    for token in tokens:
        if (token[:1].isspace() or not token[:1].isalnum()) and begun:
            first, begun = False, False
        letters = token.strip()
        if letters and not begun:
            current, begun = not first and (letters[:1].isupper() or letters[:1].isdigit()), letters[:1].isalnum()
        named.append(current and bool(letters))
    return named


def name_end(tokens: Sequence[str]) -> int:
    """How many tokens on from the first its word ends, and the words in capitals and the numbers that follow it, with particles
    and commas between them: "Rain, Hail or Shine".

    A name is surest at its end, where the model has read all of it.
    """
    end = 0
    while end + 1 < min(len(tokens), LONGEST_NAME):
        following = tokens[end + 1] if tokens[end + 1].strip() or end + 2 >= len(tokens) else " " + tokens[end + 2]
        within = following[:1].isalnum() or (following[:1] in "-'’" and end + 2 < len(tokens) and tokens[end + 2][:1].isalnum())
        if not within and not _begins_word_of_name(following):
            linked = end + 1
            while linked < len(tokens) - 1 and linked - end < LINKS and tokens[linked].strip() in PARTICLES:
                linked += 1
            if linked == end + 1 or not _begins_word_of_name(tokens[linked]):
                break
            end = linked
            continue
        end += 1
    return end


def _begins_word_of_name(token: str) -> bool:
    return token[:1] == " " and (token[1:2].isupper() or token[1:2].isdigit())


def name_begin(tokens: Sequence[str], end: int) -> int | None:
    """Where the name that ends with this token begins, None when what ends there is no name.

    Short words in small letters between words of a name are part of it: "Dulcina de Moraes".
    """
    words = _word_starts(tokens[: end + 1])
    texts = ["".join(tokens[start:stop]).strip() for start, stop in zip(words, [*words[1:], end + 1], strict=True)]
    if len(words) == 1 or not _is_of_a_name(texts[-1]):
        return None
    first = last = len(words) - 1
    for index in range(last - 1, 0, -1):
        if _is_of_a_name(texts[index]):
            first = index
        elif len(texts[index]) > LONGEST_LINK or first - index >= LINKS:
            break
    return words[first]


def _word_starts(tokens: Sequence[str]) -> list[int]:
    return [index for index, token in enumerate(tokens) if index == 0 or token[:1].isspace()]


def _is_of_a_name(word: str) -> bool:
    letters = word.lstrip("\"'([«“‘")
    return letters[:1].isupper() or letters[:1].isdigit() or letters[:1] == "\ufffd"  # half a letter: it is none of ours


def name_ending(tokens: Sequence[str], begin: int, end: int) -> tuple[int, int]:
    """The part of a name that other names may have in common with it, as a slice of the tokens.

    That is its last word, if it has several; the last token of a single word; nothing of a single token.
    """
    word = _word_starts(tokens[: end + 1])[-1]
    if word > begin:
        return word, end + 1
    return (end, end + 1) if end > begin else (end, end)


def detectors(
    x: torch.Tensor,
    owners: torch.Tensor,
    background: BlockBackground,
    floor: torch.Tensor,
    margin: float,
    lookalikes: torch.Tensor | None = None,
    elsewhere: torch.Tensor | None = None,
    others: torch.Tensor | None = None,
    apart: torch.Tensor | None = None,
    highest_for_lookalikes: float = HIGHEST_THRESHOLD,
    highest: float = HIGHEST_THRESHOLD,
) -> torch.Tensor:
    """One slot for each owner 0..S-1, open for all inputs of its own: S × (d_in + 1) rows [d, t].

    x: N × d_in inputs, owners: (N,) int64. The discriminant is scaled so that the lowest score of its own inputs is 1. How they
    differ from their centre counts SWAY_WEIGHT times in the slot's own M, so that what the discriminant rests on is what all
    of them have in common (Fisher's criterion).
    floor: (S,), the lowest thresholds; margin: how far above the highest score of what it is not to open for a threshold is.
    lookalikes: S × C × d_in, inputs that each slot is not to open for; they count LOOKALIKE_WEIGHT times in its own M, and
    raise thresholds to highest_for_lookalikes at most.
    elsewhere: S × K × d_in, further inputs of its own, which do not scale the discriminant.
    others: E × d_in, inputs of other edits, which raise thresholds. apart: S × E bool, which of them count for which slot; all
    do without it.
    highest: no threshold is above it, but of slots that stay shut.
    A slot that could not tell its inputs from the background stays shut; one that can hardly tell its lookalikes opens late.
    """
    count = int(owners.max()) + 1
    mine, taken = by_owner(x, owners, count)
    if elsewhere is not None:
        mine, taken = torch.cat([mine, elsewhere], 1), torch.cat([taken, taken.new_ones(elsewhere.shape[:2])], 1)
    centre = mine.sum(1) / taken.sum(1, keepdim=True)
    against = [(mine - centre[:, None]) * taken[:, :, None] * SWAY_WEIGHT**0.5]
    if lookalikes is not None:
        against.append(lookalikes * LOOKALIKE_WEIGHT**0.5)
    discriminants = _without(centre @ background.precision, torch.cat(against, 1), background)
    breathe()
    own = (x * discriminants[owners]).sum(1)
    lowest = torch.full((count,), torch.inf).scatter_reduce_(0, owners, own, "amin")
    # inputs that have little in common cannot share a slot: it then opens for their centre, and for those near it
    own_centre = (centre * discriminants).sum(1)
    discriminants = discriminants / torch.maximum(lowest, LEAST_ALIKE * own_centre).clamp_min(1e-12)[:, None]
    usual = background.highest_scores(discriminants)
    thresholds = torch.where(usual > INDISTINCT, SHUT, torch.maximum(usual + margin, floor).clamp_max(highest))
    if lookalikes is not None and lookalikes.shape[1]:
        alike = torch.einsum("scd,sd->sc", lookalikes, discriminants).amax(1)
        thresholds = torch.maximum(thresholds, (alike + margin).clamp_max(highest_for_lookalikes))
    if others is not None and len(others):
        scores = discriminants @ others.T
        alike = (scores if apart is None else scores.masked_fill(~apart, -torch.inf)).amax(1)
        thresholds = torch.maximum(thresholds, (alike + margin).clamp_max(highest))
    return torch.cat([discriminants, thresholds[:, None]], 1)


def nearest(
    x: torch.Tensor,
    owners: torch.Tensor,
    earlier: torch.Tensor,
    background: BlockBackground,
    left_out: torch.Tensor | None = None,
) -> torch.Tensor:
    """Of each owner 0..S-1, the earlier keys that are most like the centre of its inputs: S × NEAREST × d_in, zeros where there
    is none. x: N × d_in, owners: (N,), earlier: E × d_in, left_out: S × E bool, or nobody."""
    count = int(owners.max()) + 1
    sizes = torch.bincount(owners, minlength=count)[:, None]
    centre = torch.zeros(count, x.shape[1]).index_add_(0, owners, x) / sizes
    keys = centre @ background.precision
    scores = keys @ earlier.T / (keys * centre).sum(1, keepdim=True)
    if left_out is not None:
        scores = scores.masked_fill(left_out, 0.0)
    best, places = scores.topk(min(NEAREST, len(earlier)), dim=1)
    return earlier[places] * (best > NEAR)[:, :, None]


def by_owner(x: torch.Tensor, owners: torch.Tensor, count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Each owner's inputs, padded with zeros: (count × K × d_in, count × K: 1 where there is one)."""
    order = owners.argsort(stable=True)
    sizes = torch.bincount(owners, minlength=count)
    place = torch.arange(len(owners)) - (sizes.cumsum(0) - sizes)[owners[order]]
    mine, taken = torch.zeros(count, int(sizes.max()), x.shape[1]), torch.zeros(count, int(sizes.max()))
    mine[owners[order], place], taken[owners[order], place] = x[order], 1.0
    return mine, taken


def _without(discriminants: torch.Tensor, against: torch.Tensor, background: BlockBackground) -> torch.Tensor:
    """d = (M + 1/n N^T N)^-1 x for each slot's own N, from M^-1 x by Woodbury's identity: C × C systems alone.

    against: S × C × d_in, each N's rows, scaled by the root of their weight in inputs of the background.
    """
    breathe()
    weighed = against @ background.precision  # S × C × d_in
    breathe()
    small = weighed @ against.transpose(1, 2)
    small.diagonal(dim1=1, dim2=2).add_(len(background.inputs))
    found = torch.linalg.solve(small, torch.einsum("scd,sd->sc", against, discriminants))
    return discriminants - torch.einsum("sc,scd->sd", found, weighed)
