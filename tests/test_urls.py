"""A list of captions and addresses becomes a folder of pictures, whatever the list, the servers, the disk and a kill do to it."""
import csv
import io
import json
import os
import subprocess
import sys
import threading
import time
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pyarrow
import pytest
from PIL import Image
from pyarrow import parquet
from tiny_data import own_cache  # noqa: F401

from t2ilab.data.datasets import open_data
from t2ilab.data.web import download as urls
from t2ilab.data.web.download import FetchConfig, fetch, fetch_list, picture
from t2ilab.data.web.url_lists import UrlRecord, read_links

QUICK = FetchConfig(threads=8, wait=0.05)
HASTY = FetchConfig(threads=8, timeout=0.3, total=1.0, wait=0.05, megabytes=0.05)


def encoded(kind="JPEG", mode="RGB", size=(20, 15)):
    pixels = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    image = Image.fromarray(pixels[:, :, 0].astype(np.uint16) * 257) if mode == "I;16" else Image.fromarray(pixels).convert(mode)
    image.save(file := io.BytesIO(), kind)
    return file.getvalue()


class Web(ThreadingHTTPServer):
    """A small web: pages are functions, found by the letters of their names. Counts how often each is asked for and how many at the same time."""
    daemon_threads, request_queue_size, handle_error = True, 64, lambda *client: None      # clients that hang up are part of the tests

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Page)
        self.pages, self.asked, self.now, self.most, self.lock = {}, Counter(), set(), 0, threading.Lock()
        self.home = f"http://127.0.0.1:{self.server_address[1]}"

    def links(self, *names):
        return [UrlRecord(row, f"{self.home}/{name}", [f"caption of {name}"]) for row, name in enumerate(names)]


class Page(BaseHTTPRequestHandler):
    log_message = lambda *words: None                           # noqa: E731

    def do_GET(self):
        web, name = self.server, self.path.split("?")[0].strip("/")
        with web.lock:
            web.asked[name] += 1
            web.now.add(name)
            web.most = max(web.most, len(web.now))
        web.pages.get(name.rstrip("0123456789"), reply(status=404))(self)
        web.now.discard(name)


def reply(content=b"", *, status=200, wait=0, **headers):
    def page(request):
        time.sleep(wait)
        request.send_response(status)
        for name, value in ({"Content_Length": len(content)} | headers).items():
            request.send_header(name.replace("_", "-"), value)
        request.end_headers()
        request.wfile.write(content)
    return page


def raw(start, more=b"", times=1, pause=0.0):
    return lambda page: (page.wfile.write(start), [(page.wfile.write(more), time.sleep(pause)) for _ in range(times)])


@pytest.fixture
def web(monkeypatch):
    monkeypatch.setenv("no_proxy", "*")
    with Web() as server:
        server.pages |= {"good": reply(encoded()), "slow": reply(encoded(), wait=0.15)}
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        yield server
        server.shutdown()


def listed(path, *rows):
    path.write_text("".join("\t".join(row) + "\n" for row in rows), "utf-8")
    return path


def became(links, out, fetching=QUICK, **options):
    """Name of each address -> why it is dead, or "" if it was kept."""
    return {link.url.split("/")[-1]: why for link, why in fetch(links, out, fetching, **options)}


def manifest(out):
    """[(row, status, error)] in the order of the rows."""
    return sorted(tuple(json.loads(line)[key] for key in ("row", "status", "error")) for line in (out / "manifest.jsonl").read_text().splitlines())


def whole(out):
    """How many pictures there are; each must decode and have its caption, and nothing else may lie about."""
    pictures = list(out.glob("0*/*.jpg"))
    assert {path.suffix for path in out.glob("0*/*")} <= {".jpg", ".txt", ".json"} and not (out / ".parts").exists()
    assert all(Image.open(path).load() and path.with_suffix(".txt").read_text("utf-8") for path in pictures)
    return len(pictures)


