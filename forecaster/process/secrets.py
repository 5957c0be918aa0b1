"""Keep secrets out of the list of processes, out of errors and reports, and terminals as they are."""

import os
import re
import sys
from collections.abc import Iterator, Mapping, MutableMapping, Sequence
from types import TracebackType

_OPTION = "--database-url"
_MASK = "***"
_READABLE = 2_000  # characters
_PATTERN = "PASSWORD@HOST"  # of our own messages

# No pattern here takes more than a time that grows with the text, whatever is in it: names are bounded, and
# what follows one ends where the next can begin.
_WORD = re.compile(r"\S+")
# A password that has a blank in it, after a user's name; a port ends sooner.
_CUT_IN_TWO = re.compile(r":/{1,2}[^/@:\s]{1,64}:(?!\d{1,5}(?:[/?,;)'\"\s]|$))[^\s@]{0,256}\s")
_SLASHES = re.compile(r":/{1,2}")  # one, too: as a path, a URL has lost the other
_SCHEME = re.compile(r"[A-Za-z][\w+.-]{0,19}$")
# A time and the scheme of an e-mail address are no user's name.
_BARE = re.compile(r"[('\"<\[]*(?!mailto:|\d{1,2}:\d\d)[\w.%+-]{1,64}:(?=[^\s/'\"])", re.IGNORECASE)
_LONGEST_SCHEME = 20
_END_OF_HOST = re.compile(r"[/?#]")
_SIGNATURE = re.compile(
    r"(?P<name>(?:(?<![\w-])|(?<=%26)|(?<=%3f))(?:x-(?:amz|goog)-(?:signature|credential|security-token)|awsaccesskeyid|googleaccessid"
    r"|sig|signature|(?:access|auth|session)_?token|client_?secret|aws_secret_access_key)(?:=|%3d))"
    r"(?P<value>[^&\s\"<>`]*)",
    re.IGNORECASE,
)
_AS_KEYWORD = re.compile(r"(pass(?:word|wd|phrase)\s*=\s*)(?!\*\*\*)(?:'(?:[^'\\]|\\.)*'|\S+)", re.IGNORECASE)
_ENDS_A_QUOTATION = ")]}.,:;'"
# In their paths an @ and a colon mean nothing; anywhere else they may be part of a password.
_STORES = frozenset({"http", "https", "s3", "s3a", "gs", "gcs", "az", "azure", "abfs", "abfss", "hf", "file"})
_WEB = ("http", "https")
_HARMLESS = frozenset(
    {
        "sslmode",
        "sslrootcert",
        "application_name",
        "connect_timeout",
        "options",
        "host",
        "port",
        "user",
        "dbname",
        "requirepeer",
        "keepalives",
        "keepalives_idle",
        "keepalives_interval",
        "keepalives_count",
        "tcp_user_timeout",
        "target_session_attrs",
        "client_encoding",
    }
)
# A harmless value ends where a fragment begins; in any other # may be a part of the secret.
_PARAMETER = re.compile(
    rf"(?P<name>[?&#](?:(?P<harmless>(?:{'|'.join(_HARMLESS)})(?==))|[\w.~-]{{1,64}})=)"
    r"(?P<value>(?(harmless)[^&#\s\"<>`]*|[^&\s\"<>`]*))",
    re.IGNORECASE,
)
# Escape sequences, line ends that hide what was before, and marks that turn the direction of reading.
_OBEYED = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u2064\u2066-\u2069\ufeff]"
)


def hide_password() -> None:
    """Start the program anew with the URL in DATABASE_URL, if the command line has one.

    Everyone on the machine can read a command line; the environment only the user can.
    """
    arguments = without_url(sys.orig_argv, os.environ)
    if arguments:
        os.execv(sys.executable, [sys.executable, *arguments[1:]])  # noqa: S606 - ourselves, no shell


