"""Lists and folders that are fetched into once more: what differs from the first time, and what is damaged, is named."""
from dataclasses import replace

import pytest
from test_urls import QUICK, became, encoded, reply, web  # noqa: F401
from tiny_data import own_cache  # noqa: F401

from t2ilab.cli import main
from t2ilab.data.web.url_lists import read_links


def test_another_size_in_the_same_folder_is_refused(web, tmp_path):
    became(web.links("good1"), tmp_path, replace(QUICK, size=8))
    assert became(web.links("good1"), tmp_path, replace(QUICK, size=8)) == {"good1": ""}
    with pytest.raises(ValueError, match="was begun with size 8, now 16"):
        became(web.links("good1"), tmp_path, replace(QUICK, size=16))


def test_a_tracking_pixel_is_no_picture(web, tmp_path):
    web.pages["pixel"] = reply(encoded("PNG", size=(1, 1)))
    assert became(web.links("pixel"), tmp_path) == {"pixel": "a tracking pixel"}


def test_a_list_of_which_nothing_was_kept_is_a_mistake(web, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "list.tsv").write_text(f"a dog\t{web.home}/gone1.png\na cat\t{web.home}/gone2.png\n")
    assert main(["data", "fetch", "list.tsv"]) == 1
    out, err = capsys.readouterr()
    assert not out and err.splitlines()[-1] == "t2ilab: data/list: kept 0 of 2 addresses; dead: 2 HTTP 404"


def test_a_quote_left_open_in_a_list_is_one_line(tmp_path):
    (tmp_path / "a.csv").write_text('caption,url\n"a 5 inch pipe,http://a.org/1\na dog,http://a.org/2\n')
    with pytest.raises(ValueError, match="a.csv, row 0: unexpected end of data"):
        read_links(tmp_path / "a.csv")


def test_conceptual_captions_is_read_row_by_row(realdata):
    path, = (realdata / "conceptual_captions").glob("*.tsv")
    links, lines = read_links(path), path.read_text("utf-8").split("\n")[:-1]
    assert [(link.row, f"{link.captions[0]}\t{link.url}", link.why) for link in links] == [(row, line, "") for row, line in enumerate(lines)]
    assert len(links) == 15_833 and sum(not link.captions[0].isascii() for link in links) == 29
