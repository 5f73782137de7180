"""How schemathesis logs in, and what it cannot know."""

import itertools
import os
import time
import uuid

import requests
import schemathesis

URL = os.environ["CONTRACT_URL"]
# Users of one run alone: what it tries wrong keeps them out for a while. Before the @ of an address are 64 characters at most.
RUN = uuid.uuid4().hex[:12]
# These end the login that asks, so each of them has one of its own.
ENDING = ("/user", "/user/logout", "/user/refresh", "/user/change_password")
PASSWORD = "correct horse"


def post(path: str, body: dict, token: str | None = None) -> requests.Response:
    return requests.post(f"{URL}{path}", json=body, headers={"Authorization": f"Bearer {token}"} if token else {})


def login(name: str) -> dict:
    """Registers, unless that was done, and logs in: `token` and `user`."""
    # The name is for an application that asks for one.
    account = {"email": f"{name}.{RUN}@example.com", "password": PASSWORD, "name": name}
    post("/user/register", account)
    answer = post("/user/login", account)
    answer.raise_for_status()
    return answer.json()


def key(token: str) -> dict:
    answer = post("/webhook/generate-key", {"name": str(uuid.uuid4())}, token)
    answer.raise_for_status()
    return answer.json()


IS_NOBODY = os.environ["CONTRACT_AS"] == "nobody"
LOGIN = login("ann")
ANN = LOGIN["token"]
KEY = key(ANN)


def known() -> dict:
    """Path parameters that lead somewhere: Ann's root, a key of hers, and, where there is a walker that makes one, a run with a file."""
    places = {"node": f"n::{LOGIN['user']['root_id']}", "id": KEY["id"]}
    if "/walker/generate_report" in requests.get(f"{URL}/openapi.json").json()["paths"]:
        answer = post("/walker/generate_report", {"user_id": LOGIN["user"]["id"], "report_type": "summary"}, ANN)
        answer.raise_for_status()
        places |= {"walker_id": answer.json()["walker_id"], "name": "report-summary.pdf"}
        until = time.monotonic() + 60
        while status(places["walker_id"]) != "completed":
            assert time.monotonic() < until, "the report is not ready"
            time.sleep(0.05)
    return places


def status(run: str) -> str:
    answer = requests.get(f"{URL}/walker/{run}", headers={"Authorization": f"Bearer {ANN}"})
    answer.raise_for_status()
    return answer.json()["schedule"]["status"]


KNOWN = known()
# Every second case that may hold gets what is known, the others what was made up.
TURN = itertools.cycle((True, False))


class Login:
    """The token, or the key, that an operation asks for."""

    def get(self, case, context):
        return login(str(uuid.uuid4()))["token"] if context.operation.path in ENDING else ANN

    def set(self, case, data, context):
        for scheme in context.operation.definition.raw.get("security", []):
            for name in scheme:
                place, _, parameter = name.partition("_")
                if place == "HTTPBearer":
                    case.headers["Authorization"] = f"Bearer {data}"
                elif place == "APIKeyHeader":
                    case.headers[parameter] = KEY["key"]
                elif place == "APIKeyQuery":
                    case.query[parameter] = KEY["key"]


if not IS_NOBODY:
    schemathesis.auth(refresh_interval=None)(Login)


@schemathesis.hook
def before_call(context, case, kwargs):
    """What JSON Schema cannot say."""
    if case.meta and case.meta.generation.mode.is_positive and next(TURN):
        for name in set(case.path_parameters or ()) & KNOWN.keys():
            case.path_parameters[name] = KNOWN[name]
        if isinstance(case.body, dict):
            for name in {"password", "old_password"} & case.body.keys():
                case.body[name] = PASSWORD
        if case.operation.path == "/webhook/delete" and isinstance(case.body, dict):
            case.body["ids"] = [key(ANN)["id"]]
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
