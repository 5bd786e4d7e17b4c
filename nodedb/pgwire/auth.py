"""SCRAM-SHA-256 and SCRAM-SHA-256-PLUS, the server's side, without I/O.

``ScramServer`` answers one exchange; its owner supplies the nonce. For an unknown role, or one
without a secret, the exchange runs on a salt derived from the name and keys nobody knows, so it
takes the same steps and time, and ends in the same 28P01. The slow PBKDF2 runs only in
``make_scram_secret``.

Secret text: ``SCRAM-SHA-256$<iterations>:<salt>$<StoredKey>:<ServerKey>``; base64 behind the colon.

Source: RFC 5802, RFC 7677, RFC 5929 (tls-server-end-point), RFC 4013 (SASLprep);
PostgreSQL docs, "SASL Authentication".
"""

import base64
import binascii
import hashlib
import hmac
import stringprep
import unicodedata
from collections.abc import Callable
from typing import Final, NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from nodedb.pgwire.errors import FatalError
from sql.errors import InvalidPassword, ProtocolViolation

SCRAM_SHA_256: Final = "SCRAM-SHA-256"
SCRAM_SHA_256_PLUS: Final = "SCRAM-SHA-256-PLUS"
DEFAULT_ITERATIONS: Final = 4096
_SALT_BYTES: Final = 16
_KEY_BYTES: Final = 32
_BINDING_TYPE: Final = "tls-server-end-point"


class ScramSecret(NamedTuple):
    """A parsed secret; keys are of 32 bytes."""

    iterations: int
    salt: bytes
    stored_key: bytes
    server_key: bytes


def make_scram_secret(
    password: str, salt: bytes | None = None, iterations: int = DEFAULT_ITERATIONS
) -> str:
    """Return the rolpassword text for a password; takes milliseconds on purpose.

    Without a salt a fresh one is drawn, so this must not run where replicas have to agree.
    """
    raw = saslprep(password).encode()
    if salt is None:
        salt = AESGCM.generate_key(bit_length=8 * _SALT_BYTES)
    salted = hashlib.pbkdf2_hmac("sha256", raw, salt, iterations)
    stored_key = hashlib.sha256(_hmac(salted, b"Client Key")).digest()
    server_key = _hmac(salted, b"Server Key")
    return f"{SCRAM_SHA_256}${iterations}:{_b64(salt)}${_b64(stored_key)}:{_b64(server_key)}"


def parse_scram_secret(text: str) -> ScramSecret | None:
    """Return the parts of a rolpassword text, or None if it is not a SCRAM secret."""
    try:
        mechanism, head, keys = text.split("$")
        iterations, salt = head.split(":")
        stored_key, server_key = (_unb64(part) for part in keys.split(":"))
        secret = ScramSecret(int(iterations), _unb64(salt), stored_key, server_key)
    except ValueError:
        return None
    is_good = (
        mechanism == SCRAM_SHA_256
        and secret.iterations > 0
        and len(stored_key) == len(server_key) == _KEY_BYTES
    )
    return secret if is_good else None


def mock_scram_secret(role: str, mock_secret: bytes) -> ScramSecret:
    """Return a secret no password fits; the same for the same role, as a real one would be."""
    salt = _hmac(mock_secret, b"salt:" + role.encode())[:_SALT_BYTES]
    key = _hmac(mock_secret, b"key:" + role.encode())
    return ScramSecret(DEFAULT_ITERATIONS, salt, key, key)


def end_point_binding(certificate_der: bytes) -> bytes:
    """Return tls-server-end-point data of the server's certificate, b"" if it defines no hash."""
    algorithm = x509.load_der_x509_certificate(certificate_der).signature_hash_algorithm
    if algorithm is None:
        return b""
    name = "sha256" if algorithm.name in {"md5", "sha1"} else algorithm.name
    return hashlib.new(name, certificate_der).digest()


