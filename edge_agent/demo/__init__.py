"""The main job on simulated machines: weeks in a minute, through real sockets, buffer, broker and historian."""
