"""`python -m gannet.fabrics.containers.make_credentials`: makes a cluster's secrets, those that are not there yet.

Compose runs it before all other containers of the cluster. Each secret is in a volume of its own, and its file can be
read by the root of a container only: the training process and the controller, once it works, are other users.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from gannet.fabrics.credentials import FOLDER, ROLES, CredentialError, Credentials, fresh_secret, secret_file


def make(folder: Path) -> list[str]:
    """Make the secrets that are missing in `folder`; returns their roles. Raises CredentialError, and OSError."""
    made = []
    for role in ROLES:
        file = secret_file(role, folder)
        file.parent.mkdir(mode=0o700, exist_ok=True)
        file.parent.chmod(0o700)
        if not file.exists():
            _write(file, fresh_secret())
            made.append(role)
    Credentials.read(folder)  # what was there before can be used, too
    return made


def _write(file: Path, secret: str) -> None:
    """All of it or nothing: a run that is ended halfway, or a full disk, leaves no half secret behind."""
    unfinished = file.with_name(f"{file.name}.new")
    unfinished.unlink(missing_ok=True)
    descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o400)
    with os.fdopen(descriptor, "w", encoding="ascii") as opened:
        opened.write(f"{secret}\n")
        opened.flush()
        os.fsync(descriptor)
    unfinished.rename(file)


def main() -> int:
    """Make them in the container's folder."""
    try:
        made = make(FOLDER)
    except (CredentialError, OSError) as error:
        sys.stderr.write(f"the cluster's credentials: {error}; docker compose down -v removes them all\n")
        return 1
    sys.stdout.write(f"credentials made: {', '.join(made)}\n" if made else "credentials are there\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
