"""Stock clients against the real server: `run.py <walkabout> [python] [browser]`; without names, both.

Each registers, logs in, spawns an async walker, follows it in every way that there is, fetches the result, and meets errors. It ends with
0 when all was as it should be.
"""

import asyncio
import contextlib
import http.server
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import threading

import httpx
import websockets

HERE = pathlib.Path(__file__).parent
ACCOUNT = {"email": "ann@example.com", "password": "correct horse"}
# How long anything may take.
PATIENCE = 60


@contextlib.contextmanager
def server(program, origin):
    """The program on a store of its own; gives its address."""
    with tempfile.TemporaryDirectory() as folder:
        flags = ["--listen", "127.0.0.1:0", "--data", f"{folder}/data", "--allow-origins", origin]
        process = subprocess.Popen([program, *flags], stdout=subprocess.PIPE, text=True)
        try:
            ready = process.stdout.readline()
            assert "is ready at" in ready, ready
            yield next(word for word in ready.split() if word.startswith("http")).rstrip(",")
            process.terminate()
            assert process.wait(PATIENCE) == 0, "the server stops cleanly"
        finally:
            process.kill()


def same(found, wanted, what):
    assert found == wanted, f"{what}: {found!r}, and should be {wanted!r}"


async def heard(socket, walker_id, after):
    """The events of a run after a number, to its end."""
    await socket.send(json.dumps({"type": "subscribe", "walker_id": walker_id, "after": after}))
    same(json.loads(await socket.recv())["type"], "subscribed", "the answer to subscribe")
    kinds = []
    while not kinds or kinds[-1] not in ("completed", "failed"):
        frame = json.loads(await socket.recv())
        same((frame["type"], frame["seq"]), ("event", after + len(kinds) + 1), "the next event")
        kinds.append(frame["event"]["type"])
    return kinds


async def sent(client, path, **more):
    """The kinds of server-sent events, by their numbers."""
    kinds, number = {}, None
    async with client.stream("GET", path, timeout=PATIENCE, **more) as answer:
        same(answer.status_code, 200, path)
        same(answer.headers["content-type"], "text/event-stream", path)
        async for line in answer.aiter_lines():
            if line.startswith("id: "):
                number = int(line[4:])
            elif line.startswith("event: "):
                kinds[number] = line[7:]
    return kinds


