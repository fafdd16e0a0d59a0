"""The ready parts of authentication: what each lets in, and everything that it does not."""

from __future__ import annotations

import base64
import json
import sys
import time
from pathlib import Path
from typing import Any

import jwt as pyjwt
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from starlette.requests import Request
from starlette.responses import Response

from tidelog.auth import Principal, api_keys, cookie, first_of, hash_key, jwt, new_key
from tidelog.auth.keys import MOST_KEYS
from tidelog.auth.tokens import MAX_TOKEN_CHARS

SECRET = "a secret of at least thirty-two bytes"
KEY, OTHER = "k" * 20 + "-one", "k" * 20 + "-other"
"""Fixed: workers that run tests side by side compare their names."""


def request(scheme: str = "http", **headers: str) -> Request:
    raw = [(name.replace("_", "-").encode(), value.encode("latin-1")) for name, value in headers.items()]
    return Request(
        {"type": "http", "scheme": scheme, "method": "GET", "path": "/", "query_string": b"", "headers": raw}
    )


def bearing(token: str) -> Request:
    return request(authorization=f"Bearer {token}")


class TestApiKeys:
    @pytest.mark.parametrize("given", [KEY, hash_key(KEY), [OTHER, KEY], [hash_key(OTHER), hash_key(KEY)]])
    def test_a_key_or_its_hash(self, given: Any) -> None:
        find = api_keys({"bob": new_key(), "ann": given})
        assert find(bearing(KEY)) == "ann"
        assert find(request(x_api_key=KEY)) == "ann"
        assert find(request(authorization=f"bearer  {KEY} ")) == "ann"

    @pytest.mark.parametrize(
        "asks",
        [
            {}, {"authorization": f"Basic {KEY}"}, {"authorization": KEY}, {"authorization": "Bearer"},
            {"x_api_key": ""}, {"x_api_key": KEY[:-1]}, {"x_api_key": KEY + "x"}, {"x_api_key": OTHER},
            {"x_api_key": hash_key(KEY)}, {"x_api_key": "\xff"}, {"cookie": f"key={KEY}"},
        ],
    )  # fmt: skip
    def test_nothing_else(self, asks: dict[str, str]) -> None:
        assert api_keys({"ann": hash_key(KEY)})(request(**asks)) is None

    def test_a_cookie_that_is_named(self) -> None:
        assert api_keys({"ann": KEY}, cookie="key")(request(cookie=f"other=1; key={KEY}")) == "ann"

    def test_a_file(self, tmp_path: Path) -> None:
        (tmp_path / "keys").write_text(f"# who\n\nann: {KEY}\nbob:{hash_key(OTHER)}\n", "utf-8")
        find = api_keys(tmp_path / "keys")
        assert (find(bearing(KEY)), find(bearing(OTHER))) == ("ann", "bob")

    @pytest.mark.parametrize(
        ("keys", "says"),
        [
            ({}, "from 1 to"), ({"ann": "short-s3cret"}, "shorter than 20"), ({"": KEY}, "needs a name"),
            ({"ann": KEY, "bob": hash_key(KEY)}, "ann and bob"),
            ({f"n{n}": f"sha256:{n:064x}" for n in range(MOST_KEYS + 1)}, "from 1 to"),
        ],
    )  # fmt: skip
    def test_what_makes_no_sense_is_told_without_a_key(self, keys: dict[str, str], says: str) -> None:
        with pytest.raises(ValueError, match=says) as told:
            api_keys(keys)
        assert "s3cret" not in str(told.value)
        assert KEY not in str(told.value)

    def test_a_line_that_is_none(self, tmp_path: Path) -> None:
        (tmp_path / "keys").write_text(f"ann:{KEY}\n{OTHER}\n", "utf-8")
        with pytest.raises(ValueError, match="Line 2") as told:
            api_keys(tmp_path / "keys")
        assert OTHER not in str(told.value)


def test_a_new_key_is_long_and_new() -> None:
    made = {new_key() for _ in range(10)}
    assert len(made) == 10
    assert min(map(len, made)) >= 43


