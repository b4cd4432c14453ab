"""The main job on simulated machines: weeks in a minute, with real sockets, buffer and historian."""
