"""Keys (EC P-256, PEM), and signatures of folders by model-signing in its key mode.

model_signing is imported where it is used: it takes the better part of a second.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from anabranch_artifacts.contents import SIGNATURE
from anabranch_faults import Invalid

if TYPE_CHECKING:
    from model_signing import hashing

_OWNER_ONLY = 0o600
_ALL_READ = 0o644


@dataclass(frozen=True, slots=True)
class Signer:
    """Signs folders with a private key (PEM)."""

    private_key: Path

    def sign(self, folder: Path, signature: Path) -> None:
        """Write the signature of all files below the folder. Raises Invalid when the key cannot be used."""
        from model_signing import signing  # noqa: PLC0415  see the module

        try:
            config = signing.Config().use_elliptic_key_signer(private_key=self.private_key)  # type: ignore[no-untyped-call]  # theirs
        except (OSError, ValueError, TypeError) as error:
            raise Invalid(f"{self.private_key.name}: not a key to sign with ({error})", reason="BAD_KEY") from error
        config.set_hashing_config(_hashing()).sign(folder, signature)


def verify(folder: Path, public_key: Path) -> None:
    """Check the folder's signature file against all its other files. Raises Invalid: BAD_KEY, UNSIGNED, TAMPERED.

    A signature by another key is TAMPERED too: who changed the files would sign them anew.
    """
    from cryptography.exceptions import InvalidSignature  # noqa: PLC0415  with the next one
    from model_signing import verifying  # noqa: PLC0415  see the module

    signature = folder / SIGNATURE
    if not signature.is_file():
        raise Invalid("it has no signature", reason="UNSIGNED")
    try:
        config = verifying.Config().use_elliptic_key_verifier(public_key=public_key)  # type: ignore[no-untyped-call]  # theirs
    except (OSError, ValueError, TypeError) as error:
        raise Invalid(f"{public_key.name}: not a key to verify with ({error})", reason="BAD_KEY") from error
    try:
        config.set_hashing_config(_hashing()).verify(folder, signature)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, InvalidSignature) as error:
        raise Invalid(
            f"its signature does not fit ({str(error) or 'made by another key'})", reason="TAMPERED"
        ) from error


def make_keys(private: Path, public: Path) -> None:
    """Make a pair of keys: the private one for its owner only. What is there is kept, never written over.

    Raises Invalid when `private` is there and no EC key.
    """
    from cryptography.hazmat.primitives import serialization  # noqa: PLC0415  as model_signing
    from cryptography.hazmat.primitives.asymmetric import ec  # noqa: PLC0415

    if not private.exists():
        made = ec.generate_private_key(ec.SECP256R1()).private_bytes(
            encoding=serialization.Encoding.PEM,
            format=serialization.PrivateFormat.PKCS8,
            encryption_algorithm=serialization.NoEncryption(),
        )
        _place(private, made, _OWNER_ONLY)
    try:
        key = serialization.load_pem_private_key(private.read_bytes(), None)
    except (ValueError, TypeError) as error:
        raise Invalid(f"{private.name}: not a private key ({error})", reason="BAD_KEY") from error
    if not public.exists():
        _place(
            public,
            key.public_key().public_bytes(
                encoding=serialization.Encoding.PEM, format=serialization.PublicFormat.SubjectPublicKeyInfo
            ),
            _ALL_READ,
        )


def _place(path: Path, content: bytes, mode: int) -> None:
    """All of the content under that name, or nothing; who comes second keeps what the first one put."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            os.fchmod(file.fileno(), mode)
            file.write(content)
        with contextlib.suppress(FileExistsError):
            os.link(name, path)
    finally:
        Path(name).unlink()


def _hashing() -> hashing.Config:
    from model_signing import hashing  # noqa: PLC0415  see the module

    # Git's files count as all others: what is not signed must not be there.
    config = hashing.Config()  # type: ignore[no-untyped-call]  # theirs
    return config.use_file_serialization().set_ignored_paths(paths=[SIGNATURE], ignore_git_paths=False)
