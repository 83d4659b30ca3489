"""How consumers spell the codes of a SID as tokens: the one place that knows the marks.

Exports write these, a vocabulary adds them to a tokenizer, and `semid.ids` reads semid's own, which
are LC-Rec's: ``<a_41> <b_7> <c_203>``.
"""

from __future__ import annotations

from typing import NamedTuple

from semid.errors import SemidError


def level_name(level: int) -> str:
    """Return the letters of a level in tokens: a to z, then aa, ab and so on."""
    letters = ""
    level += 1
    while level:
        level, letter = divmod(level - 1, 26)
        letters = chr(ord("a") + letter) + letters
    return letters


class Spelling(NamedTuple):
    """The tokens of a consumer.

    before : what comes before a code's number, with ``{level}`` for the letters of its level
    after : what comes after it
    start, end : the tokens around a SID; empty for none
    width : codes per level, where numbers go on from one level to the next; else 0
    """

    before: str
    after: str
    start: str = ""
    end: str = ""
    width: int = 0

    def starts(self, length: int) -> list[str]:
        """Return what comes before the number at each of the first `length` levels."""
        return [self.before.format(level=level_name(level)) for level in range(length)]

    def first(self, level: int) -> int:
        """Return the number of a level's code 0."""
        return level * self.width

    def tokens(self, level: int, codes: int) -> list[str]:
        """Return the tokens of the first `codes` codes of a level.

        Raises
        ------
        SemidError
            When the level is wider than the consumer's: tokens would be those of the next one.
        """
        if self.width and codes > self.width:
            raise SemidError(
                f"level {level} has {codes:,} codes but these tokens have room for {self.width:,} "
                "at every level; train fewer codewords, or spell the tokens in another way"
            )
        before, first = self.before.format(level=level_name(level)), self.first(level)
        return [f"{before}{first + code}{self.after}" for code in range(codes)]


SPELLINGS = {
    "lcrec": Spelling("<{level}_", ">"),
    "openonerec": Spelling("<s_{level}_", ">", "<|sid_begin|>", "<|sid_end|>"),
    "semantic-ids-llm": Spelling("<|sid_", "|>", "<|sid_start|>", "<|sid_end|>", width=256),
}
OWN = SPELLINGS["lcrec"]
