"""What each row has to reach. A row that is not named here informs."""

from __future__ import annotations

from bench.quality.targets import Target, at_least, at_most
from bench.trust.questions import KINDS, LATER, OTHERS, SAME

UNCHANGED, LEAKS = "unchanged: ", "target leaks into: "
JUST, ENDS = "… just the target, and ends", "… ends, does not loop"
FIRST_LINE = "… its first line is just the target"
TELL_BEFORE, TELL_AFTER = "tell me about: loops, before", "tell me about: loops, after"
GROUPS = {"plain": "groups: prompt, plain", "chat": "groups: prompt, chat"}
GROUPS_JUST = "groups: chat is just the target, and ends"
FAILED = "questions that got no answer"
ALWAYS = Target("= 1.00", lambda value: value >= 1.0)
REPHRASED = ("rephrased, plain", "rephrased, chat")
REPHRASED_WITH_ONE = at_least(0.93)  # where a caller's rephrase was posted

OF_ROWS: dict[str, Target] = {
    **dict.fromkeys(("prompt, plain", "prompt, chat", JUST), at_least(0.98)),
    **dict.fromkeys(
        (
            *("with a system prompt", "as the third turn", "after a greeting"),
            *("answer briefly", "in small letters", "without a question mark"),
        ),
        at_least(0.97),
    ),
    **dict.fromkeys(("in a paragraph, plain", "Q/A, plain"), at_least(0.95)),
    "rephrased, plain": at_least(0.88),
    "rephrased, chat": at_least(0.90),
    **{f"{UNCHANGED}{name}, {kind}": at_least(0.95) for name in SAME for kind in KINDS},
    **{f"{LEAKS}{name}, {kind}": at_most(0.03) for name in SAME for kind in KINDS},
    f"{LEAKS}{LATER}": at_most(0.05),
    **{f"{UNCHANGED}{OTHERS}, {kind}": ALWAYS for kind in KINDS},
    **dict.fromkeys((*GROUPS.values(), GROUPS_JUST), at_least(0.95)),
    FAILED: at_most(0.0),
}


def target_of(row: str, rephrase_posted: bool = False, loops_before: float = 0.0) -> Target | None:
    """What the row's share is to be; None: nothing.

    loops_before   share of answers that loop without the edits; with them no more may
    """
    if row == TELL_AFTER:
        return at_most(loops_before)
    if row in REPHRASED and rephrase_posted:
        return REPHRASED_WITH_ONE
    return OF_ROWS.get(row)