async def python(url):
    socket_url = url.replace("http", "ws", 1) + "/websocket"
    async with httpx.AsyncClient(base_url=url, timeout=PATIENCE) as client:
        async def post(path, body, status):
            answer = await client.post(path, json=body)
            same(answer.status_code, status, path)
            return answer.json()

        same(await post("/user/register", ACCOUNT, 201), {"message": "Successfully Registered!"}, "register")
        await post("/user/register", ACCOUNT, 409)
        wrong = await post("/user/login", ACCOUNT | {"password": "wrong"}, 400)
        same(wrong, {"message": "Invalid Email/Password!"}, "a wrong password")
        login = await post("/user/login", ACCOUNT, 200)
        token, root = login["token"], login["user"]["root_id"]
        same((await client.get("/walkers")).status_code, 403, "without a token")
        client.headers["Authorization"] = f"Bearer {token}"

        async def ticket():
            return (await post("/user/ticket", {}, 200))["ticket"]

        async def greeted(socket, is_own=True):
            greeting = json.loads(await socket.recv())
            same(greeting["type"], "connection", "the first frame")
            same(greeting["data"]["root_id"].replace("-", "") == f"n::{root}", is_own, "whose socket it is")
            return greeting["data"]["client_id"]

        bearer = {"Authorization": f"Bearer {token}"}
        async with websockets.connect(socket_url, additional_headers=bearer) as socket:
            client_id = await greeted(socket)
            accepted = await post("/walker/process_with_updates", {"client_id": client_id}, 200)
            same(sorted(accepted), ["status", "walker_id"], "the answer to an async walker")
            run = accepted["walker_id"]
            # What is pushed to this connection, without being asked for.
            last = {}
            while last.get("type") != "complete":
                last = json.loads(await socket.recv())
            kinds = await heard(socket, run, 0)
            same((kinds[0], kinds[1], kinds[-1]), ("accepted", "started", "completed"), "the events")
        once = await ticket()
        async with websockets.connect(f"{socket_url}?ticket={once}") as socket:
            await greeted(socket)
            same(await heard(socket, run, 2), kinds[2:], "from a number on")
        async with websockets.connect(f"{socket_url}?ticket={once}") as socket:
            await greeted(socket, is_own=False)
        offered = ["walkabout", f"bearer.{token}"]
        async with websockets.connect(socket_url, subprotocols=offered) as socket:
            same(socket.subprotocol, "walkabout", "the subprotocol")
            await greeted(socket)
            same(await heard(socket, run, 0), kinds, "with the subprotocol")

        events = f"/walker/{run}/events"
        stream = {"headers": {"Accept": "text/event-stream"}}
        numbered = dict(enumerate(kinds, 1))
        same(await sent(client, events, **stream), numbered, "server-sent events")
        stream["headers"]["Last-Event-ID"] = "3"
        same(await sent(client, events, **stream), dict(list(numbered.items())[3:]), "after the third")

        record = (await client.get(f"/walker/{run}")).json()
        same(record["schedule"]["status"], "completed", "the record")
        same(record["context"]["progress"], 100, "the result")
        listed = (await client.get("/walkers", params={"status": "completed"})).json()
        same([one["id"] for one in listed["walkers"]], [run], "own runs")

        detail = (await post("/walker/process_with_updates", {"client_id": 5}, 422))["detail"][0]
        same((detail["type"], detail["loc"]), ("string_type", ["body", "client_id"]), "what does not fit")
        await post("/walker/nothing", {}, 404)
        bad = await client.get("/walkers", headers={"Authorization": "Bearer none"})
        same((bad.status_code, bad.json()), (401, {"detail": "Unauthorized"}), "a bad token")
        named = await client.get("/livez", headers={"X-Request-Id": "mine"})
        same(named.headers["x-request-id"], "mine", "the id of a request")


class Pages(http.server.SimpleHTTPRequestHandler):
    """The pages, and what they say in the end."""

    said = None

    def __init__(self, *args, **more):
        super().__init__(*args, directory=HERE, **more)

    def do_POST(self):
        length = int(self.headers["content-length"])
        self.server.said = json.loads(self.rfile.read(length))
        self.send_response(204)
        self.end_headers()
        self.server.heard.set()

    def log_message(self, *_):
        pass


@contextlib.contextmanager
def pages():
    """Serves the pages at an origin of their own."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Pages) as serving:
        serving.heard = threading.Event()
        thread = threading.Thread(target=serving.serve_forever)
        thread.start()
        try:
            yield serving
        finally:
            serving.shutdown()
            thread.join()


def browser(url, serving):
    """Opens the page, which does all the rest and says how it went."""
    program = shutil.which("chromium") or shutil.which("chromium-browser")
    assert program, "chromium is not in the path"
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        flags = ["--headless=new", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"]
        flags += ["--remote-debugging-port=0", f"--user-data-dir={profile}"]
        if os.geteuid() == 0:
            flags.append("--no-sandbox")
        page = f"http://127.0.0.1:{serving.server_port}/page.html?server={url}"
        quiet = subprocess.DEVNULL
        process = subprocess.Popen([program, *flags, page], stdout=quiet, stderr=quiet, start_new_session=True)
        try:
            assert serving.heard.wait(PATIENCE), "the page said nothing"
        finally:
            os.killpg(process.pid, 9)
            process.wait()
    print("\n".join(serving.said["done"]))
    same(serving.said["error"], None, "the page")


def main():
    program, *names = sys.argv[1:]
    with pages() as serving:
        for name in names or ["python", "browser"]:
            with server(program, f"http://127.0.0.1:{serving.server_port}") as url:
                if name == "python":
                    asyncio.run(asyncio.wait_for(python(url), PATIENCE))
                else:
                    browser(url, serving)
            print(f"{name}: as it should be")


main()