@pytest.mark.parametrize("name", ["sbu", "folder"])
def test_a_list_becomes_a_data_set_with_its_captions(name, web, tmp_path):
    path, out = tmp_path / "list.tsv", tmp_path / "out"
    listed(path, ("a red boat", f"{web.home}/good1"), (f"{web.home}/good2", "\u732b \u043a\u043e\u0442"), ("gone", f"{web.home}/x"),
           ("the same boat", f"{web.home}/good1"), ("Zo\u00eb's caf\u00e9", f"{web.home}/good3?w=1"))
    assert fetch_list(path, out, QUICK) == f"{out}: kept 3 of 4 addresses; dead: 1 HTTP 404"
    dataset = open_data(name, out, size=8)
    assert list(dataset.listing.captions) == [("a red boat", "the same boat"), ("\u732b \u043a\u043e\u0442",), ("Zo\u00eb's caf\u00e9",)]
    assert [path.relative_to(out).as_posix() for path in dataset.listing.pictures] == [f"00000/00000000{k}.jpg" for k in (0, 1, 4)]
    assert web.asked == {"good1": 1, "good2": 1, "x": 1, "good3": 1} and whole(out) == 3


def test_the_manifest_has_one_line_for_each_address_and_a_row_beyond_ten_thousand_goes_to_the_next_shard(web, tmp_path):
    became([*web.links("good", "x"), UrlRecord(2, "file:///etc/passwd", [], "not http"), UrlRecord(12_345, f"{web.home}/good2", ["a boat"])], tmp_path)
    assert manifest(tmp_path) == [(0, "kept", ""), (1, "dead", "HTTP 404"), (2, "dead", "not http"), (12_345, "kept", "")]
    assert sorted(path.name for path in (tmp_path / "00001").iterdir()) == [f"000012345.{end}" for end in ("jpg", "json", "txt")]


def test_slow_servers_are_asked_at_the_same_time(web, tmp_path):
    assert set(became(web.links(*(f"slow{k}" for k in range(24))), tmp_path).values()) == {""} and web.most >= 4


def test_what_is_settled_is_never_fetched_again_and_the_dead_only_on_demand(web, tmp_path):
    links = web.links("good1", "x", "good2")
    assert became(links, tmp_path) == became(links, tmp_path) == {"good1": "", "x": "HTTP 404", "good2": ""} and set(web.asked.values()) == {1}
    web.pages["x"] = reply(encoded())
    for _ in range(2):
        assert became(links, tmp_path, retry_dead=True)["x"] == "" and web.asked == {"good1": 1, "x": 2, "good2": 1}
    assert manifest(tmp_path) == [(row, "kept", "") for row in range(3)] and whole(tmp_path) == 3


def test_a_closed_run_stops_even_in_a_drip_and_goes_on_where_it_was(web, tmp_path):
    web.pages["drip"], links = raw(b"HTTP/1.0 200 OK\r\n\r\n", b"x", 60, 0.1), web.links("drip", *(f"slow{k}" for k in range(1, 40)))
    run = fetch(links, tmp_path, QUICK)
    assert all(next(run) for _ in range(5))
    start = time.perf_counter()
    run.close()
    settled = {row for row, *_ in manifest(tmp_path)}
    assert time.perf_counter() - start < 3 and 0 not in settled and 5 <= len(settled) == whole(tmp_path) < 40
    web.pages["drip"] = reply(encoded())
    assert set(became(links, tmp_path).values()) == {""} and whole(tmp_path) == 40
    assert all(web.asked[f"slow{row}"] == 1 for row in settled) and web.asked.total() <= 40 + 8


@pytest.mark.slow
def test_a_killed_run_goes_on_where_it_was(web, tmp_path):
    path, out = listed(tmp_path / "list.tsv", *((f"slow {k}", f"{web.home}/slow{k}") for k in range(60))), tmp_path / "out"
    code = "import sys; from t2ilab.data.web.download import *; fetch_list(sys.argv[1], sys.argv[2], FetchConfig(threads=8))"
    process = subprocess.Popen([sys.executable, "-c", code, path, out], cwd=Path(__file__).parents[1], stderr=subprocess.DEVNULL)
    while web.asked.total() < 30:
        time.sleep(0.02)
        assert process.poll() is None
    process.kill()
    process.wait()
    settled = {row for row, *_ in manifest(out)}
    assert 10 < len(settled) < 60 and fetch_list(path, out, QUICK).endswith("kept 60 of 60 addresses") and whole(out) == 60
    assert all(web.asked[f"slow{row}"] == 1 for row in settled) and web.asked.total() <= 60 + 8