class TestJwt:
    def find(self, claims: dict[str, Any], **options: Any) -> Any:
        token = pyjwt.encode(claims, SECRET, "HS256")
        return jwt(SECRET, algorithms=["HS256"], **options)(bearing(token))

    def test_name_and_end(self) -> None:
        exp = int(time.time()) + 60
        assert self.find({"sub": "ann", "exp": exp}) == Principal("ann", exp)
        assert self.find({"email": "a@b", "exp": exp}, claim="email") == Principal("a@b", exp)
        assert self.find({"sub": "ann", "exp": exp, "aud": "me", "iss": "we"}, audience="me", issuer="we")
        assert self.find({"sub": "ann"}, need_exp=False) == Principal("ann")

    def test_its_end_and_its_leeway_are_one_time(self) -> None:
        exp = int(time.time()) - 5
        assert self.find({"sub": "ann", "exp": exp}, leeway=30) == Principal("ann", exp + 30)

    @pytest.mark.parametrize(
        ("claims", "options"),
        [
            ({"sub": "ann"}, {}), ({"sub": "ann", "exp": 1}, {}), ({"sub": "ann", "exp": "soon"}, {}), ({}, {}),
            ({"sub": "", "exp": 1 << 33}, {}), ({"sub": 7, "exp": 1 << 33}, {}), ({"sub": "ann", "exp": 1 << 2000}, {}),
            ({"id": 7, "exp": 1 << 33}, {"claim": "id"}), ({"exp": 1 << 33}, {}),
            ({"sub": "ann", "exp": 1 << 33, "nbf": 1 << 33}, {}),
            ({"sub": "ann", "exp": 1 << 33, "aud": "you"}, {}), ({"sub": "ann", "exp": 1 << 33}, {"audience": "me"}),
            ({"sub": "ann", "exp": 1 << 33, "aud": "you"}, {"audience": "me"}),
            ({"sub": "ann", "exp": 1 << 33, "iss": "they"}, {"issuer": "we"}),
        ],
    )  # fmt: skip
    def test_what_does_not_hold(self, claims: dict[str, Any], options: dict[str, Any]) -> None:
        token = ".".join(map(part, ({"alg": "HS256", "typ": "JWT"}, claims)))
        signature = pyjwt.algorithms.HMACAlgorithm(pyjwt.algorithms.HMACAlgorithm.SHA256)
        signed = signature.sign(token.encode(), SECRET.encode())
        find = jwt(SECRET, algorithms=["HS256"], **options)
        assert find(bearing(f"{token}.{base64.urlsafe_b64encode(signed).decode().rstrip('=')}")) is None

    def test_other_keys_algorithms_and_no_tokens(self) -> None:
        claims = {"sub": "ann", "exp": 1 << 33}
        find = jwt(SECRET, algorithms=["HS256"])
        unsigned = f"{part({'alg': 'none'})}.{part(claims)}."
        good = pyjwt.encode(claims, SECRET, "HS256")
        for token in (
            pyjwt.encode(claims, SECRET * 2, "HS256"), pyjwt.encode(claims, SECRET * 2, "HS512"), unsigned, good[:-2], "a.b.c",
            "", ".", "\xff", good + "x" * MAX_TOKEN_CHARS,
        ):  # fmt: skip
            assert find(bearing(token)) is None
        assert find(bearing(good)) == Principal("ann", 1 << 33)
        assert find(request(x_api_key=good)) is None

    def test_a_public_key(self) -> None:
        private = Ed25519PrivateKey.generate()
        find = jwt(private.public_key(), algorithms=["EdDSA"], audience="chat")
        claims = {"sub": "ann", "exp": 1 << 33, "aud": "chat"}
        assert find(bearing(pyjwt.encode(claims, private, "EdDSA"))) == Principal("ann", 1 << 33)
        assert find(bearing(pyjwt.encode(claims, Ed25519PrivateKey.generate(), "EdDSA"))) is None

    @pytest.mark.parametrize(
        ("key", "algorithms"),
        [(SECRET, []), (SECRET, "HS256"), (SECRET, ["none"]), (SECRET, ["HS256", "RS256"]), ("short", ["HS256"])],
    )
    def test_what_is_unsafe_is_refused(self, key: str, algorithms: Any) -> None:
        with pytest.raises(ValueError):
            jwt(key, algorithms=algorithms)

    def test_without_the_extra(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "jwt", None)
        with pytest.raises(ImportError, match=r"tidelog\[auth\]"):
            jwt(SECRET, algorithms=["HS256"])


class TestCookie:
    def put(self, part: Any, principal: str = "ann", **kind: str) -> tuple[Principal, str, str]:
        response = Response()
        found = part.put(response, principal, request=request(**kind))
        set_cookie = response.headers["set-cookie"]
        return found, set_cookie.partition(";")[0], set_cookie

    @pytest.mark.parametrize("name", ["ann", "a.n@n", "安 \N{SNOWMAN}"])
    def test_it_names_who_it_was_set_for(self, name: str) -> None:
        part = cookie(SECRET, max_age=60)
        said, value, whole = self.put(part, name)
        assert part(request(cookie=value)) == said
        assert said.name == name
        assert said.expires == pytest.approx(time.time() + 60, abs=5)
        assert "HttpOnly" in whole
        assert "SameSite=lax" in whole
        assert "Secure" not in whole
        assert "Secure" in self.put(part, scheme="https")[2]

    def test_what_does_not_hold(self) -> None:
        part = cookie(SECRET)
        _, value, _ = self.put(part)
        name, _, rest = value.partition("=")
        who, expires, signature = rest.split(".")
        later = str(int(expires) + 1)
        bob = b"bob".hex()
        for given in (
            f"{bob}.{expires}.{signature}", f"{who}.{later}.{signature}", f"{who}.{expires}.{signature[:-1]}",
            f"{who}.{expires}.", "", ".", "..", "\xff.\xff.\xff", rest + "x",
        ):  # fmt: skip
            assert part(request(cookie=f"{name}={given}")) is None
        assert part(request()) is None
        assert cookie(SECRET + "!")(request(cookie=value)) is None
        assert cookie(SECRET, name="other")(request(cookie=f"other={rest}")) is None

    def test_its_time_is_the_servers_word(self) -> None:
        part = cookie(SECRET, max_age=0)
        assert part(request(cookie=self.put(part)[1])) is None

    def test_it_is_taken_back(self) -> None:
        response = Response()
        cookie(SECRET).take_back(response)
        assert "Max-Age=0" in response.headers["set-cookie"]

    def test_a_short_secret(self) -> None:
        with pytest.raises(ValueError, match="32 characters"):
            cookie("short")


class TestFirstOf:
    @pytest.mark.anyio
    async def test_whoever_knows_first(self) -> None:
        async def late(request: Request) -> Principal | None:
            return Principal("late") if "x-late" in request.headers else None

        find = first_of(api_keys({"ann": KEY}), late, lambda request: None)
        assert await find(bearing(KEY)) == "ann"  # type: ignore[misc]
        assert await find(request(x_late="1")) == Principal("late")  # type: ignore[misc]
        assert await find(request()) is None  # type: ignore[misc]

    def test_nobody_would_get_in(self) -> None:
        with pytest.raises(TypeError):
            first_of()


def part(value: Any) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")
