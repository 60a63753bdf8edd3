"""Downloader for lists of image URLs with captions; writes the folder layout that sets/sbu.py reads.

Conceptual Captions (Sharma et al. 2018) and most captioned sets since are such lists. Each address is fetched
once: manifest.jsonl remembers what became of it, so a killed run goes on where it was.
Left out on purpose: archives as output, several machines, logins.
"""
import http.client
import io
import json
import os
import re
import shutil
import socket
import ssl
import string
import threading
import urllib.request
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, CancelledError, ThreadPoolExecutor, wait
from dataclasses import dataclass
from functools import cache, partial
from itertools import islice
from pathlib import Path
from time import monotonic
from urllib.error import HTTPError, URLError
from urllib.parse import quote

from PIL import Image

from ... import __version__
from ...ranges import check_ranges
from ..decode import FORMATS, open_rgb
from .url_lists import UrlRecord, read_links

HEADERS = {"User-Agent": f"Mozilla/5.0 (compatible; t2ilab/{__version__})", "Accept": "image/*"}
# In X-Robots-Tag: the owner does not want the image collected.
OPTED_OUT = re.compile(r"\bno(image)?(ai|index)\b", re.IGNORECASE)
NO_DNS = "no name server"                       # says nothing about the address, so it is not remembered
SECURE = cache(ssl.create_default_context)      # reads the certificates once, and only if needed
MANIFEST = "manifest.jsonl"                     # in the folder: what became of each address
PARTS = ".parts"                                # in the folder: files that are not whole yet


@dataclass(frozen=True)
class FetchConfig:
    """How images are fetched, and how they are kept."""
    size: int | None = None         # pixels on the shorter side of the JPEGs to keep; not given: files as is
    threads: int = 32               # addresses tried at the same time
    timeout: float = 10.0           # seconds that a server may be silent
    total: float = 60.0             # seconds for one image, all tries together
    megabytes: float = 20.0         # the largest file to take
    tries: int = 3                  # for transient errors: timeout, lost connection, HTTP 408, 425, 429, 5xx
    wait: float = 1.0               # seconds before the second try, twice as many before each further one

    def __post_init__(self):
        check_ranges(self)


class FetchFailed(Exception):
    """Why there is no image at an address, in a few words."""


class FetchRetry(FetchFailed):
    """Why there is none now; another try may help."""


CAUSES = (                              # the first row that an error is an instance of
    (str, FetchFailed, "bad redirect"),
    (TimeoutError, FetchRetry, "timeout"),
    (ssl.SSLCertVerificationError, FetchFailed, "bad certificate"),
    (OSError, FetchRetry, "no connection"),
    ((http.client.InvalidURL, ValueError), FetchFailed, "not an address"),
    (http.client.HTTPException, FetchRetry, "broken answer"))


def download(url: str, fetching: FetchConfig, stop: threading.Event) -> bytes:
    """The bytes at an address, tried again after transient errors.

    Raises FetchFailed, which says why there is nothing; CancelledError, soon after stop is set."""
    deadline = monotonic() + fetching.total

    def left():                                 # seconds to wait for the next byte
        if stop.is_set():
            raise CancelledError
        if monotonic() >= deadline:
            raise TimeoutError
        return min(deadline - monotonic(), fetching.timeout)

    pauses = [fetching.wait * 2 ** k for k in range(fetching.tries - 1)]
    for pause in [*pauses, fetching.total]:
        try:
            return _try(url, int(fetching.megabytes * 1e6), left)
        except FetchRetry:
            if monotonic() + pause > deadline:
                raise
            stop.wait(pause)


def _try(url, most, left):
    """One try. most: bytes."""
    try:
        request = urllib.request.Request(quote(url, safe=string.punctuation), headers=HEADERS)
        with urllib.request.build_opener(_Web(left)).open(request) as answer:
            content = answer.read(most + 1)
            if OPTED_OUT.search(" ".join(answer.headers.get_all("X-Robots-Tag", []))):
                raise FetchFailed("opted out")
            if len(content) > most:
                raise FetchFailed("too large")
            if answer.length:
                raise http.client.IncompleteRead(content, answer.length)
            return content
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise _dead(error) from error