def test_a_longer_list_adds_to_the_folder_a_torn_line_is_one_address_fetched_again_and_another_list_is_refused(web, tmp_path):
    links = web.links("good1", "good2", "good3")
    assert len(became(links[:1], tmp_path)) == 1 and len(became(links, tmp_path)) == 3 and set(web.asked.values()) == {1}
    os.truncate(tmp_path / "manifest.jsonl", (tmp_path / "manifest.jsonl").stat().st_size - 30)
    assert set(became(links, tmp_path).values()) == {""} and web.asked.total() == 4 and len(manifest(tmp_path)) == whole(tmp_path) == 3
    with pytest.raises(ValueError, match="begun with another list: row 0 was .*good1, now .*good3; name a new folder"):
        became(web.links("good3"), tmp_path)


def test_a_full_disk_stops_with_one_line_and_loses_nothing(web, tmp_path, monkeypatch):
    links, replace, room = web.links(*(f"good{k}" for k in range(20))), os.replace, list(range(20))

    def until_full(source, target):
        try:
            room.pop()                                          # one step, as many threads write at once
        except IndexError:
            raise OSError(28, "No space left on device") from None
        replace(source, target)
    with monkeypatch.context() as disk, pytest.raises(OSError, match="stopped .*No space left on device.*the same command goes on") as raised:
        disk.setattr(os, "replace", until_full)
        became(links, tmp_path)
    before = [row for row, *_ in manifest(tmp_path)]
    assert "\n" not in str(raised.value) and 0 < len(before) == whole(tmp_path) < 8
    assert set(became(links, tmp_path).values()) == {""} and whole(tmp_path) == 20 and all(web.asked[f"good{row}"] == 1 for row in before)


@pytest.mark.slow
@pytest.mark.parametrize("page, why, asked", [
    (reply(status=403), "HTTP 403", 1), (reply(status=410), "HTTP 410", 1), (reply(status=500), "HTTP 500", 3), (reply(status=429), "HTTP 429", 3),
    (reply(b"<html>log in</html>"), "not a picture", 1), (reply(), "not a picture", 1), (reply(encoded()[:-50]), "not a picture", 1),
    (reply(encoded()[:-50], Content_Length=len(encoded())), "broken answer", 3), (raw(b"hello\r\n\r\n"), "broken answer", 3),
    (raw(b""), "no connection", 3), (reply(encoded(), X_Robots_Tag="noindex, noai"), "opted out", 1),
    (raw(b"HTTP/1.0 200 OK\r\n\r\n", b"x" * 65_536, 10_000), "too large", 1), (reply(wait=1.2), "timeout", 3),
    (raw(b"HTTP/1.0 200 OK\r\n\r\n", b"x", 40, 0.1), "timeout", 1), (raw(b"HTTP/1.0 200 OK\r\nA: ", b"x", 40, 0.1), "timeout", 1),
    (reply(status=302, Location="file:///etc/passwd"), "bad redirect", 1), (reply(status=302, Location="ftp://127.0.0.1/a"), "bad redirect", 1),
    (reply(status=302, Location="/page"), "bad redirect", None), (reply(status=302, Location="http://[::1"), "not an address", 1)])
def test_a_bad_answer_is_named_and_only_what_may_pass_is_tried_again(page, why, asked, web, tmp_path):
    web.pages["page"], start = page, time.perf_counter()
    assert became(web.links("page", "good"), tmp_path, HASTY) == {"page": why, "good": ""} and time.perf_counter() - start < 3
    assert whole(tmp_path) == 1 and web.asked["page"] == (asked or web.asked["page"])


