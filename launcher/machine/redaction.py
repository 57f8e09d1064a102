"""Remove passwords and tokens from output: known ones in any spelling, others by the words before them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

# What no word before it need name: the shapes that issuers give their tokens and keys, and logins in their places.
_SECRET = re.compile(
    r"""
    -----BEGIN[ ][\w ]{0,40}PRIVATE[ ]KEY.*?(?:-----END[ ][\w ]{0,60}-----|\Z)
    | \b(?:
        eyJ[\w.+/=-]{8,}  # {" in base64: a JWT, or another token of JSON
        | (?:IQoJb3JpZ2lu|F[wQ]oGZXIvYXdz)[\w+/=]+  # a session of AWS
        | (?:gh[oprsu]_|github_pat_|hf_|hv[brs]\.|npm_|pypi-|[rs]k_(?:live|test)_|xapp-|xox[a-z][.-])[\w.-]{8,}
        | (?:gl(?:agent|cbt|dt|ffct|ft|imt|oas|pat|ptt|rt|soat)-|sk-[\w-]{8})[\w.-]{8,}
      )
    | (?<=\bbasic\s)(?=[\w+/-]{20}|[\w+/-]{0,99}(?:[\d=]|(?-i:[a-z][A-Z])))[^\s<"',]+  # no plain word
    | (?:(?<=\s-u)|(?<=\s-u\s)|(?<=-user[ =]))["']?[^\s:]{1,99}:(?!//)\S+  # curl's login
    | (?<=://)(?:[^\s/@:]{0,99}:\S{0,999}|[^\s/@]{1,999})(?=@)  # a URL's login
    """,
    re.DOTALL | re.IGNORECASE | re.VERBOSE,
)

# Behind an option, an identifier or "bearer" a blank is enough, but for a word of a sentence about it.
_OF_A_SENTENCE = r"""
    (?:an?|and|are|as|at|auth(?:entication|orization)?|be|but|by|can(?:not|'t)?|could|did|does|expired|for|from|had|has
    |have|if|in|invalid|is|may|missing|must|needs?|no|not|of|on|or|should|that|the|to|tokens?|unset|was|were|when|which
    |will|with|wrong)[,.;:)]?(?:\s|\Z)
"""
_NAMED_SECRET = re.compile(
    rf"""
    (?P<arn>\barn:aws[\w-]*:[\w:/.*@+-]+)  # what a message is about, though it may have such a word within
    | (?P<name>
        (?P<blank>(?<![\w-])(?:--?[\w-]{{0,32}}?|(?=\w{{0,40}}_)\w{{0,32}}?)|(?=bearer))?
        (?:
            secret(?!smanager)|token|pass(?:w(?:or)?[dt]|phrase|code|(?![a-z]))|kennwort|パスワード|pwd|pw(?![a-z])
            |authorization|bearer|cookie|(?:api|access|private)[ _-]?key(?![ _-]?id)
        )
        (?:[ ]access)?(?:[ ]key)?(?:\w|-(?!>)){{0,32}}+
        (?:[ ](?:for|of)(?:[ ](?:"[^"]{{0,99}}"|'[^']{{0,99}}'|[^\s:="']{{1,99}})){{1,2}}(?=\s?:))?
    )
    (?!\W{{0,9}}arn:aws)
    (?:
        [^<>]{{0,99}}+(?<![=-])>[^<]+  # an element of XML
        | (?:[\\"']{{0,4}}\s{{0,9}}(?::=?(?!//)|[=-]?>|=)\s{{0,9}}|\s{{1,9}}(?=["']))
          (?:"(?:\\.|[^"\\])*"?|'(?:\\.|[^'\\])*'?|(?:(?:basic|bearer|digest|negotiate|token)\W{{1,2}})?[^\s<]+)
        | (?(blank)\s{{1,9}}(?!{_OF_A_SENTENCE})[^\s<]+|(?!))
    )
    """,
    re.IGNORECASE | re.VERBOSE,
)


def without_secrets(text: str) -> str:
    """Return a stranger's text with `***` for what it names as a password, token or key, or what looks like one.

    These secrets are not known, so it rather hides too much. What is denied stays: the names of actions and resources.
    """
    return _NAMED_SECRET.sub(lambda found: found["arn"] or f"{found['name']} ***", _SECRET.sub("***", text))


# From here on word for word the same in both packages, which never import each other.

_SHORT, _LONG = 4, 64

# Where a short secret is used as a password: after that word, or in a URL.
_BEHIND = r"((?i:password)(?:\\{0,16}[^\w\\]){1,6}?(?:[eEnN]')?|://[^\s/@:]*:(?:\\{0,16}[\"'])??)"

_RUNS = re.compile(r"\\+|[\"']+|\s+|.", re.DOTALL)
_GROWS = {"\\": 16, '"': 24, "'": 24}
"""How many characters an escaped one of these may become; bounded, so that no line takes long."""
_ESCAPE = r"\\{1,16}"
# A run of blanks is often shown as one; the first alternative is a numbered next line of a statement.
_BLANK = rf"\n[ \t]*(?:\d+ )?\| ?|{_ESCAPE}[nrtfv]|\\{{0,16}}\s|\+"
# A line cut short, also by libpq, may hold part of a secret; the cut may split a character's spelling.
_ELLIPSES = ("...", "…")
_BEFORE_CUT, _AFTER_CUT = (
    rf"(?:{_ESCAPE}\w{{0,8}}|[%&][\w#]{{0,8}}){{0,3}}(?=\.\.\.|…)",
    r"(?:(?<=\.\.\.)|(?<=…))\w{0,3}",
)
_LEAST_PART = 3

_NAMED = {"&": "amp", "<": "lt", ">": "gt", '"': "quot", "'": "apos"}
_DOUBLED = frozenset("%${}")


class Redactor:
    """Removes secrets from text, in any spelling.

    A secret that is short, or part of a name that messages show anyway, is hidden only where it is used as a
    password: elsewhere its stars would garble the message, and reveal what they hide.
    """

    def __init__(self, names: str = "") -> None:
        """Start with nothing to hide.

        Args:
            names: names that messages show anyway.
        """
        self._names = names
        self._secrets: frozenset[str] = frozenset()
        self._pattern: re.Pattern[str] | None = None
        self._cut: re.Pattern[str] | None = None

    def hide(self, secret: str | None) -> None:
        """Hide this from now on, and each of its lines: a message may quote only one."""
        parts = {part.strip() for part in (secret or "", *(secret or "").splitlines())} - {""}
        if not parts <= self._secrets:
            self._secrets |= parts
            self._pattern = self._cut = None

    def text(self, text: str) -> str:
        """Return the text with `***` for every secret."""
        if not self._secrets:
            return text
        pattern = self._pattern
        if pattern is None:
            pattern = self._pattern = self._compiled()
        text = pattern.sub(lambda found: f"{found[1] if found.lastindex else ''}***", text)
        if not any(ellipsis in text for ellipsis in _ELLIPSES):
            return text
        cut = self._cut
        if cut is None:
            cut = self._cut = re.compile("|".join(map(_part, self._long_ones())) or r"(?!)")
        return cut.sub("***", text)

    def value(self, value: Any) -> Any:
        """Redact every string in a JSON value."""
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, Mapping):
            return {key: self.value(item) for key, item in value.items()}
        return [self.value(item) for item in value] if isinstance(value, list | tuple) else value

    def _long_ones(self) -> list[str]:
        # The longest first: a secret may begin with another.
        secrets = sorted(self._secrets, key=len, reverse=True)
        return [each for each in secrets if len(each) >= _SHORT and each not in self._names]

    def _compiled(self) -> re.Pattern[str]:
        patterns = [_spelled(each) for each in self._long_ones()]
        if short := sorted(self._secrets.difference(self._long_ones()), key=len, reverse=True):
            patterns.append(rf"{_BEHIND}(?:{'|'.join(map(_spelled, short))})(?!\w)")
        return re.compile("|".join(patterns))


def _spelled(secret: str) -> str:
    """Return a regular expression for the secret, each character in any spelling, also in several at once."""
    return "".join(_parts(secret))


def _part(secret: str) -> str:
    """Return one for its beginning before an ellipsis, and for its end after one."""
    parts = _parts(secret)
    first, more = parts[:_LEAST_PART], parts[_LEAST_PART:]
    before, last = parts[:-_LEAST_PART], parts[-_LEAST_PART:]
    beginning = "".join(first) + "".join(f"(?:{part}" for part in more) + ")?" * len(more)
    end = "(?:" * len(before) + "".join(f"{part})?" for part in before) + "".join(last)
    return f"{beginning}{_BEFORE_CUT}|{_AFTER_CUT}{end}"


def _parts(secret: str) -> list[str]:
    shown = any(character.isprintable() for character in secret)
    head, tail = secret[:_LONG], secret[_LONG:]
    # Text that begins with this much of it is the secret, which runs on to a blank or quote.
    long = tail and re.fullmatch(r"[^\s\"']+", tail)
    parts = []
    for run in _RUNS.findall(head if long else secret):
        first, kinds, blank, times = run[0], set(run), "", ""
        # Terminal escaping leaves it out.
        hidden = shown and not any(each.isprintable() or each == "\t" for each in kinds)
        if first.isspace():
            kinds, blank, times = kinds | {" "}, f"{_BLANK}|", "{0,64}" if hidden else "{1,64}"
        elif first in _GROWS:
            # A shell word has each kind of quote inside the other.
            kinds = {first} if first == "\\" else {"'", '"'}
            times = f"{{{len(run)},{_GROWS[first] * len(run)}}}"
        elif hidden:
            times = "?"
        ways = "|".join(map(_ways, sorted(kinds)))
        # A blank has several readings; a run of them would have too many to try.
        parts.append(f"(?{'>' if first.isspace() else ':'}{blank}{ways}){times}")
    return [*parts, *[r"[^\s\"']*"] * bool(long)]


def _ways(character: str) -> str:
    """Return how a character may be spelled: as it is, in a URL, escaped by some language, in HTML."""
    code = ord(character)
    data = character.encode("utf-8", "surrogatepass")
    percent = "".join(f"%(?:25)*{byte:02x}" for byte in data)
    if character.isascii() and character.isalnum():
        return f"{character}|(?i:{percent})"
    escaped = [rf"(?:[xu]|\+)?0{{0,6}}{code:x}", _ESCAPE.join(f"{byte:03o}" for byte in data)]
    if not character.isascii():
        high, low = divmod(code - 0x10000, 0x400)
        units = [f"{code:04x}"] if code < 0x10000 else [f"{0xD800 + high:04x}", f"{0xDC00 + low:04x}"]
        escaped += [_ESCAPE.join(f"u{unit}" for unit in units), _ESCAPE.join(f"x{byte:02x}" for byte in data)]
    named = f"{_NAMED[character]}|" if character in _NAMED else ""
    encoded = f"{percent}|{_ESCAPE}(?:{'|'.join(escaped)})|&(?:amp;)*(?:{named}#0*{code}|#x0*{code:x});"
    plain = r"\\" if character == "\\" else rf"\\{{0,16}}{re.escape(character)}"
    # An encoded form may begin with the character, so it is tried first.
    return f"(?i:{encoded})|{plain}{'{1,8}' if character in _DOUBLED else ''}"
