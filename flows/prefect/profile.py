"""The user's Prefect profile, in which overtile's plugin is enabled for all folders."""

from __future__ import annotations

from collections.abc import Callable

from prefect.settings import get_current_settings, load_current_profile, update_current_profile

ENABLED = "PREFECT_PLUGINS_ENABLED"
BY_HAND = 'in each terminal, run eval "$(overtile prefect env)" to use it with prefect commands'


def enable_plugin(say: Callable[[str], None]) -> None:
    """Do ``prefect config set PREFECT_PLUGINS_ENABLED=true``, unless the user has chosen.

    The plugin (deployment_names.py) then finds the server and its password in every folder; the
    profile itself contains neither.
    """
    profile = load_current_profile()
    if ENABLED in profile.settings:
        if not get_current_settings().plugins.enabled:
            say(f"note: plugins are disabled in your Prefect profile {profile.name}: {BY_HAND}")
        return
    try:
        update_current_profile({ENABLED: "true"})
    except OSError as error:
        say(f"note: your Prefect profile cannot be written ({error.strerror}): {BY_HAND}")
        return
    say(f"profile {profile.name}: {ENABLED}=true, so that prefect commands find this server")
