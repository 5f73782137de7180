"""How schemathesis logs in, and what it cannot know."""

import os
import uuid

import requests
import schemathesis

URL = os.environ["CONTRACT_URL"]
# Users of one run alone: what it tries wrong keeps them out for a while.
RUN = uuid.uuid4().hex
# These end the login that asks, so each of them has one of its own.
ENDING = ("/user/logout", "/user/refresh", "/user/change_password")


def login(name: str) -> str:
    """Registers, unless that was done, and logs in."""
    account = {"email": f"{name}.{RUN}@example.com", "password": "correct horse"}
    requests.post(f"{URL}/user/register", json=account)
    answer = requests.post(f"{URL}/user/login", json=account)
    answer.raise_for_status()
    return answer.json()["token"]


IS_NOBODY = os.environ["CONTRACT_AS"] == "nobody"
ANN = login("ann")


def key() -> str:
    answer = requests.post(
        f"{URL}/webhook/generate-key", json={"name": str(uuid.uuid4())}, headers={"Authorization": f"Bearer {ANN}"}
    )
    answer.raise_for_status()
    return answer.json()["key"]


KEY = key()


class Login:
    """The token, or the key, that an operation asks for."""

    def get(self, case, context):
        return login(str(uuid.uuid4())) if context.operation.path in ENDING else ANN

    def set(self, case, data, context):
        for scheme in context.operation.definition.raw.get("security", []):
            for name in scheme:
                place, _, parameter = name.partition("_")
                if place == "HTTPBearer":
                    case.headers["Authorization"] = f"Bearer {data}"
                elif place == "APIKeyHeader":
                    case.headers[parameter] = KEY
                elif place == "APIKeyQuery":
                    case.query[parameter] = KEY


if not IS_NOBODY:
    schemathesis.auth(refresh_interval=None)(Login)


@schemathesis.hook
def before_call(context, case, kwargs):
    """What JSON Schema cannot say."""
    headers = case.headers or {}
    # The same name for another request is refused.
    if 0 < len(str(headers.get("Idempotency-Key", ""))) <= 255:
        headers["Idempotency-Key"] = str(uuid.uuid4())
    # Whole numbers of JSON have 64 bits, also where nobody looks at them, and a count is written without a fraction.
    case.body = narrowed(case.body, case.operation.path.startswith("/webhook/"))


def narrowed(value, is_strict):
    if isinstance(value, dict):
        return {name: narrowed(member, is_strict) for name, member in value.items()}
    if isinstance(value, list):
        return [narrowed(item, is_strict) for item in value]
    if is_strict and isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, int) and not isinstance(value, bool) and not -(2**63) <= value < 2**63:
        return 0
    return value
