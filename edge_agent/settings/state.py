"""Where the agent keeps its state."""

from __future__ import annotations

import os
import pwd
from collections.abc import Iterator
from pathlib import Path

from edge_agent.errors import ConfigError, StoreError
from edge_agent.settings.models import Configuration


def state_folder(configuration: Configuration | None = None) -> Path:
    """`state:` of the configuration, else $STATE_DIRECTORY (systemd), else ./edge-agent-state."""
    if configuration is not None and configuration.state is not None:
        return configuration.state
    from_systemd = os.environ.get("STATE_DIRECTORY")
    return Path(from_systemd.split(":")[0]) if from_systemd else Path("edge-agent-state")


def require_writable(folder: Path) -> None:
    """Make the folder where it is missing, and see that this user may write it and what is in it.

    ConfigError (exit 78: trying again would not help) with the path, who we are, whose it is, and the command
    that mends it; StoreError where the medium is read-only, which may pass.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except PermissionError as error:
        parent = next(above for above in folder.absolute().parents if above.exists())
        raise ConfigError([_not_ours(parent, folder)]) from error
    except (FileExistsError, NotADirectoryError) as error:
        raise ConfigError(
            [f"state: {folder} is not a folder; name another, or move that file away"]
        ) from error
    except OSError as error:
        raise StoreError(f"the state folder {folder} cannot be made: {error.strerror}") from error
    for path in _ours(folder):
        wanted = os.R_OK | os.W_OK | (os.X_OK if path.is_dir() else 0)
        if os.access(path, wanted, effective_ids=bool(os.supports_effective_ids)):
            continue
        if os.statvfs(path).f_flag & os.ST_RDONLY:
            raise StoreError(
                f"the state folder {folder} is on a medium that is mounted read-only: a card does that when "
                "it fails; look into `dmesg`, then: sudo mount -o remount,rw MOUNTPOINT"
            )
        raise ConfigError([_not_ours(path, folder)])


def _ours(folder: Path) -> Iterator[Path]:
    """The folder, its parts and their files: what the agent writes."""
    yield folder
    for part in ("agent", "historian"):
        if (folder / part).is_dir():
            yield folder / part
            if os.access(folder / part, os.X_OK | os.R_OK):
                yield from (path for path in sorted((folder / part).iterdir()) if path.is_file())


def _not_ours(path: Path, folder: Path) -> str:
    uid, owner = os.geteuid(), path.stat().st_uid
    return (
        f"the state folder {folder} cannot be used: {path} cannot be written by uid {uid} ({_name(uid)}), it "
        f"belongs to uid {owner} ({_name(owner)})\n"
        f"  to mend it: sudo chown -R {_name(uid)} {folder.absolute()}\n"
        "  or set `state:` to another folder; a service has /var/lib/edge-agent of its own"
    )


def _name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)
