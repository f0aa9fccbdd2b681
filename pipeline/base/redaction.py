"""Keeps secrets out of all text that people read: messages, logs, reports, metadata, commands.

What is hidden: user info and queries of URIs, wherever they stand; passwords and signatures of the
locations of this process; values of secrets in its environment and in fsspec's configuration; what
an object store wrote into an error, of which only its code is kept.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final
from urllib.parse import parse_qsl, quote, unquote

from .shell_words import shell_line

HIDDEN: Final = "***"
PLACEHOLDER: Final = "CREDENTIALS"
"""Stands in printed commands for what is hidden: the user must replace it."""
SHORTEST: Final = 8
"""Shorter values are not hidden in other texts: they could be ordinary words."""

_SCHEME: Final = re.compile(r"^([a-zA-Z][a-zA-Z0-9+.-]*)://")
_USER: Final = re.compile(r"([a-zA-Z][a-zA-Z0-9+.-]*)://([^/]*)@")
_VALUES: Final = re.compile(r"://[^?]*\?[^?]*=")
_USER_INFO: Final = re.compile(rf"(?<=://)(?!{PLACEHOLDER}@)[^/\s]*@")
_QUERY: Final = re.compile(rf"(://[^\s?]*)\?(?!{PLACEHOLDER})\S*")
_HEADER: Final = re.compile(
    r"((?:authorization|cookie|security-token|private-token|api-key)['\"]?\s*[:=]\s*['\"]?)"
    r"[^'\"\n]+",
    re.IGNORECASE,
)
"""A header of a request that holds credentials, with its value, as Python shows it."""
_SECRET_NAME: Final = re.compile(
    r"secret|passw|token|authoriz|auth_string|(api|private|account)_?key|credential|^key$|_s3_key$",
    re.IGNORECASE,
)
_NO_SECRET: Final = re.compile(
    r"(file|path|dir|folder|ur[il]|expiration|parallelism)s?$", re.IGNORECASE
)
_met: set[str] = set()


def redacted(text: str) -> str:
    """Return a text, such as a foreign error's, without secrets.

    >>> redacted("https://me:secret@host/in.zarr?X-Signature=ab")
    'https://***@host/in.zarr?***'
    """
    for secret in sorted(_known(), key=len, reverse=True):
        text = text.replace(secret, HIDDEN)
    text = _HEADER.sub(rf"\1{HIDDEN}", _USER_INFO.sub(f"{HIDDEN}@", text))
    return _QUERY.sub(rf"\1?{HIDDEN}", text)


def redacted_uri(uri: str) -> str:
    """Return a URI without user info and query; a local path is unchanged.

    Unlike :func:`redacted`, this knows where the URI ends, so spaces in it are safe.
    """
    match = _SCHEME.match(uri)
    if match is None:
        return uri
    authority, slash, path = uri[match.end() :].partition("/")
    user, at, host = authority.rpartition("@")
    if "?" in user:  # either a query or a password holds the "@": hide both
        return f"{match[0]}{HIDDEN}"
    shown, query, _ = f"{HIDDEN if at else ''}{at}{host}{slash}{path}".partition("?")
    return f"{match[0]}{shown}{query}{HIDDEN if query else ''}"


def has_secret(word: str) -> bool:
    """Return whether a word of a command holds credentials.

    A user name alone is one only over http, where it is a token; so is a query with values.

    >>> has_secret("sftp://me@host/in.zarr"), has_secret("--mask=https://me:secret@host/in.zarr")
    (False, True)
    """
    users = ((match[1].lower(), match[2]) for match in _USER.finditer(word))
    return (
        any(":" in user or scheme in ("http", "https") for scheme, user in users)
        or bool(_VALUES.search(word))
        or any(secret in word for secret in _known())
    )


def command_text(words: Sequence[str]) -> str:
    """Return a command to type, with a placeholder for each secret.

    >>> command_text(["overtile", "view", "https://me:secret@host/my out.zarr"])
    "overtile view 'https://CREDENTIALS@host/my out.zarr'"
    """
    shown = (redacted(redacted_uri(word)) for word in words)
    return shell_line(word.replace(HIDDEN, PLACEHOLDER) for word in shown)


def remember(uri: str) -> None:
    """Hide the secrets of a URI from now on in every text of this process."""
    authority, _, path = _SCHEME.sub("", uri).partition("/")
    user_info = authority.rpartition("@")[0]
    password = user_info.partition(":")[2]
    values = [value for _, value in parse_qsl(path.partition("?")[2])]
    is_token = uri.lower().startswith("http")
    users = (password, user_info if password or is_token else "")
    _met.update(text for text in users if len(text) >= SHORTEST)
    _met.update(value for value in values if len(value) >= 2 * SHORTEST)


def _known() -> set[str]:
    """Return the secrets of this process as they may be written: plain or quoted in a URI."""
    found = {*_met, *_named_secrets(os.environ)}
    if (configuration := sys.modules.get("fsspec.config")) is not None:
        found |= set(_named_secrets(configuration.conf))
    return found | {quote(one, safe="") for one in found} | {unquote(one) for one in found}


def _named_secrets(values: Mapping[str, Any]) -> Iterator[str]:
    """Yield the values of names that state a secret, also of mappings in mappings."""
    for name, value in list(values.items()):
        if isinstance(value, Mapping):
            yield from _named_secrets(value)
        elif isinstance(value, str) and _is_secret(str(name), value):
            yield from (value, *(one for one in value.split() if len(one) >= SHORTEST))


def _is_secret(name: str, value: str) -> bool:
    if len(value) < SHORTEST or not _SECRET_NAME.search(name) or _NO_SECRET.search(name):
        return False
    return not os.path.exists(value)  # the path of a file that holds it


@contextmanager
def clean_errors(hide: Callable[[str], str] = redacted) -> Iterator[None]:
    """Let errors pass without secrets in their text, or in that of their causes; types stay.

    hide: returns a text without secrets.
    """
    try:
        yield
    except Exception as error:
        clean(error, hide=hide)
        raise


def clean(error: BaseException, *, hide: Callable[[str], str] = redacted) -> None:
    """Remove secrets from an error and its causes, and what the store's server wrote."""
    chain = list(_chain(error))
    said = [answer for one in chain for answer in _answers(one)]
    for one in chain:
        _clean_request(one, hide)
        if any(_shows_secret(value, hide) for value in one.args):
            one.args = (str(one),)
        one.args = tuple(_cleaned(value, said, hide) for value in one.args)
        for name in ("strerror", "filename", "message"):  # of OSError; of aiohttp's errors
            value = getattr(one, name, None)
            if isinstance(value, str) and (text := _cleaned(value, said, hide)) != value:
                setattr(one, name, text)
    for one in chain:
        for answer in _answers(one):  # botocore makes the text again from it when it is unpickled
            answer["Message"] = f"the store answers {answer.get('Code')}"


