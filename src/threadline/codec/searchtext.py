"""What is searched and how: one meaning on every backend.

A text is folded (compatibility forms, case and accents gone) and cut into words at everything that is
no letter or digit; a letter of a script that is written without spaces is a word of its own. A query is
data: it is split at white space, and a message matches when it holds each part, as neighbouring whole words and,
so that `%`, `_` or `C++` are themselves, letter for letter in the folded text. Quotation marks around a part are
let go. Backends index `words(text)` and find those that hold every one of `Query.words`; `Query.matches` decides.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from itertools import filterfalse

#: Longest text that is searched, in characters; what stands behind it is stored but not found.
MAX_TEXT = 256 * 1024
#: Longest query, in characters.
MAX_QUERY = 4096
#: How many words of a query a store looks up; the others are checked on what it finds.
LOOKED_UP = 16

# Han, kana, bopomofo, hangul is spaced; Thai, Lao, Myanmar, Khmer, Tibetan: written without spaces.
_UNSPACED = (
    "\u0e00-\u0eff\u0f00-\u109f\u1780-\u17ff\u2e80-\u2fdf\u3005-\u3007\u3040-\u312f\u31a0-\u31ff"
    "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
)
_WORD = re.compile(rf"[{_UNSPACED}]|(?:(?![{_UNSPACED}])[^\W_])+")
#: The same for a text of ASCII alone, in a tenth of the time: what is no letter or digit becomes a space.
_SPACED = "".join(chr(each) if chr(each).isalnum() else " " for each in range(128))
_QUOTES = "\"'\u2018\u2019\u201c\u201d\u00ab\u00bb\u300c\u300d`"


def fold(text: str) -> str:
    """The text as it is compared: compatibility forms (NFKD), no accents, no case."""
    if text.isascii():
        return text.lower()
    spread = unicodedata.normalize("NFKD", unicodedata.normalize("NFKD", text).casefold())
    return unicodedata.normalize("NFC", "".join(filterfalse(_is_accent, spread)))


def _is_accent(letter: str) -> bool:
    # Accents (class 200 and up) and Hebrew and Arabic points go; the voicing marks of kana and the vowel signs of
    # Indic and Thai script, which make another letter, stay (Unicode Standard, 4.3).
    position = unicodedata.combining(letter)
    return position >= 200 or 10 <= position <= 36


def words(text: str) -> str:
    """The words of a text with one space between them: what a backend indexes. Empty when there are none."""
    return _words(fold(text[:MAX_TEXT]))


def _words(folded: str) -> str:
    found = folded.translate(_SPACED).split() if folded.isascii() else _WORD.findall(folded)
    return " ".join(found)


def is_words(text: str) -> bool:
    """Whether a text is what `words` makes of one, and not empty."""
    return bool(text) and _words(fold(text)) == text


@dataclass(frozen=True, slots=True)
class Query:
    """A search as it was asked: its parts, folded, and each part's neighbouring words."""

    parts: tuple[str, ...]
    phrases: tuple[str, ...]

    @property
    def words(self) -> tuple[str, ...]:
        """What a store looks up: the first words, each once; none when the query has no word at all (`"%"`), so
        that only a scan can answer it."""
        found = dict.fromkeys(word for phrase in self.phrases for word in phrase.split())
        return tuple(found)[:LOOKED_UP]

    def matches(self, text: str) -> bool:
        """Whether a text (not folded) holds every part."""
        folded = fold(text[:MAX_TEXT])
        spaced = f" {_words(folded)} "
        return all(part in folded for part in self.parts) and all(
            f" {phrase} " in spaced for phrase in self.phrases
        )


def read_query(search: str) -> Query | None:
    """The query in a user's text; None when it holds nothing to look for.

    Raises TypeError unless it is a str, ValueError when it is longer than 4,096 characters.
    """
    if not isinstance(search, str):
        raise TypeError(f"search must be a str, not {type(search).__name__}")
    if len(search) > MAX_QUERY:
        raise ValueError(
            f"search is {len(search)} characters long; at most {MAX_QUERY} are allowed"
        )
    parts = []
    for part in search.split():
        bare = fold(part.strip(_QUOTES)) or fold(part)
        if bare and bare not in parts:
            parts.append(bare)
    if not parts:
        return None
    phrases = tuple(phrase for part in parts if (phrase := _words(part)))
    return Query(tuple(parts), phrases)
