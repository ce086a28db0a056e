"""Downloads: from a real server on this machine, with hash, mirror and resume."""

import hashlib
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from recbole_llmgraph.base.errors import UserError
from recbole_llmgraph.data import download as module
from recbole_llmgraph.data.catalogue import Source, dataset_card
from recbole_llmgraph.data.download import cache_folder, download
from recbole_llmgraph.data.prepare import prepare


class Server:
    """Serves bytes by path; `cut` makes the next answer break off after so many bytes."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.asked: list[tuple[str, str | None]] = []
        self.cut: int | None = None
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                wanted = self.headers.get("Range")
                outer.asked.append((self.path, wanted))
                data = outer.files.get(self.path)
                if data is None:
                    return self.send_error(404)
                start = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted else 0
                if start >= len(data):
                    return self.send_error(416)
                self.send_response(206 if wanted else 200)
                self.send_header("Content-Length", str(len(data) - start))
                self.end_headers()
                end = len(data) if outer.cut is None else start + outer.cut
                outer.cut = None
                self.wfile.write(data[start:end])

            def log_message(self, *_: Any) -> None:
                """Quiet."""

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_port}"
        threading.Thread(target=self.http.serve_forever, daemon=True).start()


@pytest.fixture
def server() -> Iterator[Server]:
    started = Server()
    yield started
    started.http.shutdown()
    started.http.server_close()


def source(url: str, data: bytes | None = None, **more: Any) -> Source:
    digest = "unknown" if data is None else hashlib.sha256(data).hexdigest()
    return Source(file="Mini.txt", holds=["interactions"], converter="s3rec", url=url, sha256=digest, **more)


DATA = b"".join(b"%d 1 2 3\n" % user for user in range(20_000))


def test_a_file_is_fetched_once_and_checked(server, tmp_path) -> None:
    server.files["/Mini.txt"] = DATA
    wanted = source(f"{server.url}/Mini.txt", DATA)
    for _ in range(2):
        assert download(wanted, tmp_path).read_bytes() == DATA
    assert server.asked == [("/Mini.txt", None)]
    assert [path.name for path in tmp_path.iterdir()] == ["Mini.txt"]


def test_a_broken_download_goes_on_where_it_stopped(server, tmp_path) -> None:
    server.files["/Mini.txt"] = DATA
    server.cut = 150_000
    wanted = source(f"{server.url}/Mini.txt", DATA)
    with pytest.raises(UserError):
        download(wanted, tmp_path)
    assert not (tmp_path / "Mini.txt").exists()
    assert download(wanted, tmp_path).read_bytes() == DATA
    assert server.asked[1] == ("/Mini.txt", "bytes=131072-")


def test_a_leftover_longer_than_the_file_starts_anew(server, tmp_path) -> None:
    server.files["/Mini.txt"] = DATA
    (tmp_path / ".Mini.txt.part").write_bytes(b"x" * (len(DATA) + 5))
    assert download(source(f"{server.url}/Mini.txt", DATA), tmp_path).read_bytes() == DATA


def test_other_bytes_than_pinned_are_refused(server, tmp_path) -> None:
    server.files["/Mini.txt"] = b"something else\n"
    with pytest.raises(UserError, match="sent other bytes than the card pins"):
        download(source(f"{server.url}/Mini.txt", DATA), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_mirror_is_asked_second(server, tmp_path) -> None:
    server.files["/mirror/Mini.txt"] = DATA
    wanted = source(f"{server.url}/gone/Mini.txt", DATA, mirrors=[f"{server.url}/mirror/Mini.txt"])
    assert download(wanted, tmp_path).read_bytes() == DATA
    assert [path for path, _ in server.asked] == ["/gone/Mini.txt", "/mirror/Mini.txt"]


def test_a_dataset_is_made_from_downloads_and_local_files_together(server, shop, tmp_path) -> None:
    server.files["/Mini.txt"] = shop.write_sequences().read_bytes()
    (shop.folder / "Mini.txt").unlink()
    shop.write("mini.items.tsv", "item_id\ttitle\n1\tHere\n")
    sources = [
        {
            "file": "Mini.txt",
            "holds": ["interactions"],
            "converter": "s3rec",
            "url": f"{server.url}/Mini.txt",
        },
        {"file": "mini.items.tsv", "holds": ["items"], "converter": "joined", "url": f"{server.url}/never"},
    ]
    card = dataset_card(str(shop.card(sources=sources)))
    made = prepare(card, tmp_path / "data", source=shop.folder)
    assert made.manifest["text_fields"] == {"title": 1}
    assert [path for path, _ in server.asked] == ["/Mini.txt"], "only what lies nowhere is fetched"
    assert (cache_folder() / "mini" / "Mini.txt").is_file()


def test_one_message_names_every_missing_file(shop, tmp_path, server) -> None:
    sources = [
        {
            "file": "Mini.txt",
            "holds": ["interactions"],
            "converter": "s3rec",
            "url": f"{server.url}/a/Mini.txt",
        },
        {
            "file": "meta.json",
            "holds": ["items"],
            "converter": "mcauley",
            "url": f"{server.url}/b/meta.json.gz",
        },
        {"file": "times.tsv", "holds": ["times"], "converter": "joined", "url": f"{server.url}/c"},
        {"file": "more.tsv", "holds": ["items"], "converter": "joined", "optional": True},
    ]
    card = dataset_card(str(shop.card(sources=sources)))
    with pytest.raises(UserError) as error:
        prepare(card, tmp_path / "data", source=shop.folder)
    text = str(error.value)
    assert "\n" not in text
    for part in (
        f"Mini.txt ({server.url}/a/Mini.txt)",
        "meta.json",
        str(shop.folder),
        "--source DIR",
        "DIR/mini/",
    ):
        assert part in text
    assert "times.tsv" not in text and "more.tsv" not in text


def test_the_cache_lies_where_the_user_says(monkeypatch, tmp_path) -> None:
    monkeypatch.setenv(module.CACHE_VARIABLE, str(tmp_path))
    assert cache_folder() == tmp_path
    monkeypatch.delenv(module.CACHE_VARIABLE)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_folder() == Path(tmp_path / "xdg/recbole_llmgraph/sources")
