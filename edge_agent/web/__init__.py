"""The HTTP side. Nothing here is imported where `web` is off."""
