"""Instructor-signed results: a Report that anybody with the class's public key can check.

Ed25519 (RFC 8032, by PyNaCl) over the Report's JSON in one canonical spelling. The signature stands in
the Report itself, under `signature`, so that a signed Report is still a Report to every reader.

Keys: `keys/signing.json` in the class folder (0600) is the only private thing. It never leaves the
instructor's machine: a grader in the cluster sends back what it saw, and this machine signs it.
`course class key` prints the public key to hand out; `course class key --rotate` makes a new pair,
forgets the old private key and keeps its public half, so that what it signed stays verifiable.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from helpers.atomic_file import locked, read_json, write_atomically
from helpers.errors import EnvironmentFault, LabError
from helpers.grading.report import ReportUnreadable

if TYPE_CHECKING:
    from nacl.signing import SigningKey

SCHEMA = "course.keys/v1"
ALGORITHM = "ed25519"
# What is signed begins with its purpose: a signature made for anything else never fits here.
_PURPOSE = b"course.report/v1 signed by an instructor\n"


class NotSigned(LabError):
    """The Report carries no signature: it is a claim."""


class OtherKey(LabError):
    """The Report is signed by a key that is not trusted here."""


class Edited(LabError):
    """The Report was changed after it was signed."""


@dataclass(frozen=True)
class PublicKey:
    """The public half of a class's key, and when it was taken out of use."""

    raw: bytes
    created_at: str = ""
    retired_at: str = ""

    @property
    def id(self) -> str:
        """A short name of the key: 64 bits of its SHA-256."""
        return hashlib.sha256(self.raw).hexdigest()[:16]

    def __str__(self) -> str:
        return f"{ALGORITHM}:{base64.b64encode(self.raw).decode()}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read `ed25519:BASE64`, as `course class key` prints it.

        Raises:
            LabError: the text is no such key.
        """
        kind, _, encoded = text.strip().partition(":")
        try:
            raw = base64.b64decode(encoded, validate=True)
        except binascii.Error:
            raw = b""
        if kind != ALGORITHM or len(raw) != 32:
            raise LabError(
                "that is not a public key: it must read ed25519:… as the instructor's `course class key` prints it"
            )
        return cls(raw)

    @classmethod
    def given(cls, text_or_file: str) -> Self:
        """The key itself, or a file with it in its first line that begins with `ed25519:`."""
        if text_or_file.startswith(f"{ALGORITHM}:"):
            return cls.parse(text_or_file)
        try:
            lines = Path(text_or_file).read_text().splitlines()
        except (OSError, UnicodeDecodeError) as problem:
            raise LabError(f"the key {text_or_file} cannot be read: {problem}") from problem
        return cls.parse(next((line for line in lines if line.startswith(f"{ALGORITHM}:")), ""))


class KeyRing:
    """A class's keys, in its folder."""

    def __init__(self, class_path: Path) -> None:
        self._private = class_path / "keys" / "signing.json"
        self._public = class_path / "keys" / "public.json"

    def public_keys(self) -> list[PublicKey]:
        """All keys that this class ever signed with; the one in use comes last."""
        tree = _keys_in(self._public)
        return [
            PublicKey(base64.b64decode(item["public"]), item["created_at"], item["retired_at"])
            for item in tree.get("keys", [])
        ]

    def current(self) -> PublicKey:
        """The public key in use; the first call makes the pair."""
        self._signing_key()
        return self.public_keys()[-1]

    def rotate(self) -> PublicKey:
        """A new pair. The old private key is gone; its public half is kept as retired."""
        with locked(self._private):
            return self._make()

    def sign(self, document: Mapping[str, Any], *, signed_at: datetime | None = None) -> dict[str, Any]:
        """The Report's JSON with a signature; one that is there already is replaced."""
        key = self._signing_key()
        claim = {
            "algorithm": ALGORITHM,
            "key": PublicKey(bytes(key.verify_key)).id,
            "signed_at": (signed_at or datetime.now(UTC)).isoformat(timespec="seconds"),
        }
        signed = {**document, "signature": claim}
        value = base64.b64encode(key.sign(_bytes_of(signed)).signature).decode()
        return {**signed, "signature": {**claim, "value": value}}

    def _signing_key(self) -> SigningKey:
        signing = _nacl()
        with locked(self._private):
            seed = _keys_in(self._private).get("seed")
            if not seed:
                self._make()
                seed = _keys_in(self._private)["seed"]
        key: SigningKey = signing.SigningKey(base64.b64decode(seed))
        return key

    def _make(self) -> PublicKey:
        key = _nacl().SigningKey.generate()
        self._private.parent.chmod(0o700)
        now = datetime.now(UTC).isoformat(timespec="seconds")
        made = PublicKey(bytes(key.verify_key), now)
        kept = [PublicKey(item.raw, item.created_at, item.retired_at or now) for item in self.public_keys()]
        # The public half first: a signature that nobody can check must not exist.
        listed = [
            {
                "public": base64.b64encode(item.raw).decode(),
                "created_at": item.created_at,
                "retired_at": item.retired_at,
            }
            for item in (*kept, made)
        ]
        write_atomically(self._public, json.dumps({"schema": SCHEMA, "keys": listed}, indent=1))
        private = {"schema": SCHEMA, "created_at": now, "seed": base64.b64encode(bytes(key)).decode()}
        write_atomically(self._private, json.dumps(private))
        self._private.chmod(0o600)
        return made


