"""Clusters are found and named, their head is the nearest centroid, the page hears one person."""

import asyncio
import http.client
import json
import shutil
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml

from detach.cli import main
from detach.edge.bundle import open_bundle
from detach.edge.replay import Options, run
from detach.errors import DataError
from detach.naming import (
    CLUSTERS_FILE,
    NAMES_FILE,
    UNKNOWN,
    Clusters,
    Way,
    check_names,
    choose_counts,
    find_clusters,
    load_clusters,
    make_head,
    read_names,
    save_clusters,
    save_names,
)
from detach.probe import HEAD_FILE, NAMED_FILE, Head, load_head
from detach.report.naming import Found, find, render
from detach.report.naming_server import Server

from .chromium import chromium, program  # type: ignore[import-not-found]
from .export_runs import VARIANTS, drawn_run  # type: ignore[import-not-found]

WIDTH, PLACES = 8, 3


def units(rows: np.ndarray) -> np.ndarray:
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True))


@pytest.fixture(scope="module")
def scene() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Embeddings of 600 windows in three places, with 2, 3 and 4 actions; places; actions."""
    rng = np.random.default_rng(4)
    centres = units(rng.normal(size=(9, WIDTH)))
    of_place = np.repeat([0, 1, 2], (2, 3, 4))
    action = rng.integers(0, 9, 600)
    spatial = units(np.eye(PLACES)[of_place[action]] + 0.05 * rng.normal(size=(600, PLACES)))
    temporal = units(centres[action] + 0.08 * rng.normal(size=(600, WIDTH)))
    whole = np.concatenate([spatial, temporal], axis=1) / np.sqrt(2)
    return whole.astype(np.float32), of_place[action].astype(np.int64), action


@pytest.fixture(scope="module")
def clusters(scene: tuple[np.ndarray, np.ndarray, np.ndarray]) -> Clusters:
    return find_clusters(scene[0], scene[1], WIDTH, model="m")


def test_actions_are_found_within_places(
    clusters: Clusters, scene: tuple[np.ndarray, np.ndarray, np.ndarray]
) -> None:
    assert clusters.ids == ("1-1", "1-2", "2-1", "2-2", "2-3", "3-1", "3-2", "3-3", "3-4")
    for j in range(len(clusters.ids)):
        inside = scene[2][clusters.label == j]
        assert np.bincount(inside).max() >= 0.98 * len(inside)
    assert clusters.size.sum() == len(scene[0])
    sizes = clusters.size[clusters.place == 2]
    assert (np.diff(sizes) <= 0).all()


def test_no_more_names_are_asked_for_than_wanted(
    scene: tuple[np.ndarray, np.ndarray, np.ndarray],
) -> None:
    assert len(find_clusters(scene[0], scene[1], WIDTH, model="m", most=5).ids) == 5
    with pytest.raises(DataError, match="3 places"):
        find_clusters(scene[0], scene[1], WIDTH, model="m", most=2)


def test_windows_that_are_all_alike_are_not_cut_further() -> None:
    half = np.eye(2)[np.repeat([0, 1], 60)] / np.sqrt(2)
    rows = np.concatenate([np.ones((120, 1)) / np.sqrt(2), half], axis=1).astype(np.float32)
    found = find_clusters(rows, np.zeros(120, dtype=np.int64), 2, model="m")
    assert found.size.tolist() == [60, 60]
    alike = find_clusters(rows[:60], np.zeros(60, dtype=np.int64), 2, model="m")
    assert alike.ids == ("1-1",)
    assert alike.radius > 0


def test_a_place_gives_up_what_costs_least() -> None:
    empty = np.zeros(0, dtype=np.int64)
    ways = {
        0: {1: Way(0.0, 9.0, empty), 2: Way(0.5, 3.0, empty), 3: Way(0.6, 2.5, empty)},
        1: {1: Way(0.0, 9.0, empty), 2: Way(0.9, 1.0, empty)},
    }
    assert choose_counts(ways, 9) == {0: 3, 1: 2}
    assert choose_counts(ways, 4) == {0: 2, 1: 2}
    assert choose_counts(ways, 3) == {0: 1, 1: 2}


def test_the_head_is_the_nearest_centroid_within_the_radius(
    clusters: Clusters, scene: tuple[np.ndarray, np.ndarray, np.ndarray]
) -> None:
    names = dict.fromkeys(clusters.ids, "b") | {"1-1": "a", "1-2": "a", "3-1": None}
    probe, classes, rows = make_head(clusters, names, "names")
    assert classes == ("a", "b", UNKNOWN)
    head = Head(probe.weight, probe.bias, "names", classes, "m", rows)
    rng = np.random.default_rng(1)
    strange = units(rng.normal(size=(200, PLACES + WIDTH)))
    some = np.concatenate([scene[0], strange]).astype(np.float32)
    away = np.linalg.norm(some[:, None] - clusters.centroid, axis=2)
    nearest = [names[clusters.ids[j]] for j in away.argmin(axis=1)]
    expected = [
        n if n and d < clusters.radius else UNKNOWN
        for n, d in zip(nearest, away.min(axis=1), strict=True)
    ]
    said = [classes[k] for k in head.probabilities(some).argmax(axis=1)]
    assert said == expected
    own = np.array(said[: len(scene[0])])[clusters.label != clusters.ids.index("3-1")]
    assert (own == UNKNOWN).mean() < 0.08
    assert said[len(scene[0]) :].count(UNKNOWN) > 100


def test_clusters_come_back(tmp_path: Path, clusters: Clusters) -> None:
    save_clusters(tmp_path, clusters)
    back = load_clusters(tmp_path, "m")
    assert back is not None
    assert back.ids == clusters.ids
    assert np.array_equal(back.centroid, clusters.centroid)
    assert back.radius == clusters.radius
    assert load_clusters(tmp_path, "another model") is None
    (tmp_path / "clusters.safetensors").write_bytes(b"no")
    with pytest.raises(DataError, match="damaged"):
        load_clusters(tmp_path, "m")


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"9-9": "a"}, "there is no cluster '9-9'"),
        ({"1-1": 7}, "must be text or null, found 7"),
        ({"1-1": "Unknown"}, "what other windows are called"),
        ({"1-1": "x" * 61}, "at most 60 letters"),
        ({"1-1": "Cook", "1-2": "cook"}, "differ only in capitals"),
    ],
)
def test_a_name_that_cannot_be_one_is_refused(
    clusters: Clusters, change: dict[str, object], says: str
) -> None:
    with pytest.raises(DataError, match=says):
        check_names(change, clusters, "here")


def test_names_are_tidied_and_kept_in_a_file(tmp_path: Path, clusters: Clusters) -> None:
    names = check_names({"1-1": "  open   door ", "1-2": "", "2-1": None}, clusters, "here")
    assert names == {"1-1": "open door", "1-2": None, "2-1": None}
    path = save_names(tmp_path, clusters, names, "action")
    given, track = read_names(path, clusters)
    assert {i: n for i, n in given.items() if n} == {"1-1": "open door"}
    assert track == "action"
    with pytest.raises(DataError, match="another model"):
        read_names(path, replace(clusters, model="other"))
    twice = yaml.safe_load(path.read_text())
    twice["clusters"].append(twice["clusters"][0])
    path.write_text(yaml.safe_dump(twice))
    with pytest.raises(DataError, match="listed twice"):
        read_names(path, clusters)
    path.write_text("schema: 7")
    with pytest.raises(DataError, match="schema must be 1, found 7"):
        read_names(path, clusters)


@pytest.fixture(scope="module")
def folder(tiny_dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with drawn weights and a head from labels."""
    run_folder = tmp_path_factory.mktemp("named") / "run"
    return drawn_run(run_folder, tiny_dataset, VARIANTS["recommended"], head=True)  # type: ignore[no-any-return]