def without_secrets(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Say what Python says of an error that nobody has foreseen, as `sys.excepthook`."""
    import traceback  # noqa: PLC0415 - not needed if all goes well

    sys.stderr.write(shown("".join(traceback.format_exception(kind, error, trace))))


def without_url(arguments: Sequence[str], environ: MutableMapping[str, str]) -> list[str] | None:
    """The arguments with an empty URL, so that the one in `environ` is used; None if it is so already.

    Any URL: whether there is a password in it, and where, one that cannot be read does not say.
    """
    kept = list(arguments)
    end = kept.index("--") if "--" in kept else len(kept)
    given = None
    for at, argument in enumerate(kept[:end]):
        if argument == _OPTION and at + 1 < len(kept):
            given, kept[at + 1] = kept[at + 1], ""
        elif argument.startswith(f"{_OPTION}="):
            given, kept[at] = argument.partition("=")[2], f"{_OPTION}="
    if kept == list(arguments):
        return None
    if given:
        environ["DATABASE_URL"] = given
    return kept


def masked(text: str) -> str:
    """`text` without the secrets in it, told by where they stand, so that no other word is touched.

    That is the password of a URL or of libpq's keywords, the token that stands before a web address's host,
    and what a query or a fragment gives, unless it is known to be harmless: signatures have many names.
    """
    if any(sign in text for sign in "@?#"):
        text = "\n".join(map(_joined, text.split("\n")))
        text = _WORD.sub(lambda word: _without_query(_without_password(word[0])), text)
    if "=" in text:
        text = _AS_KEYWORD.sub(rf"\1{_MASK}", text)
    if "=" in text or "%3" in text:
        text = _SIGNATURE.sub(_without_value, text)
    return text


def all_masked(value: object) -> object:
    """The same for each text in lists and dictionaries, before it is written as JSON."""
    if isinstance(value, str):
        return masked(value)
    if isinstance(value, Mapping):
        return {name: all_masked(member) for name, member in value.items()}
    if isinstance(value, list | tuple):
        return [all_masked(member) for member in value]
    return value


def plain(text: str) -> str:
    """`text` with what a terminal obeys, and what changes the order of letters, made visible."""
    return _OBEYED.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def one_line(name: str) -> str:
    """A name that somebody else chose, so that it cannot begin a line of ours."""
    return plain(name).replace("\n", "\\n").replace("\t", "\\t")


def shown(text: str) -> str:
    """As it may be printed, whoever wrote it."""
    return plain(masked(text))


def brief(text: str) -> str:
    """What another program says, as one line that is not too long to be read, without secrets."""
    line = " ".join(text.split())
    return masked(line if len(line) <= _READABLE else f"{line[:_READABLE]} ...")


def _joined(line: str) -> str:
    """A line in which no password has blanks."""
    cut, at = _CUT_IN_TWO.search(line), line.rfind("@")
    if cut is None or at < cut.end():
        return line
    return f"{line[: line.index(':', cut.start() + 2) + 1]}{_MASK}{line[at:]}"


def _without_password(word: str) -> str:
    """A word in which URLs may be, without what stands between a user's name and the host."""
    if "@" not in word:
        return word
    return "".join(_parts(word))


def _parts(word: str) -> Iterator[str]:
    at = 0
    for slashes in _SLASHES.finditer(word):
        if slashes.start() < at:
            continue
        begin = slashes.end()
        yield word[at:begin]
        scheme = _SCHEME.search(word, max(at, slashes.start() - _LONGEST_SCHEME), slashes.start())
        if scheme is None or scheme[0].lower() not in _STORES:
            # Up to the last @, because whoever wrote a password may not have encoded what is in it.
            yield _without_userinfo(word[begin:])
            return
        end = _END_OF_HOST.search(word, begin)
        at = end.start() if end else len(word)
        yield _without_userinfo(word[begin:at], is_token=scheme[0].lower() in _WEB)
    bare = None if at else _BARE.match(word)
    yield _without_userinfo(word) if bare else word[at:]


def _without_userinfo(text: str, *, is_token: bool = False) -> str:
    """Without the password before the last @; a token without a user's name is one, too."""
    user, colon, password = text[: text.rfind("@") + 1].partition(":")
    host = text[text.rfind("@") + 1 :]
    if colon:
        kept = f"{password}{host}".startswith(_PATTERN)
        return text if kept else f"{user}:{_MASK}@{host}"
    return f"{_MASK}@{host}" if is_token and user else text


def _without_query(word: str) -> str:
    where, mark, query = word.partition("?")
    given = mark + query
    # In what begins with it, and in a path of this machine, # begins no fragment; Polars names a place in a
    # store without its scheme.
    if ":/" in where or where.lstrip("('\"[")[:1] not in ("", "/", ".", "#"):
        where, sharp, fragment = where.partition("#")
        given = sharp + fragment + given
    return where + _PARAMETER.sub(_without_value, given)


def _without_value(given: re.Match[str]) -> str:
    name, value = given["name"], given["value"]
    if not value or name.strip("?&#=").lower() in _HARMLESS:
        return given[0]
    return f"{name}{_MASK}{value[len(value.rstrip(_ENDS_A_QUOTATION)) :]}"
