"""The private key a SMART client signs with, from a file only its owner may read: PEM, a JWK, or a JWKS with several."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, get_args

import jwt
import msgspec
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from jwt.algorithms import ECAlgorithm, RSAAlgorithm

from crps_outcomes.errors import DefinitionError
from crps_outcomes.fhir.auth import private_file
from crps_outcomes.fhir.source import JSON_ERRORS

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

Algorithm = Literal["RS384", "ES384"]
ALGORITHMS: tuple[str, ...] = get_args(Algorithm)

_ERRORS = (*JSON_ERRORS, TypeError, LookupError, UnsupportedAlgorithm, jwt.PyJWTError)
_FEWEST_RSA_BITS = 2048
#: By the ``kty`` of a JWK; a key of another kind in the same file is passed over.
_READERS: dict[str, Callable[[Any], Any]] = {"RSA": RSAAlgorithm.from_jwk, "EC": ECAlgorithm.from_jwk}


@dataclass(frozen=True)
class SigningKey:
    """``private`` is never shown."""

    algorithm: str
    kid: str
    private: Any = field(repr=False)


class _Found(NamedTuple):
    kid: str
    private: Any
    algorithm: str


def signing_key(path: Path, *, kid: str = "", algorithm: str = "") -> SigningKey:
    """The key in a file: the only one that fits, or the one that ``kid`` and ``algorithm`` name.

    Raises:
        DefinitionError: the file is missing, others may read it, or it holds no such key or several.
    """
    private_file(path, "private key")
    if algorithm and algorithm not in ALGORITHMS:
        raise DefinitionError(f"the algorithm of the SMART key should be one of {', '.join(ALGORITHMS)}")
    fitting = [
        one for one in _in_file(path, kid)
        if one.algorithm and algorithm in {"", one.algorithm} and kid in {"", one.kid}
    ]  # fmt: skip
    if len(fitting) != 1:
        raise DefinitionError(
            f"{path}: {len(fitting) or 'no'} private keys fit; it should hold one, RSA of 2048 bits or more (RS384) or "
            "EC on P-384 (ES384), or CRPS_OUTCOMES_SMART_KID and _SMART_ALG should name which"
        )
    (found,) = fitting
    if not found.kid:
        raise DefinitionError(f"{path}: a key without a name; CRPS_OUTCOMES_SMART_KID should be its kid at the server")
    return SigningKey(found.algorithm, found.kid, found.private)


def _in_file(path: Path, kid: str) -> list[_Found]:
    try:
        content = path.read_bytes()
        if b"-----BEGIN" in content:
            return [_found(kid, load_pem_private_key(content, password=None))]
        document: Any = msgspec.json.decode(content)
        own = [one for one in document.get("keys", [document]) if "d" in one and one["kty"] in _READERS]
        return [_found(str(one.get("kid", kid)), _READERS[one["kty"]](one)) for one in own]
    except (OSError, AttributeError, *_ERRORS):  # their texts may repeat the file's
        raise DefinitionError(
            f"{path}: not a private key; it should be PEM without a password, a JWK or a JWKS"
        ) from None


def _found(kid: str, private: Any) -> _Found:
    """A key with the algorithm it is good for; "" for one that is good for none of ours."""
    if isinstance(private, RSAPrivateKey):
        return _Found(kid, private, "RS384" if private.key_size >= _FEWEST_RSA_BITS else "")
    is_p384 = isinstance(private, EllipticCurvePrivateKey) and private.curve.name == "secp384r1"
    return _Found(kid, private, "ES384" if is_p384 else "")
