"""OIDC_RULES: what the holder of a token is here, by what the token says.

A list of rules in YAML or JSON; the first whose `when` fits a token takes it:

    - when: {groups: [users, admins]}     # `everyone`, or claims that all have to fit
      account: acme                       # the external_id of an account
      admin_when: {groups: admins}        # else a member
      user: {external_id: "{email}"}      # by default just that, else the subject

README.md says what each field means. Whatever is wrong is one line that names the place.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    TypeAdapter,
    ValidationError,
)

from colloquy_server.api.emails import address
from colloquy_server.api.identity_tokens import Claims
from colloquy_server.database.models import KeyRole
from colloquy_server.database.repository.users import Author
from colloquy_server.settings import SettingsError

_MAX_NAME = 255
_MAX_URL = 2_048
_CLAIM = re.compile(r"\{([^{}]+)\}")
_SPACED = ("scope", "scp")
"""Claims that are lists in one string (RFC 8693)."""

Value = str | int | bool


def _listed(value: object) -> object:
    return value if isinstance(value, list) else [value]


def _is_template(text: str) -> str:
    if set("{}") & set(_CLAIM.sub("", text)):
        raise ValueError("has a brace that does not enclose a claim's name")
    return text


_Values = Annotated[list[Value], BeforeValidator(_listed), Field(min_length=1)]
_Conditions = Annotated[dict[str, _Values], Field(min_length=1)]
_Template = Annotated[str, Field(min_length=1, max_length=1_024), AfterValidator(_is_template)]


class _Entry(BaseModel):
    """A mapping of the file; a key that it does not know is an error."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class _UserEntry(_Entry):
    """`user`: templates of what the server knows of a person."""

    external_id: _Template | None = None
    display_name: _Template = "{name}"
    avatar_url: _Template = "{picture}"


class _Rule(_Entry):
    """An entry of the list."""

    when: _Conditions | Literal["everyone"]
    account: _Template
    role: Literal["member", "admin", "service"] = "member"
    admin_when: _Conditions | None = None
    user: _UserEntry = _UserEntry()


_FILE = TypeAdapter(Annotated[list[_Rule], Field(min_length=1)])


@dataclass(frozen=True, slots=True)
class Identity:
    """Who somebody is here: of which account, by its external_id, and in which role. A service
    without a name of its own speaks for the account's default user."""

    account: str
    role: KeyRole
    user: Author


class IdentityRules:
    """The rules, in their order."""

    def __init__(self, rules: list[_Rule]) -> None:
        self._rules = rules

    @classmethod
    def load(cls, given: str) -> IdentityRules:
        """Reads a file, or the rules themselves: text of several lines, or in brackets.

        Raises SettingsError with one line that names the place.
        """
        is_inline = "\n" in given or given.lstrip().startswith(("[", "{"))
        try:
            text = given if is_inline else Path(given).read_text("utf-8")
        except (OSError, UnicodeDecodeError) as error:
            why = error.strerror if isinstance(error, OSError) else "not UTF-8"
            raise SettingsError(f"OIDC_RULES: {given}: {why}") from None
        place = "OIDC_RULES" if is_inline else f"OIDC_RULES: {given}"
        try:
            return cls(_FILE.validate_python(yaml.safe_load(text)))
        except yaml.MarkedYAMLError as error:
            line = f"line {error.problem_mark.line + 1}: " if error.problem_mark else ""
            raise SettingsError(f"{place}: {line}{error.problem or 'not YAML'}") from None
        except (yaml.YAMLError, RecursionError):
            raise SettingsError(f"{place}: not YAML") from None
        except ValidationError as error:
            first = error.errors(include_url=False, include_context=False)[0]
            raise SettingsError(f"{place}: {_where(first['loc'])}{_what(first['msg'])}") from None

    def identify(self, claims: Claims) -> Identity | None:
        """Who the holder of a token is; None when no rule takes it. What the rule that takes it
        asks for has to be in the token, too."""
        claims = _with_email(claims)
        for rule in self._rules:
            if rule.when != "everyone" and not _fit(rule.when, claims):
                continue
            account = _filled(rule.account, claims)
            user = _user(rule, claims)
            if not account or user is None:
                return None
            is_admin = rule.admin_when is not None and _fit(rule.admin_when, claims)
            return Identity(
                account, KeyRole.ADMIN if is_admin else KeyRole[rule.role.upper()], user
            )
        return None


def _user(rule: _Rule, claims: Claims) -> Author | None:
    template = rule.user.external_id
    if template is not None:
        external_id = _filled(template, claims)
    elif rule.role == "service" and rule.admin_when is None:
        return Author()  # the account's own
    else:
        external_id = _filled("{email}", claims) or _filled("{sub}", claims)
    if not external_id:
        return None
    avatar_url = _filled(rule.user.avatar_url, claims) or ""
    is_url = avatar_url.startswith(("https://", "http://")) and len(avatar_url) <= _MAX_URL
    return Author(
        external_id=external_id,
        display_name=(_filled(rule.user.display_name, claims, limit=None) or "")[:_MAX_NAME],
        avatar_url=avatar_url if is_url else "",
        email=_filled("{email}", claims) or "",
    )


def _with_email(claims: Claims) -> dict[str, Any]:
    """The claims with `email` in small letters and with `email_domain`; without both when nobody
    has verified the address."""
    found = {name: value for name, value in claims.items() if name != "email_domain"}
    email = found.pop("email", None)
    verified = found.get("email_verified")
    is_verified = verified is True or verified == "true"  # some providers write it so
    if is_verified and isinstance(email, str) and (known := address(email)):
        found["email"] = known
        found["email_domain"] = known.rpartition("@")[2]
    return found


def _fit(conditions: Mapping[str, list[Value]], claims: Claims) -> bool:
    return all(_has(claims, name, values) for name, values in conditions.items())


def _has(claims: Claims, name: str, values: list[Value]) -> bool:
    """Whether a claim is one of the values, or a list that holds one."""
    claim = _claim(claims, name)
    if name in _SPACED and isinstance(claim, str):
        claim = claim.split()
    held = claim if isinstance(claim, list) else [claim]
    return any(type(one) is type(value) and one == value for one in held for value in values)


def _claim(claims: Claims, name: str) -> object:
    """A claim by its name, which may have dots, or by its path within claims that are objects."""
    if name in claims:
        return claims[name]
    found: object = claims
    for part in name.split("."):
        if not isinstance(found, Mapping):
            return None
        found = found.get(part)
    return found


def _filled(template: str, claims: Claims, limit: int | None = _MAX_NAME) -> str | None:
    """A template with its claims; None when one is missing or the whole can be no name."""
    parts: list[str] = []
    end = 0
    for match in _CLAIM.finditer(template):
        value = _claim(claims, match[1])
        if isinstance(value, bool) or not isinstance(value, str | int) or value == "":
            return None
        parts += [template[end : match.start()], str(value)]
        end = match.end()
    text = "".join([*parts, template[end:]]).strip()
    is_name = text.isprintable() and (limit is None or len(text) <= limit)
    return text if text and is_name else None


def _where(path: tuple[int | str, ...]) -> str:
    """`rule 2, account: `; what pydantic adds for each kind that a value may be is left out."""
    if not path:
        return ""
    fields = [str(part) for part in path[1:] if not str(part).startswith(("dict[", "literal["))]
    number = int(path[0]) + 1 if isinstance(path[0], int) else path[0]
    return ", ".join([f"rule {number}", *([".".join(fields)] if fields else [])]) + ": "


def _what(message: str) -> str:
    return message.removeprefix("Value error, ")
