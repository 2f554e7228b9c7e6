from cadence_sdk.decorators.settings_decorators import plugin_settings

__all__ = ["plugin_settings"]