@pytest.fixture(scope="module")
def found(folder: Path) -> Found:
    """More clusters than its places, so that names can be given twice."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("detach.naming.LEAST", 6)
        patch.setattr("detach.naming.K_RANGE", range(3, 7))
        return find(folder, most=6)


def test_the_verb_from_clusters_to_answers(
    folder: Path, found: Found, tiny_dataset: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert len(found.clusters.ids) > 2
    assert main(["name", str(folder), "--no-serve"]) == 0
    said = capsys.readouterr().out
    assert all(i in said for i in found.clusters.ids)
    page = (folder / "names.html").read_text()
    assert "<script" not in page
    assert main(["name", str(folder), "--names", str(folder / "names.yaml")]) == 3
    assert "no cluster has a name yet" in capsys.readouterr().err
    body = yaml.safe_load((folder / "names.yaml").read_text())
    for k, row in enumerate(body["clusters"]):
        row["name"] = ("one thing", "another", "another")[k % 3]
    (folder / "mine.yaml").write_text(yaml.safe_dump(body))
    assert main(["name", str(folder), "--names", str(folder / "mine.yaml")]) == 0
    assert "one thing" in capsys.readouterr().out
    head = load_head(folder, NAMED_FILE)
    assert head is not None
    assert set(head.classes) == {"one thing", "another", UNKNOWN}
    assert len(head.rows) > len(head.classes)
    assert load_head(folder, HEAD_FILE) is not None
    out = folder.parent / "named.detach"
    words = ["export", str(folder), "--out", str(out), "--no-video", "--precisions", "fp32"]
    assert main(words) == 0
    assert "the head from names is taken" in capsys.readouterr().out
    assert open_bundle(out).manifest.classes == head.classes
    lines: list[str] = []
    run(out, tiny_dataset / "r3", options=Options(), write=lines.append, say=lambda _: None)
    labels = {json.loads(line)["label"] for line in lines}
    assert labels <= set(head.classes)
    assert labels & {"one thing", "another"}


def test_what_was_clustered_is_kept_until_it_is_done_again(folder: Path, found: Found) -> None:
    again = find(folder, most=3)
    assert again.clusters.ids == found.clusters.ids
    least = max(2, len(np.unique(found.clusters.place)))
    fewer = find(folder, most=least, again=True)
    assert len(fewer.clusters.ids) <= len(found.clusters.ids)
    save_clusters(folder, found.clusters)
    (folder / NAMED_FILE).unlink(missing_ok=True)


def test_names_of_clusters_that_are_no_more_are_kept(
    folder: Path, found: Found, tmp_path: Path
) -> None:
    lost, said = tmp_path / "run", list[str]()
    shutil.copytree(folder, lost, ignore=shutil.ignore_patterns("*.old*"))
    for mine, aside in (("first", ".old"), ("second", ".old1")):
        (lost / CLUSTERS_FILE).unlink()
        for name in (NAMES_FILE, NAMED_FILE):
            (lost / name).write_text(mine)
        assert not find(lost, most=len(found.clusters.ids), video=False, say=said.append).names
        for name in (NAMES_FILE, NAMED_FILE):
            assert not (lost / name).exists()
            assert (lost / f"{name}{aside}").read_text() == mine
            assert any(f"it is kept as {name}{aside}" in line for line in said)


def test_the_page_shows_every_cluster(found: Found) -> None:
    page = render(found, nonce="n", token="t")  # noqa: S106 -- made up
    assert all(f'data-id="{i}"' in page for i in found.clusters.ids)
    assert "labelled" in page
    assert "http" not in page.replace("http://www.w3.org", "")
    assert page.count("data:image/jpeg") >= len(found.clusters.ids)


@pytest.fixture
def server(found: Found) -> Iterator[Server]:
    with Server(found) as made:
        thread = threading.Thread(target=made.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        yield made
        made.shutdown()
        thread.join(5)


def ask(
    server: Server, method: str, path: str, body: str | None = None, **headers: str
) -> tuple[int, str, dict[str, str]]:
    connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=10)
    try:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        connection.request(method, path, body, named)
        answer = connection.getresponse()
        return answer.status, answer.read().decode(), dict(answer.getheaders())
    finally:
        connection.close()


def test_the_server_hears_its_person_only(server: Server) -> None:
    assert server.server_address[0] == "127.0.0.1"
    token, good = server.token, {"X_Token": server.token}
    status, page, headers = ask(server, "GET", f"/?token={token}")
    assert status == 200
    assert "What happens here" in page
    assert "default-src 'none'" in headers["Content-Security-Policy"]
    assert headers["Cache-Control"] == "no-store"
    refused = [
        ask(server, "GET", "/"),
        ask(server, "GET", "/?token=guess"),
        ask(server, "GET", f"/?token={token}", Host="evil.example"),
        ask(server, "POST", "/names", "{}"),
        ask(server, "POST", "/names", "{}", Origin="http://evil.example", **good),
    ]
    assert {status for status, _, _ in refused} == {403}
    assert not any(token in text for _, text, _ in refused)
    assert ask(server, "GET", f"/other?token={token}")[0] == 404
    assert ask(server, "PUT", "/names", "{}", **good)[0] == 501
    for body, says in (
        ("[]", "must be an object"),
        ("{", "must be JSON"),
        ("x" * 100_001, "at most 100000 bytes"),
        ('{"9-9": "a"}', "no cluster"),
        ("{}", "no cluster has a name"),
    ):
        status, text, _ = ask(server, "POST", "/names", body, **good)
        assert status == 400
        assert says in text


def test_saving_makes_a_head(server: Server, found: Found) -> None:
    names = json.dumps(dict.fromkeys(found.clusters.ids, "all the same"))
    status, text, _ = ask(server, "POST", "/names", names, X_Token=server.token)
    assert status == 200
    assert "1 classes" in text
    head = load_head(found.folder, NAMED_FILE)
    assert head is not None
    assert head.classes == ("all the same", UNKNOWN)


@pytest.mark.slow
def test_a_person_in_a_browser(server: Server, found: Found) -> None:
    program()
    first, second = found.clusters.ids[:2]

    async def act() -> None:
        async with chromium() as tab:
            for width in (1200, 390):
                await tab.size(width, 900)
                await tab.open(server.url)
                fits = "document.documentElement.scrollWidth <= innerWidth"
                assert await tab.ask(fits)
            for i in (first, second):
                await tab.ask(
                    f"""(() => {{ const field = document.querySelector('[data-id="{i}"]');
                    field.value = ' stir  soup'; field.dispatchEvent(new Event('input')); }})()"""
                )
            shown = await tab.ask(f"document.getElementById('c{second}').innerText")
            assert f"joined with {first}" in shown
            await tab.ask("document.getElementById('save').click()")
            await tab.until("document.getElementById('said').className === 'good'")
            assert not tab.said

    asyncio.run(act())
    body = yaml.safe_load((found.folder / "names.yaml").read_text())
    given = {row["id"]: row["name"] for row in body["clusters"]}
    assert given[first] == given[second] == "stir soup"