def _dead(error):
    """The FetchFailed or FetchRetry that says what an error means."""
    if isinstance(error, HTTPError):
        error.close()
        kind = FetchRetry if error.code in (408, 425, 429) or error.code >= 500 else FetchFailed
        return kind("bad redirect" if error.code < 400 else f"HTTP {error.code}")
    cause = error.reason if isinstance(error, URLError) else error
    if isinstance(cause, socket.gaierror):
        return FetchRetry(NO_DNS) if cause.errno == socket.EAI_AGAIN else FetchFailed("no such host")
    return next(kind(why) for causes, kind, why in CAUSES if isinstance(cause, causes))


class _Web(urllib.request.HTTPSHandler, urllib.request.HTTPHandler, urllib.request.FTPHandler):
    """http and https with a time limit, and no ftp to be redirected to.

    The socket's own limit would start anew with every byte that drips in."""

    def __init__(self, left):
        super().__init__(context=SECURE())
        self.left = left

    def do_open(self, http_class, request, **options):
        def answer(sock, **more):
            made = http.client.HTTPResponse(sock, **more)
            made.fp = io.BufferedReader(_Timed(made.fp.detach(), sock, self.left))
            return made

        def connection(host, timeout, **more):
            made = http_class(host, timeout=self.left(), **more)
            made.response_class = answer
            return made
        return super().do_open(connection, request, **options)

    def ftp_open(self, request):
        raise URLError("ftp")


class _Timed(io.RawIOBase):
    """The bytes of a socket, as long as there is time left."""

    def __init__(self, raw, sock, left):
        self.raw, self.sock, self.left, self.readable = raw, sock, left, raw.readable

    def readinto(self, buffer):
        self.sock.settimeout(self.left())
        return self.raw.readinto(buffer)

    def close(self):
        self.raw.close()
        super().close()


def picture(content: bytes, size: int | None) -> tuple[bytes, str]:
    """What to keep of a fetched file, and its suffix: the file itself, or an RGB JPEG shrunk to `size`.

    size: pixels on the shorter side; None keeps the file.  FetchFailed if it is broken."""
    try:
        image, sides = open_rgb(io.BytesIO(content), at_least=size or 1)
        if sides == (1, 1):
            raise FetchFailed("a tracking pixel")
        if size is None:
            kind = Image.open(io.BytesIO(content), formats=FORMATS).format
            return content, ".jpg" if kind in ("JPEG", "MPO") else f".{kind.lower()}"
        scale = min(1.0, size / min(sides))
        smaller = [max(1, round(side * scale)) for side in sides]
        image = image.resize(smaller, Image.Resampling.BICUBIC)                 # antialiased
        image.save(file := io.BytesIO(), "JPEG", quality=95)
    except (OSError, ValueError) as error:
        raise FetchFailed("not a picture") from error
    return file.getvalue(), ".jpg"


def save(content: bytes, suffix: str, link: UrlRecord, out: Path) -> None:
    """Write 00000/000000012.json, .txt and the image, each in one step.

    The image comes last: where there is an image, there is its caption."""
    key = f"{link.row:09d}"
    shard = out / f"{link.row // 10_000:05d}"
    captions = list(dict.fromkeys(link.captions))
    caption = captions[0] if len(captions) == 1 else None       # of several, readers take the .txt
    row = {"key": key, "caption": caption, "url": link.url, "status": "success", "error_message": None}
    files = {".json": json.dumps(row, ensure_ascii=False, indent=1).encode(),
             ".txt": "\n".join(captions).encode(),
             suffix: content}
    shard.mkdir(exist_ok=True)
    for ending, what in files.items():
        part = out / PARTS / f"{key}{ending}"
        part.write_bytes(what)
        os.replace(part, shard / part.name)