@pytest.mark.parametrize("status", [408, 429, 500, 503])
def test_an_error_that_passes_is_overcome(status, web, tmp_path):
    web.pages["page"] = lambda page: (reply(encoded()) if web.asked["page"] > 2 else reply(status=status))(page)
    assert became(web.links("page"), tmp_path) == {"page": ""} and web.asked["page"] == 3


def test_waits_between_tries_grow(web, monkeypatch):
    stop, waits = threading.Event(), []
    monkeypatch.setattr(stop, "wait", waits.append)
    web.pages["page"] = reply(status=503)
    with pytest.raises(urls.FetchRetry, match="HTTP 503"):
        urls.download(f"{web.home}/page", FetchConfig(tries=4), stop)
    assert waits == [1, 2, 4] and web.asked["page"] == 4


@pytest.mark.parametrize("url, why", [("127.0.0.1:1", "no connection"), ("a:b", "not an address"), ("[::1", "not an address"), ("a" * 80, "not an address")])
def test_an_address_that_leads_nowhere_is_dead(url, why, web, tmp_path):
    assert became([UrlRecord(0, f"http://{url}/a", ["a"])], tmp_path) == {"a": why} and manifest(tmp_path) == [(0, "dead", why)]


@pytest.mark.parametrize("code, why, known", [("EAI_NONAME", "no such host", 1), ("EAI_AGAIN", "no name server", 0)])
def test_a_host_without_address_is_dead_but_a_missing_name_server_is_not_remembered(code, why, known, web, tmp_path, monkeypatch):
    def lookup(*args, **options):
        raise urls.socket.gaierror(getattr(urls.socket, code), "...")
    monkeypatch.setattr(urls.socket, "getaddrinfo", lookup)
    assert became(web.links("good"), tmp_path, QUICK) == {"good": why} and len(manifest(tmp_path)) == known


@pytest.mark.parametrize("kind, mode, suffix", [
    ("JPEG", "L", ".jpg"), ("JPEG", "CMYK", ".jpg"), ("PNG", "RGBA", ".png"), ("PNG", "P", ".png"), ("PNG", "1", ".png"), ("PNG", "LA", ".png"),
    ("PNG", "I;16", ".png"), ("GIF", "P", ".gif"), ("WEBP", "RGBA", ".webp"), ("BMP", "RGB", ".bmp"), ("TIFF", "CMYK", ".tiff"), ("PPM", "RGB", ".ppm")])
def test_every_kind_of_picture_is_kept_as_it_is_or_as_an_rgb_jpeg(kind, mode, suffix):
    content = encoded(kind, mode, (40, 30))
    assert picture(content, None) == (content, suffix) and picture(content, 8)[1] == ".jpg"
    image = Image.open(io.BytesIO(picture(content, 8)[0]))
    assert (image.format, image.mode, image.size) == ("JPEG", "RGB", (11, 8))


def test_pictures_are_shrunk_by_averaging_and_never_enlarged():
    for size, want in {(20, 15): (20, 15), (600, 300): (64, 32), (33, 1000): (32, 970), (5000, 40): (4000, 32), (1, 2): (1, 2)}.items():
        assert Image.open(io.BytesIO(picture(encoded(size=size), 32)[0])).size == want
    Image.fromarray(np.tile(np.uint8([0, 255]), (64, 32))).save(stripes := io.BytesIO(), "PNG")
    assert abs(np.asarray(Image.open(io.BytesIO(picture(stripes.getvalue(), 24)[0]))).astype(float) - 127.5).max() < 30


@pytest.mark.parametrize("content", [encoded("PNG")[:-30], b"\xff\xd8\xff", b"<svg/>", encoded("PNG", size=(70_000, 1))], ids=["half", "start", "svg", "wide"])
def test_what_cannot_be_kept_is_not_a_picture(content):
    with pytest.raises(urls.FetchFailed, match="not a picture"):
        picture(content, 32)


def pairs(path, **options):
    return [(*link.captions, link.url) for link in read_links(path, **options)]