class ForeignError(Exception):
    """Stands for an error of another package whose text cannot be changed."""


def cleaned(error: Exception, *, hide: Callable[[str], str] = redacted) -> Exception:
    """Return the cause to raise another error from: this one without secrets, or a stand-in."""
    clean(error, hide=hide)
    texts = [text for one in _chain(error) for text in (str(one), repr(one))]
    if [hide(text) for text in texts] == texts:
        return error
    stand_in = ForeignError(hide(f"{type(error).__name__}: {error}"))
    return stand_in.with_traceback(error.__traceback__)


def _clean_request(error: Any, hide: Callable[[str], str]) -> None:
    """Empty the headers in an error of aiohttp, where they are; then it can be pickled too."""
    request = getattr(error, "request_info", None)
    if isinstance(request, tuple) and hasattr(request, "real_url"):
        url, real_url = hide(str(request.url)), hide(str(request.real_url))  # type: ignore[attr-defined]
        error.request_info = request._replace(url=url, real_url=real_url, headers={})  # type: ignore[attr-defined]
        error.headers, error.history = None, ()
        error.args = (error.request_info, ())


def _shows_secret(value: Any, hide: Callable[[str], str]) -> bool:
    return not isinstance(value, str) and hide(text := repr(value)) != text


def _cleaned(value: Any, said: Sequence[Mapping[str, Any]], hide: Callable[[str], str]) -> Any:
    if not isinstance(value, str):
        return value
    for answer in said:
        message = answer.get("Message")
        if isinstance(message, str) and message and value.endswith(message):
            value = f"{value.removesuffix(message)}the store answers {answer.get('Code')}"
    return hide(value)


def _answers(error: BaseException) -> Iterator[dict[str, Any]]:
    """Yield what S3 answered, as botocore keeps it."""
    response = getattr(error, "response", None)
    answer = response.get("Error") if isinstance(response, dict) else None
    if isinstance(answer, dict):
        yield answer


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """Yield an error, its causes, and the errors during whose handling these were raised."""
    left, seen = [error], set[int]()
    while left:
        one = left.pop()
        if one is not None and id(one) not in seen:
            seen.add(id(one))
            yield one
            left += [one.__cause__, one.__context__]