def fetch(links: Sequence[UrlRecord], out, fetching: FetchConfig = FetchConfig(), *,
          retry_dead: bool = False) -> Iterator[tuple[UrlRecord, str]]:
    """Fetch into the folder out; yields (link, "") once its image is there, or (link, why it is dead).

    What is known already comes first. Killed or closed at any moment, the next call goes on from there: no
    half files, nothing fetched twice, except the dead with retry_dead.
    Errors, one line each: OSError (the disk is full), ValueError (another list was begun here)."""
    out = Path(out)
    stop, lock = threading.Event(), threading.Lock()
    shutil.rmtree(out / PARTS, ignore_errors=True)
    (out / PARTS).mkdir(parents=True)
    pool = ThreadPoolExecutor(fetching.threads)
    try:
        known = _known(out, {link.row: link.url for link in links}, fetching.size, retry_dead)
        yield from ((link, known[link.row]) for link in links if link.row in known)
        work = partial(_settle, out=out, fetching=fetching, stop=stop, lock=lock)
        unknown = (link for link in links if link.row not in known)
        yield from _as_done(pool, work, unknown, 2 * fetching.threads)
    except OSError as error:
        raise OSError(f"{out}: stopped ({error}); what is fetched stays, "
                      "and the same command goes on from here") from error
    finally:
        stop.set()
        pool.shutdown(cancel_futures=True)
        shutil.rmtree(out / PARTS, ignore_errors=True)


def _known(out, urls, size, retry_dead):
    """The manifest as row -> why it is dead, or ""; without the dead if they are to be tried again.

    Writes it anew, one line per row and none torn."""
    known, manifest = {}, out / MANIFEST
    for line in manifest.read_bytes().splitlines() if manifest.exists() else ():
        try:
            found = json.loads(line)
            row, url, why = int(found["row"]), found["url"], str(found["error"])
            kept_at = found.get("size", size)
        except (ValueError, KeyError, TypeError):       # torn by a kill or a full disk: fetched again
            continue
        if urls.get(row, url) != url:
            raise ValueError(f"{out} was begun with another list: row {row} was {url:.200}, "
                             f"now {urls[row]:.200}; name a new folder")
        if kept_at != size:
            raise ValueError(f"{out} was begun with size {kept_at}, now {size}: "
                             "name a new folder, or keep the size")
        known[row] = why, line
    (out / PARTS / MANIFEST).write_bytes(b"".join(line + b"\n" for _, line in known.values()))
    os.replace(out / PARTS / MANIFEST, manifest)
    return {row: why for row, (why, _) in known.items() if not (why and retry_dead)}


def _as_done(pool, work, items, ahead):
    """Results in the order in which they come, with only `ahead` items under way."""
    running = set()
    while running := running | {pool.submit(work, item) for item in islice(items, ahead - len(running))}:
        done, running = wait(running, return_when=FIRST_COMPLETED)
        yield from (future.result() for future in done)


def _settle(link, out, fetching, stop, lock):
    """Fetch one link and note in the manifest what became of it: (link, why it is dead or "")."""
    why = link.why
    try:
        if not why:
            content = download(link.url, fetching, stop)
            save(*picture(content, fetching.size), link, out)
    except FetchFailed as dead:
        why = str(dead)
    if why != NO_DNS:
        with lock, open(out / MANIFEST, "a") as file:
            row = {"row": link.row, "url": link.url, "status": "dead" if why else "kept", "error": why}
            file.write(json.dumps(row | {"size": fetching.size}) + "\n")
    return link, why


def fetch_list(path, out, fetching: FetchConfig = FetchConfig(), *, limit: int | None = None,
               retry_dead: bool = False) -> str:
    """Fetch a list into a folder with a progress bar; returns what became of it in one line.

    OSError with that line if not one was kept.  Other errors: see read_links and fetch."""
    from tqdm import tqdm
    links, counts = read_links(path, limit), Counter()
    with tqdm(total=len(links), desc=str(out), unit="address", mininterval=0.5) as bar:
        for _, why in fetch(links, out, fetching, retry_dead=retry_dead):
            counts[why] += 1
            bar.set_postfix(kept=counts[""], dead=counts.total() - counts[""], refresh=False)
            bar.update()
    dead = ", ".join(f"{count:,} {why}" for why, count in counts.most_common() if why)
    said = f"{out}: kept {counts['']:,} of {len(links):,} addresses" + (f"; dead: {dead}" if dead else "")
    if not counts[""]:
        raise OSError(said)
    return said
