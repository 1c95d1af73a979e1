"""The models file, the AI providers, and the identity provider."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from colloquy.operations.checkup import Finding, fail, ok, warn

from colloquy_server.api.identity_provider import IdentityProvider, IdentityProviderAway
from colloquy_server.api.identity_rules import IdentityRules
from colloquy_server.errors import ColloquyError
from colloquy_server.providers.catalog import Catalog, CatalogError, Provider
from colloquy_server.providers.client import Providers
from colloquy_server.providers.errors import ProviderError
from colloquy_server.settings import Settings


async def findings(settings: Settings) -> AsyncIterator[Finding]:
    """Asks each provider that has a key for its models, which costs nothing."""
    file = settings.models_file
    try:
        catalog = Catalog.load(file, settings.environ.get)
    except (CatalogError, OSError) as error:
        yield fail("models", str(error), f"change {file}, or AI_MODELS_FILE")
        return
    usable = {one.provider.id: one.provider for one in catalog.models if catalog.is_available(one)}
    usable |= {one.id: one for one in catalog.discovering}
    yield ok("models", f"{file} is good")
    if not usable:
        yield fail("models", "none can be used", "set a provider's key, or install the local model")
    elif not catalog.discovering and catalog.default() is None:
        yield fail("models", "none of default_model can be used", f"name another in {file}")
    asked = await asyncio.gather(*(_asked(one, settings) for one in usable.values()))
    for finding in asked:
        yield finding
    lacking = {
        one.provider.id: one.provider.api_key_env
        for one in catalog.models
        if one.provider.id not in usable and one.provider.api_key_env
    }
    if lacking:
        named = ", ".join(f"{name} ({variable})" for name, variable in sorted(lacking.items()))
        yield ok("models", f"without a key, and not offered: {named}")
    if settings.oidc_issuer:
        yield await _identity(settings, settings.oidc_issuer)


async def _asked(provider: Provider, settings: Settings) -> Finding:
    what = f"provider {provider.id}"
    if provider.weights is not None:
        return ok(what, "the local model is installed")
    providers = Providers(settings.environ)
    try:
        await providers.check(provider)
    except ProviderError as error:
        if error.reason == "PROVIDER_AUTHENTICATION":
            return fail(what, "it refuses the key", f"see {provider.api_key_env}")
        if error.reason == "PROVIDER_REJECTED":
            return ok(what, "it answers, and has no list of models")
        said = error.detail or error.reason
        return fail(what, f"it does not answer as it should: {said}", "see its base_url and status")
    finally:
        await providers.close()
    return ok(what, "it answers and takes the key")


async def _identity(settings: Settings, issuer: str) -> Finding:
    what = "identity provider"
    if settings.oidc_rules is None:
        return warn(what, "no token of it is taken", "set OIDC_RULES")
    try:
        IdentityRules.load(settings.oidc_rules)
    except ColloquyError as error:
        return fail(what, str(error), "change OIDC_RULES")
    provider = IdentityProvider(issuer)
    try:
        keys = await provider.reach()
    except IdentityProviderAway:
        return fail(
            what,
            f"{issuer} has no discovery document of its own that leads to its keys",
            "OIDC_ISSUER has to be what its tokens say, to the letter",
        )
    finally:
        await provider.stop()
    if not keys:
        return fail(what, f"{issuer} has no key that can be used", "see docs/identity.md")
    return ok(what, f"{issuer} has {keys} keys")