def verify_signature(document: Mapping[str, Any], trusted: Sequence[PublicKey]) -> PublicKey:
    """The trusted key that signed a Report's JSON.

    Raises:
        NotSigned, OtherKey, Edited: each says in one sentence what the Report is instead.
    """
    signature = document.get("signature")
    if not isinstance(signature, Mapping) or not signature.get("value"):
        raise NotSigned(_claim_words(document))
    named = next((key for key in trusted if key.id == signature.get("key")), None)
    if named is None:
        known = ", ".join(key.id for key in trusted) or "none"
        raise OtherKey(
            f"it is signed by the key {signature.get('key')}, which is not trusted here (trusted: {known})",
            next_command="course verify report.json --key PUBLIC_KEY",
        )
    from nacl.exceptions import BadSignatureError

    unsigned = {name: value for name, value in signature.items() if name != "value"}
    try:
        value = base64.b64decode(str(signature["value"]), validate=True)
        _nacl().VerifyKey(named.raw).verify(_bytes_of({**document, "signature": unsigned}), value)
    except (BadSignatureError, ValueError) as problem:
        raise Edited(
            "it was changed after it was signed: its text and its signature do not belong together"
        ) from problem
    return named


def _claim_words(document: Mapping[str, Any]) -> str:
    who = document.get("attested_by")
    if who:
        return f"it says that {who} attested it, and carries no signature: it is a claim"
    return "it is a learner's own report, which nobody signed: it is a claim"


def _bytes_of(document: Mapping[str, Any]) -> bytes:
    """The one spelling that is signed: sorted keys, no spaces, UTF-8, only numbers that JSON has."""
    try:
        text = json.dumps(
            document, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
        )
        return _PURPOSE + text.encode()
    except ValueError as problem:
        raise ReportUnreadable(f"the Report cannot be put into canonical form: {problem}") from problem


def _keys_in(path: Path) -> dict[str, Any]:
    try:
        return read_json(path, SCHEMA)
    except (OSError, ValueError) as problem:
        raise EnvironmentFault(f"the class's keys in {path} cannot be read: {problem}") from problem


def _nacl() -> Any:
    """PyNaCl's signing, which only the classroom needs."""
    try:
        from nacl import signing
    except ImportError as missing:
        raise EnvironmentFault(
            "signing needs the package pynacl, which is not installed",
            next_command="pip install 'llm-stack-labs[classroom]'",
        ) from missing
    return signing