class ScramServer:
    """One exchange: ``mechanisms``, then ``start``, then ``finish``. Raises FatalError throughout.

    ``channel_binding`` is b"" where TLS is off or its certificate has no binding. A wrong proof, an
    unknown role and a role without secret are all 28P01; malformed messages are 08P01.
    """

    def __init__(
        self,
        role: str,
        secret_text: str,
        *,
        nonce: str,
        mock_secret: bytes,
        channel_binding: bytes = b"",
    ) -> None:
        self._role = role
        secret = parse_scram_secret(secret_text)
        self._is_doomed = secret is None
        self._secret = secret or mock_scram_secret(role, mock_secret)
        self._nonce = nonce
        self._binding = channel_binding
        self._expected_binding = b""
        self._auth_message = ""

    def mechanisms(self) -> list[str]:
        """Return what AuthenticationSASL offers, best first."""
        return [SCRAM_SHA_256_PLUS, SCRAM_SHA_256] if self._binding else [SCRAM_SHA_256]

    def start(self, body: bytes) -> bytes:
        """Take a SASLInitialResponse, ``mechanism NUL | int32 | data``; return the challenge."""
        name, terminator, rest = body.partition(b"\0")
        mechanism = name.decode("ascii", "replace")
        if not terminator or mechanism not in self.mechanisms():
            raise FatalError(
                ProtocolViolation("client selected an invalid SASL authentication mechanism")
            )
        if len(rest) < 4 or int.from_bytes(rest[:4], "big", signed=True) != len(rest) - 4:
            raise _malformed("The message is too short or too long.")
        bare, client_nonce = self._read_first(mechanism, _ascii(rest[4:]))
        secret = self._secret
        self._nonce = client_nonce + self._nonce
        challenge = f"r={self._nonce},s={_b64(secret.salt)},i={secret.iterations}"
        self._auth_message = f"{bare},{challenge}"
        return challenge.encode()

    def _read_first(self, mechanism: str, text: str) -> tuple[str, str]:
        """Check client-first-message; return its bare part and the client's nonce."""
        fields = text.split(",")
        if len(fields) < 4:
            raise _malformed("The message lacks an attribute.")
        flag, authzid, user, nonce = fields[:4]
        self._expected_binding = self._check_flag(mechanism, flag, authzid)
        if authzid:
            raise _malformed("Client uses authorization identity, but it is not supported.")
        if user.startswith("m="):
            raise _malformed("Client requires an unsupported SCRAM extension.")
        # The user of the startup packet counts; the one in here is ignored.
        if not user.startswith("n=") or not nonce.startswith("r=") or len(nonce) < 3:
            raise _malformed("The message's attributes are not in order.")
        if not all("!" <= character <= "~" for character in nonce):
            raise _malformed("Non-printable characters in SCRAM nonce.")
        return ",".join(fields[2:]), nonce[2:]

    def _check_flag(self, mechanism: str, flag: str, authzid: str) -> bytes:
        """Return what the client must repeat as channel binding in its final message."""
        header = f"{flag},{authzid},".encode()
        if mechanism == SCRAM_SHA_256_PLUS:
            if flag != f"p={_BINDING_TYPE}":
                raise _malformed("Unexpected channel-binding type or flag.")
            return header + self._binding
        if flag == "y" and self._binding:
            # The client could bind but was told that we cannot: somebody edited our offer.
            raise FatalError(
                InvalidPassword(
                    "SCRAM channel binding negotiation error",
                    detail="The client supports SCRAM channel binding but thinks the server does"
                    " not.  However, this server does support channel binding.",
                )
            )
        if flag not in {"n", "y"}:
            raise _malformed("Unexpected channel-binding flag.")
        return header

    def finish(self, body: bytes) -> bytes:
        """Take a SASLResponse body, check the proof; return the server's signature."""
        without_proof, separator, proof_text = _ascii(body).rpartition(",p=")
        if not separator:
            raise _malformed("The message lacks a proof.")
        fields = without_proof.split(",")
        if len(fields) < 2 or not fields[0].startswith("c=") or not fields[1].startswith("r="):
            raise _malformed("The message's attributes are not in order.")
        try:
            binding, proof = _unb64(fields[0][2:]), _unb64(proof_text)
        except ValueError:
            raise _malformed("The message is not in base64.") from None
        if not hmac.compare_digest(fields[1][2:], self._nonce):
            raise _malformed("Nonce does not match.")
        if not hmac.compare_digest(binding, self._expected_binding):
            raise FatalError(InvalidPassword("SCRAM channel binding check failed"))
        if len(proof) != _KEY_BYTES:
            raise _malformed("The proof has a wrong length.")
        message = f"{self._auth_message},{without_proof}".encode()
        secret = self._secret
        client_key = _xor(proof, _hmac(secret.stored_key, message))
        is_right = hmac.compare_digest(hashlib.sha256(client_key).digest(), secret.stored_key)
        if self._is_doomed or not is_right:
            raise FatalError(password_failed(self._role))
        return b"v=" + _b64(_hmac(secret.server_key, message)).encode()


def password_failed(role: str) -> InvalidPassword:
    """Return the one error for every way not to know the password."""
    return InvalidPassword(f'password authentication failed for user "{role}"')


def _malformed(detail: str) -> FatalError:
    return FatalError(ProtocolViolation("malformed SCRAM message", detail=detail))


def _ascii(data: bytes) -> str:
    # The user name inside may be UTF-8; the attributes we read are ASCII in any case.
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise _malformed("The message is not UTF-8.") from None


def _hmac(key: bytes, message: bytes) -> bytes:
    return hmac.digest(key, message, "sha256")


def _xor(left: bytes, right: bytes) -> bytes:
    return (int.from_bytes(left, "big") ^ int.from_bytes(right, "big")).to_bytes(len(left), "big")


def _b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _unb64(text: str) -> bytes:
    """Decode strictly. Raises ValueError."""
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error as error:
        raise ValueError(text) from error


_PROHIBITED: Final[tuple[Callable[[str], bool], ...]] = (
    stringprep.in_table_a1,
    stringprep.in_table_c12,
    stringprep.in_table_c21_c22,
    stringprep.in_table_c3,
    stringprep.in_table_c4,
    stringprep.in_table_c5,
    stringprep.in_table_c6,
    stringprep.in_table_c7,
    stringprep.in_table_c8,
    stringprep.in_table_c9,
)


def saslprep(password: str) -> str:
    """Normalize a password; one that SASLprep prohibits is used as it is, as PostgreSQL does."""
    if password.isascii() and password.isprintable():
        return password
    mapped = "".join(
        " " if stringprep.in_table_c12(character) else character
        for character in password
        if not stringprep.in_table_b1(character)
    )
    prepared = unicodedata.normalize("NFKC", mapped)
    is_prohibited = any(check(character) for check in _PROHIBITED for character in prepared)
    if not prepared or is_prohibited or not _is_bidi_good(prepared):
        return password
    return prepared


def _is_bidi_good(text: str) -> bool:
    """RFC 3454 section 6: right-to-left text begins and ends so, and is not mixed."""
    if not any(map(stringprep.in_table_d1, text)):
        return True
    ends = stringprep.in_table_d1(text[0]) and stringprep.in_table_d1(text[-1])
    return ends and not any(map(stringprep.in_table_d2, text))
