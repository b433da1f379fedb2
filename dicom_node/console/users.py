"""Who may use the console: a file of names, roles and password hashes."""

import hashlib
import json
import os
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import Final, Self

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from dicom_node.errors import SettingsError

_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,63}")
SHORTEST_PASSWORD: Final = 12
"""Characters; length is what helps (NIST SP 800-63B 5.1.1.2 asks for 8 and no other rule)."""


class Role(IntEnum):
    """What a person may do; a higher role may do all that a lower one may."""

    VIEWER = 1
    """See queues, series and measurements."""
    OPERATOR = 2
    """Search by patient, act on series."""

    @property
    def label(self) -> str:
        """Name in files and on pages."""
        return self.name.lower()

    @classmethod
    def of(cls, label: str) -> "Role":
        """Role with this name; raises ``KeyError`` when there is none."""
        return cls[label.upper()]


@dataclass(frozen=True, slots=True)
class User:
    """One person with a password.

    Parameters
    ----------
    name : str
    role : Role
    password_hash : str
        Argon2id in PHC form.
    """

    name: str
    role: Role
    password_hash: str

    @property
    def stamp(self) -> str:
        """Changes with the password: a session begun with an old one ends."""
        return hashlib.sha256(self.password_hash.encode()).hexdigest()[:16]


class UserFile:
    """Names, roles and password hashes as JSON, readable by this account alone.

    It is read anew for each question, so that a person who was removed is out at once.

    Parameters
    ----------
    path : Path
    hasher : PasswordHasher
        By default with the costs that its library recommends.
    """

    def __init__(self, path: Path, hasher: PasswordHasher | None = None) -> None:
        self._path = path
        self._hasher = hasher or PasswordHasher()
        # Verified when nobody has the name, so that the time of an answer does not tell names.
        self._nobody = self._hasher.hash(secrets.token_hex(16))

    @classmethod
    def of(cls, folder: Path) -> Self:
        """Return the file of a node whose storage is in ``folder``."""
        return cls(folder / "console-users.json")

    def users(self) -> Mapping[str, User]:
        """Everybody in the file by name; empty when there is none.

        Raises
        ------
        SettingsError
            The file is damaged.
        """
        try:
            data = json.loads(self._path.read_bytes())
            return {
                name: User(name, Role.of(entry["role"]), entry["password_hash"])
                for name, entry in data.items()
            }
        except FileNotFoundError:
            return {}
        except OSError as error:
            raise SettingsError(f"{self._path} cannot be read: {error.strerror}") from None
        except (ValueError, KeyError, TypeError, AttributeError):
            raise SettingsError(f"{self._path} is not a file of users") from None

    def put(self, name: str, role: Role, password: str) -> None:
        """Add a person, or give one a new role and password.

        Raises
        ------
        SettingsError
            The name or the password cannot be used, or the file not be written.
        """
        if not _NAME.fullmatch(name):
            raise SettingsError(
                "a user's name has 1 to 64 letters, digits, dots, hyphens, underscores or @"
            )
        if len(password) < SHORTEST_PASSWORD:
            raise SettingsError(f"a password has at least {SHORTEST_PASSWORD} characters")
        user = User(name, role, self._hasher.hash(password))
        self._write({**self.users(), name: user})

    def remove(self, name: str) -> None:
        """Take a person out.

        Raises
        ------
        SettingsError
            Nobody has that name.
        """
        users = dict(self.users())
        if users.pop(name, None) is None:
            raise SettingsError(f"no user is called {name}")
        self._write(users)

    def check(self, name: str, password: str) -> User | None:
        """Return who has this name and password; it takes equally long when nobody has the name."""
        user = self.users().get(name)
        try:
            self._hasher.verify(user.password_hash if user else self._nobody, password)
        except (VerificationError, InvalidHashError):
            return None
        return user

    def _write(self, users: Mapping[str, User]) -> None:
        entries = {
            user.name: {"role": user.role.label, "password_hash": user.password_hash}
            for user in sorted(users.values(), key=lambda user: user.name)
        }
        part = self._path.with_suffix(".part")
        try:
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            part.unlink(missing_ok=True)
            descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "w") as file:
                json.dump(entries, file, indent=2)
            part.replace(self._path)
        except OSError as error:
            raise SettingsError(f"{self._path} cannot be written: {error.strerror}") from None
