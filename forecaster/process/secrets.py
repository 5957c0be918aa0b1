"""Keep secrets out of the process list, errors and reports, and control characters out of terminals."""

import os
import re
import sys
from collections.abc import Iterator, Mapping, MutableMapping, Sequence
from types import TracebackType

_OPTION = "--database-url"
_MASK = "***"
_READABLE = 2_000  # characters
_PATTERN = "PASSWORD@HOST"  # in this program's own messages

# Each pattern takes time linear in the text, whatever the text: names are bounded, and what follows a name
# ends where the next one can begin.
_WORD = re.compile(r"\S+")
# A password with a blank in it, after a user name; a port number is shorter.
_CUT_IN_TWO = re.compile(r":/{1,2}[^/@:\s]{1,64}:(?!\d{1,5}(?:[/?,;)'\"\s]|$))[^\s@]{0,256}\s")
_SLASHES = re.compile(r":/{1,2}")  # one, too: a URL that was made a path has lost the other
_SCHEME = re.compile(r"[A-Za-z][\w+.-]{0,19}$")
# A time and the scheme of an e-mail address are not user names.
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
# In paths of these stores, @ and : have no meaning; anywhere else they may be part of a password.
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
# A harmless value ends where a fragment begins; in other values # may be part of the secret.
_PARAMETER = re.compile(
    rf"(?P<name>[?&#](?:(?P<harmless>(?:{'|'.join(_HARMLESS)})(?==))|[\w.~-]{{1,64}})=)"
    r"(?P<value>(?(harmless)[^&#\s\"<>`]*|[^&\s\"<>`]*))",
    re.IGNORECASE,
)
# Escape sequences, line ends that overwrite a line, and marks that change the direction of reading.
_CONTROL = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u2064\u2066-\u2069\ufeff]"
)


def hide_password() -> None:
    """Restart the program with the URL in DATABASE_URL if the command line has one.

    Every user of the machine can read a command line; only its own user can read the environment.
    """
    arguments = without_url(sys.orig_argv, os.environ)
    if arguments:
        os.execv(sys.executable, [sys.executable, *arguments[1:]])  # noqa: S606 - ourselves, no shell


def without_secrets(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Print a traceback without secrets; for `sys.excepthook`."""
    import traceback  # noqa: PLC0415 - not needed if all goes well

    sys.stderr.write(shown("".join(traceback.format_exception(kind, error, trace))))


def without_url(arguments: Sequence[str], environ: MutableMapping[str, str]) -> list[str] | None:
    """Move the URL from the arguments to `environ`: return the arguments with an empty URL.

    Returns None if the arguments have no URL. Any URL is moved: if it cannot be parsed, nothing tells whether
    it has a password.
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
    """Replace the secrets in `text` by ***. They are found by their position, so other words stay.

    Secrets are the password of a URL or of libpq's keywords, the token before the host of a web address, and
    the values in a query or fragment unless their names are known to be harmless: signatures have many names.
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
    """Mask every text in nested lists and dictionaries, before they are written as JSON."""
    if isinstance(value, str):
        return masked(value)
    if isinstance(value, Mapping):
        return {name: all_masked(member) for name, member in value.items()}
    if isinstance(value, list | tuple):
        return [all_masked(member) for member in value]
    return value


def plain(text: str) -> str:
    """Escape the characters that control a terminal or change the direction of reading."""
    return _CONTROL.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def one_line(name: str) -> str:
    """Escape a name that another user chose, so that it cannot start a line of this program's output."""
    return plain(name).replace("\n", "\\n").replace("\t", "\\t")


def shown(text: str) -> str:
    """Mask and escape a text of any origin for printing."""
    return plain(masked(text))


def brief(text: str) -> str:
    """Shorten the text of another program to one readable line, without secrets."""
    line = " ".join(text.split())
    return masked(line if len(line) <= _READABLE else f"{line[:_READABLE]} ...")


def _joined(line: str) -> str:
    """Mask a password that has blanks, so that the line can be split into words."""
    cut, at = _CUT_IN_TWO.search(line), line.rfind("@")
    if cut is None or at < cut.end():
        return line
    return f"{line[: line.index(':', cut.start() + 2) + 1]}{_MASK}{line[at:]}"


def _without_password(word: str) -> str:
    """Mask the passwords of the URLs in a word: the part between the user name and the host."""
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
            # Up to the last @, because an @ in the password may not have been encoded.
            yield _without_userinfo(word[begin:])
            return
        end = _END_OF_HOST.search(word, begin)
        at = end.start() if end else len(word)
        yield _without_userinfo(word[begin:at], is_token=scheme[0].lower() in _WEB)
    bare = None if at else _BARE.match(word)
    yield _without_userinfo(word) if bare else word[at:]


def _without_userinfo(text: str, *, is_token: bool = False) -> str:
    """Mask the password before the last @; a token without a user name counts as one."""
    user, colon, password = text[: text.rfind("@") + 1].partition(":")
    host = text[text.rfind("@") + 1 :]
    if colon:
        kept = f"{password}{host}".startswith(_PATTERN)
        return text if kept else f"{user}:{_MASK}@{host}"
    return f"{_MASK}@{host}" if is_token and user else text


def _without_query(word: str) -> str:
    where, mark, query = word.partition("?")
    given = mark + query
    # At the start of a word, and in a local path, # does not start a fragment. Polars names a place in a
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