@pytest.mark.parametrize("suffix", [".tsv", ".csv", ".parquet"])
def test_columns_are_found_by_name_and_a_caption_is_one_line(suffix, tmp_path):
    caption, path = "\u732b" if suffix == ".tsv" else "\u732b, a \"cat\"\ton\r\na\u2028mat ", tmp_path / f"list{suffix}"
    names, rows = ("id", "Image_URL", "TEXT"), [("1", "http://a/1", "a boat"), ("2", " https://a/2 ", caption)]
    if suffix == ".parquet":
        parquet.write_table(pyarrow.table(dict(zip(names, zip(*rows)))), path)
    else:
        with open(path, "w", newline="", encoding="utf-8") as file:
            csv.writer(file, delimiter="\t" if suffix == ".tsv" else ",").writerows([names, *rows])
    assert pairs(path) == [("a boat", "http://a/1"), (" ".join(caption.split()), "https://a/2")]


def test_quotation_marks_in_a_tsv_stay_and_limit_takes_the_first_rows(tmp_path):
    path = listed(tmp_path / "list.tsv", ('"a boat', "http://a/1"), ('a "boat"', "http://a/2", "more"), ("c", "http://a/3"))
    assert pairs(path, limit=2) == [('"a boat', "http://a/1"), ('a "boat"', "http://a/2")] and len(pairs(path, limit=99)) == 3


def test_a_hostile_row_is_dead_and_says_why(tmp_path):
    rows = [("a", "http://a/1"), ("a\0", "http://a/2"), ("a", "http://a/\0"), ("x" * 10_000_000, "http://a/3"), ("a", "http://a/" + "x" * 10_000_000),
            ("", "http://a/4"), (" ", "http://a/5"), ("alone",), ("a", ""), ("a", "file:///etc/passwd"), ("a", "ftp://a/b"), ("a", "../../b"),
            ("a", "http:///b"), ("a", "data:image/png;base64,AAAA"), ("javascript:x", "a"), ("b", "HTTPS://a/6")]
    links = read_links(listed(tmp_path / "list.tsv", *rows))
    assert [link.row for link in links] == list(range(len(rows)))
    assert [link.why for link in links] == ["", *["damaged row"] * 4, *["no caption"] * 2, *["no address"] * 2, *["not http"] * 6, ""]


def test_odd_addresses_and_redirects_are_followed_and_no_name_from_a_list_becomes_a_file_name(web, tmp_path):
    web.pages |= {"a/../../../b.jpg": reply(encoded()), "caf%C3%A9%20%20b.jpg": reply(encoded()), "moved": reply(status=302, Location="/good")}
    addresses = web.links("a/../../../b.jpg", "good?../../x", "good#/../x", "caf\u00e9 %20b.jpg", "moved")
    assert set(became(addresses, tmp_path / "out").values()) == {""} and whole(tmp_path / "out") == 5 and [path.name for path in tmp_path.iterdir()] == ["out"]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["00000", "manifest.jsonl"]


@pytest.mark.parametrize("name, content, said", [
    ("a.xlsx", b"", "a list ends in one of .tsv .txt .csv .parquet"), ("a.csv", b"name,link\nx,y\n", "row 0: no caption and address.*'name', 'link'"),
    ("a.csv", b"caption,url\na,http://a/1\n\"" + b"x" * 200_000, "row 1: field larger"), ("a.parquet", b"junk", "row 0: .*[Pp]arquet"),
    ("a.tsv", b"", "no caption and address"), ("a.tsv", b"\x00\x01\n", "no caption and address"), ("a.parquet", b"", "row 0: ")])
def test_what_is_no_list_is_an_error_of_one_line(name, content, said, tmp_path):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=said) as raised:
        fetch_list(tmp_path / name, tmp_path / "out")
    assert "\n" not in str(raised.value) and len(str(raised.value)) < 600 and not (tmp_path / "out").exists()


@pytest.mark.parametrize("call, said", [(lambda: FetchConfig(size=0), "size=0"), (lambda: FetchConfig(timeout=float("nan")), "timeout=nan"),
                                        (lambda: read_links("list.tsv", limit=0), "limit=0")])
def test_a_setting_that_makes_no_sense_is_refused(call, said):
    with pytest.raises(ValueError, match=said):
        call()
