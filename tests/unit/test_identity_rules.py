"""OIDC_RULES: which account, role and user follow from a token's claims."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from colloquy_server.api.identity_rules import Identity, IdentityRules
from colloquy_server.database.models import KeyRole
from colloquy_server.database.repository.users import Author
from colloquy_server.settings import SettingsError

from tests.readme import README

MIA: dict[str, Any] = {
    "sub": "s-1",
    "email": "Mia@Acme.example",
    "email_verified": True,
    "name": "Mia",
}


def identify(rules: list[dict[str, Any]], claims: dict[str, Any]) -> Identity | None:
    return IdentityRules.load(json.dumps(rules)).identify(claims)


def user(rule: dict[str, Any], claims: dict[str, Any]) -> str | None:
    found = identify([{"when": "everyone", "account": "acme", **rule}], claims)
    return found.user.external_id if found else None


def test_a_person_is_a_member_known_by_the_verified_address() -> None:
    claims = {**MIA, "picture": "https://acme.example/mia.png"}
    assert identify([{"when": "everyone", "account": "acme"}], claims) == Identity(
        "acme",
        KeyRole.MEMBER,
        Author(
            "",
            "mia@acme.example",
            "Mia",
            "https://acme.example/mia.png",
            email="mia@acme.example",
        ),
    )


@pytest.mark.parametrize(
    ("claims", "external_id"),
    [
        ({}, "mia@acme.example"),
        ({"email_verified": "true"}, "mia@acme.example"),
        ({"email": " MIA@acme.example "}, "mia@acme.example"),
        ({"email_verified": False}, "s-1"),
        ({"email_verified": "false"}, "s-1"),
        ({"email_verified": None}, "s-1"),
        ({"email_verified": 1}, "s-1"),
        ({"email": "mia"}, "s-1"),
        ({"email": "mia@acme.example\nx@y"}, "s-1"),
        ({"email": ["mia@acme.example"]}, "s-1"),
        # KELVIN SIGN, whose small letter is the k of ASCII: this is somebody else.
        ({"email": "mi\u212aa@acme.example"}, "mi\u212aa@acme.example"),
        ({"email_verified": False, "sub": "x" * 256}, None),
        ({"email_verified": False, "sub": "a\x00b"}, None),
        ({"email_verified": False, "sub": ""}, None),
    ],
)
def test_who_somebody_is(claims: dict[str, Any], external_id: str | None) -> None:
    assert user({}, {**MIA, **claims}) == external_id


def test_templates_take_claims_and_refuse_tokens_without_them() -> None:
    slack = "slack:{https://slack.com/team_id}:{https://slack.com/user_id}"
    claims = {**MIA, "https://slack.com/team_id": "T1", "https://slack.com/user_id": "U2"}
    assert user({"user": {"external_id": slack}}, claims) == "slack:T1:U2"
    assert user({"user": {"external_id": slack}}, MIA) is None
    assert user({"user": {"external_id": "{ids.oid}"}}, {**MIA, "ids": {"oid": "o"}}) == "o"
    assert user({"user": {"external_id": "{ids}"}}, {**MIA, "ids": {"oid": "o"}}) is None
    assert user({"user": {"external_id": "{ids}"}}, {**MIA, "ids": ["a"]}) is None


def test_an_unverified_address_is_no_claim() -> None:
    rule = {"user": {"external_id": "{email}"}}
    assert user(rule, {**MIA, "email_verified": False}) is None
    domain: dict[str, Any] = {"when": {"email_domain": "acme.example"}, "account": "acme"}
    assert identify([domain], MIA) is not None
    assert identify([domain], {**MIA, "email_verified": False}) is None
    assert identify([domain], {"sub": "s", "email_domain": "acme.example"}) is None


def test_the_first_rule_that_fits_takes_a_token() -> None:
    rules: list[dict[str, Any]] = [
        {"when": {"groups": ["ops", "admins"], "hd": "acme.example"}, "account": "ops"},
        {"when": {"groups": "staff"}, "account": "tenant:{tid}"},
        {"when": "everyone", "account": "rest"},
    ]

    def account(**claims: Any) -> str | None:
        found = identify(rules, {**MIA, **claims})
        return found.account if found else None

    assert account(groups=["staff", "ops"], hd="acme.example") == "ops"
    assert account(groups=["staff", "ops"], tid="t1") == "tenant:t1"
    assert account(groups="staff", tid="t1") == "tenant:t1"
    assert account(groups=["staff"]) is None, "what the rule that fits asks for is missing"
    assert account(groups=["xstaff"]) == "rest"
    assert identify(rules[:2], MIA) is None


@pytest.mark.parametrize(
    ("condition", "claims", "fits"),
    [
        ({"n": 1}, {"n": True}, False),
        ({"n": True}, {"n": 1}, False),
        ({"n": "1"}, {"n": 1}, False),
        ({"realm_access.roles": "staff"}, {"realm_access": {"roles": ["staff"]}}, True),
        ({"https://acme.example/roles": "staff"}, {"https://acme.example/roles": ["staff"]}, True),
        ({"scope": "chat"}, {"scope": "openid chat"}, True),
        ({"scope": "chat"}, {"scope": "openid chatter"}, False),
        ({"groups": "staff"}, {"groups": "staff other"}, False),
        ({"groups": "staff"}, {"groups": {"staff": True}}, False),
    ],
)
def test_conditions(condition: dict[str, Any], claims: dict[str, Any], fits: bool) -> None:
    rule = {"when": condition, "account": "acme"}
    assert (identify([rule], {**MIA, **claims}) is not None) == fits


def test_roles() -> None:
    def role(rule: dict[str, Any], **claims: Any) -> tuple[KeyRole, str]:
        rule = {"when": "everyone", "account": "acme", **rule}
        found = identify([rule], {**MIA, **claims})
        assert found is not None
        return found.role, found.user.external_id

    admins = {"admin_when": {"groups": "admins"}}
    assert role({}) == (KeyRole.MEMBER, "mia@acme.example")
    assert role(admins, groups=["admins"]) == (KeyRole.ADMIN, "mia@acme.example")
    assert role(admins, groups=["staff"]) == (KeyRole.MEMBER, "mia@acme.example")
    assert role({"role": "admin"})[0] == KeyRole.ADMIN
    assert role({"role": "service"}) == (KeyRole.SERVICE, "")
    named = {"role": "service", "user": {"external_id": "job:{sub}"}}
    assert role(named) == (KeyRole.SERVICE, "job:s-1")
    assert role({}, role="service", roles=["service"])[0] == KeyRole.MEMBER


def test_names_and_pictures_fit_the_api() -> None:
    def said(**claims: Any) -> tuple[str, str]:
        found = identify([{"when": "everyone", "account": "a"}], {**MIA, **claims})
        assert found is not None
        return found.user.display_name, found.user.avatar_url

    assert said(name="n" * 300) == ("n" * 255, "")
    assert said(name="a\x00b") == ("", "")
    assert said(name=None) == ("", "")
    assert said(picture="javascript:alert(1)") == ("Mia", "")
    assert said(picture="https://x/" + "p" * 2_048) == ("Mia", "")


GOOD = "- {when: everyone, account: acme}\n"


def test_rules_are_a_file_or_stand_in_the_setting(tmp_path: Path) -> None:
    (tmp_path / "rules.yml").write_text(GOOD)
    for given in (str(tmp_path / "rules.yml"), GOOD, '[{"when": "everyone", "account": "acme"}]'):
        found = IdentityRules.load(given).identify(MIA)
        assert found is not None
        assert found.account == "acme"


def test_the_rules_of_the_documentation_can_be_used() -> None:
    text = (README.parent / "docs" / "identity.md").read_text("utf-8")
    rules = IdentityRules.load(text.split("```yaml\n")[1].split("```")[0])
    found = rules.identify({**MIA, "groups": ["colloquy-admins"]})
    assert found is not None
    assert (found.account, found.role) == ("acme", KeyRole.ADMIN)
    assert rules.identify({"sub": "job", "azp": "nightly-report"}) == Identity(
        "acme", KeyRole.SERVICE, Author()
    )


@pytest.mark.parametrize(
    ("rules", "said"),
    [
        ("[]", "at least 1 item"),
        ("{when: everyone, account: acme}", "valid list"),
        ("[1]", "rule 1: "),
        ("- {account: acme}\n", "rule 1, when: Field required"),
        ("- {when: everyone}\n", "rule 1, account: Field required"),
        ("- {when: {}, account: acme}\n", "rule 1, when"),
        ("- {when: {groups: []}, account: acme}\n", "rule 1, when.groups"),
        ("- {when: anybody, account: acme}\n", "rule 1, when"),
        (GOOD + "- {when: everyone, account: acme, rôle: admin}\n", "rule 2, rôle"),
        ("- {when: everyone, account: acme, role: owner}\n", "rule 1, role"),
        ("- {when: everyone, account: 'x{tid'}\n", "rule 1, account: has a brace"),
        ("- {when: everyone, account: ''}\n", "rule 1, account"),
        ("- when: [\n", "line 2"),
        ("[" * 5_000, "not YAML"),
        ("/nowhere/rules.yml", "/nowhere/rules.yml: No such file"),
    ],
)
def test_what_is_wrong_is_one_line(rules: str, said: str) -> None:
    with pytest.raises(SettingsError) as caught:
        IdentityRules.load(rules)
    assert str(caught.value).startswith("OIDC_RULES: ")
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)
