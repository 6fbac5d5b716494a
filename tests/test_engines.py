"""Engines: pieces of work done here or by the workers of a cluster give the same study, whoever is killed."""

from __future__ import annotations

import os
import shutil
import socket
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd
import psutil
import pytest
import torch

from benchmark import engines
from benchmark.engines import create_engine, opened_engine
from benchmark.engines.base import Equipment, Piece, check_sendable
from benchmark.engines.local import LocalEngine
from benchmark.errors import EngineError, NameNotFound, UnreadablePicture, VimiError
from benchmark.experiment import Experiment
from benchmark.model_sources import load_card
from benchmark.progress import Advance, Reporter
from benchmark.study import Study
from benchmark.workflow import build, observe_study_together
from stimuli.activations import measure_activations, missing_shards, shard_path
from stimuli.equipment import PlanEquipment, Site
from stimuli.materials import Materials
from stimuli.synthetic import set_pieces

from .experiments import small_experiment
from .holding_network import HOLD

CPU = torch.device("cpu")
OBSERVERS = ("random", "lowlevel", "features:tests.holding_network:make")


# ---------------------------------------------------------------- pieces that only count


@dataclass(frozen=True)
class Number(Equipment[int]):
    """A number that is loaded, and how often it was, in a file."""

    value: int
    loads: str

    def load(self) -> int:
        with Path(self.loads).open("a") as file:
            file.write(f"{self.value} {os.getpid()}\n")
        return self.value


@dataclass(frozen=True)
class Product(Piece[int, int]):
    """A product with the number that is loaded."""

    equipment: Number
    factor: int

    def run(self, tools: int, advance: Advance) -> int:
        advance(self.factor)
        return tools * self.factor


@dataclass(frozen=True)
class Failure(Piece[int, int]):
    """A piece that always raises, and writes down that it began."""

    equipment: Number
    begun: str
    kind: str

    def run(self, tools: int, advance: Advance) -> int:
        with Path(self.begun).open("a") as file:
            file.write("begun\n")
        if self.kind == "name":
            raise NameNotFound("layer", "layr1", ["layer1", "layer2"])
        raise UnreadablePicture("cat.png is no picture")


@dataclass(frozen=True)
class Deadly(Piece[int, int]):
    """A piece that kills whoever does it."""

    equipment: Number

    def run(self, tools: int, advance: Advance) -> int:
        os._exit(1)


def products(folder: Path) -> list[Product]:
    loads = str(folder / "loads")
    return [Product(Number(value, loads), factor) for value in (2, 3) for factor in (5, 7, 11)]


def is_alive(process: int) -> bool:
    """Whether a process still does something."""
    try:
        return psutil.Process(process).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


class Listening(Reporter):
    """Keeps what is said."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def say(self, text: str) -> None:
        self.said.append(text)


# ---------------------------------------------------------------- this process, and what every engine is asked


def test_the_local_engine_loads_once_and_takes_what_is_there(tmp_path: Path) -> None:
    pieces = products(tmp_path)
    steps: list[int] = []
    engine = create_engine()
    assert isinstance(engine, LocalEngine) and not engine.is_elsewhere
    done = list(engine.run(pieces, device=CPU, advance=steps.append))
    assert done == list(enumerate([10, 14, 22, 15, 21, 33])) and sum(steps) == 46
    assert len((tmp_path / "loads").read_text().splitlines()) == 2
    given = dict(engine.run(pieces[:3], device=CPU, tools={pieces[0].equipment: 100}))
    assert given == {0: 500, 1: 700, 2: 1100}
    assert len((tmp_path / "loads").read_text().splitlines()) == 2


def test_names_and_addresses_of_engines() -> None:
    with pytest.raises(NameNotFound, match=r"There is no engine 'rai'\. Did you mean 'ray'"):
        create_engine("rai")
    with pytest.raises(EngineError, match=r"takes no address.*add --engine ray"):
        create_engine("local", "127.0.0.1:6379")
    engine = LocalEngine()
    with opened_engine(engine) as opened:
        assert opened is engine
    assert set(engines.ENGINES) == {"local", "ray"}


def test_an_engine_that_is_not_installed_says_which_extra_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    monkeypatch.delitem(sys.modules, "benchmark.engines.cluster", raising=False)
    with pytest.raises(EngineError, match=r"uv pip install 'vimi\[cluster\]'"):
        create_engine("ray")


def test_a_network_of_this_process_is_not_sent() -> None:
    card = load_card("timm:test_resnet")
    check_sendable(card)
    own = card.model_copy(update={"name": "mine", "weights": card.weights.model_copy(update={"source": "object:mine"})})
    with pytest.raises(EngineError, match=r"mine exists only in this process.*MODULE:FUNCTION"):
        check_sendable(own)


def test_sets_are_cut_into_whole_layers_or_whole_batches(local_study: Study) -> None:
    units = Materials(local_study, "cpu", False, Reporter()).drawn(next(iter(local_study.manifest["models"])))
    equipment: Any = Number(1, "")
    pieces = set_pieces(equipment, local_study, units, CPU)
    assert [piece.layer for piece in pieces] == list(dict.fromkeys(unit.layer for unit in units))
    assert sum(piece.stop - piece.start for piece in pieces) == 2 * len(units)
    many = [replace(units[0], index=index) for index in range(11)]
    cut = [(piece.start, piece.stop) for piece in set_pieces(equipment, local_study, many, CPU)]
    assert cut == [(0, 8), (8, 16), (16, 22)]


def test_a_site_is_one_state_of_a_study(local_study: Study, tmp_path: Path) -> None:
    site = Site.of(local_study, CPU, ("units",))
    assert site.open().survey.table.equals(local_study.pool())
    assert not site.draft
    with pytest.raises(EngineError, match=f"On {socket.gethostname()} the folder .*nowhere is not there.*share"):
        replace(site, root=str(tmp_path / "nowhere")).open()
    with pytest.raises(EngineError, match="holds another state of the study"):
        replace(site, state="another").open()


# ---------------------------------------------------------------- a cluster of two nodes


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A Ray cluster of two nodes on this machine, to which this process is connected."""
    pytest.importorskip("ray", reason="needs the extra 'cluster'")
    hold = tmp_path_factory.mktemp("hold")
    os.environ[HOLD] = str(hold)  # nodes inherit it, and their workers
    import ray
    from ray.cluster_utils import Cluster

    import benchmark.engines.cluster  # noqa: F401  (before Ray is: it sets what Ray reads)

    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    made.second = made.add_node(num_cpus=1)
    made.hold = hold
    del os.environ[HOLD]
    ray.init(address=made.address, log_to_driver=False, logging_level="error")
    yield made
    ray.shutdown()
    made.shutdown()


@pytest.fixture
def workers(cluster: Any) -> Iterator[Any]:
    """The Ray engine on the cluster."""
    with create_engine("ray", cluster.address) as engine:
        yield engine


def mixed_experiment(pictures: Path, checkpoint: Path) -> Experiment:
    """Return an experiment of a model with its twin and of one that can be held, in both conditions."""
    return small_experiment(
        pictures,
        checkpoint,
        models=[
            {"card": "tests.holding_network:make", "training_data": ["stripes"], "training_images": 60},
            {"card": "timm:test_resnet", "weights": str(checkpoint), "twin": True, "training_data": ["stripes"],
             "training_images": 60},
        ],
        stimuli={"conditions": ["natural", "synthetic"], "references": 2, "tasks": 2},
        visualization={"canvas": 32, "steps": 12, "units": 4},
    )  # fmt: skip


@pytest.fixture(scope="module")
def experiment(picture_folder: Path, checkpoint: Path) -> Experiment:
    """The experiment that is built on both engines."""
    return mixed_experiment(picture_folder, checkpoint)


@pytest.fixture(scope="module")
def local_study(experiment: Experiment, tmp_path_factory: pytest.TempPathFactory) -> Study:
    """The study that this process builds."""
    torch.set_num_threads(1)
    return build(experiment, tmp_path_factory.mktemp("local") / "study")


@pytest.fixture(scope="module")
def spread_study(
    cluster: Any, experiment: Experiment, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Study, Listening, dict[str, int]]]:
    """The study that two nodes build, the second of which is killed while it measures a shard."""
    torch.set_num_threads(1)
    second = cluster.second.node_id
    times: dict[str, int] = {}
    hold = cluster.hold / "hold"
    hold.touch()

    def kill() -> None:
        # The network waits in the middle of its first batch, and says on which node.
        while not (cluster.hold / second).is_file():
            time.sleep(0.05)
        times["shards when the node was killed"] = len(list(folder.rglob("shards/*.safetensors")))
        worker = int((cluster.hold / second).read_text())
        cluster.remove_node(cluster.second, allow_graceful=False)
        while is_alive(worker):  # it outlives its node by a moment, in which it could still finish
            time.sleep(0.05)
        hold.unlink()

    folder = tmp_path_factory.mktemp("spread") / "study"
    listening = Listening()
    killer = threading.Thread(target=kill, daemon=True)
    killer.start()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("stimuli.activations.LEAST_SHARD", 32)  # two shards a model
        study = build(experiment, folder, engine="ray", address=cluster.address, reporter=listening)
    killer.join(timeout=500)
    yield study, listening, times


def test_a_node_that_is_killed_changes_nothing(
    spread_study: tuple[Study, Listening, dict[str, int]], local_study: Study, cluster: Any
) -> None:
    study, listening, times = spread_study
    assert study.hash == local_study.hash
    assert any("lost (NodeDiedError); its piece is done again" in text for text in listening.said), listening.said
    assert cluster.second not in cluster.worker_nodes and "shards when the node was killed" in times
    for name, facts in study.manifest["models"].items():
        own, other = (made.activations(name) / "activations.safetensors" for made in (study, local_study))
        assert own.read_bytes() == other.read_bytes(), name
        assert facts == local_study.manifest["models"][name]
    records = [sorted(path.name for path in made.root.glob("visualizations/*/*.json")) for made in (study, local_study)]
    assert records[0] == records[1] and records[0]
    timings = set(pd.read_parquet(study.root / "timings.parquet")["what"])
    assert {"shards, engine ray", "sets, engine ray"} <= timings


def test_pieces_of_a_cluster_are_done_by_others_and_counted(cluster: Any, workers: Any, tmp_path: Path) -> None:
    pieces = products(tmp_path)
    steps: list[int] = []
    assert workers.is_elsewhere and workers.choose_device("auto") == CPU
    done = dict(workers.run(pieces, device=CPU, advance=steps.append, tools={pieces[0].equipment: 100}))
    assert done == {0: 10, 1: 14, 2: 22, 3: 15, 4: 21, 5: 33} and sorted(steps) == [5, 5, 7, 7, 11, 11]
    loads = (tmp_path / "loads").read_text().split()
    assert str(os.getpid()) not in loads[1::2]
    # A worker keeps what its pieces work with.
    assert len(set(zip(loads[::2], loads[1::2]))) == len(loads[::2])


@pytest.mark.parametrize("kind", ["name", "picture"])
def test_what_a_piece_raises_comes_back_as_itself_and_is_not_tried_again(
    workers: Any, tmp_path: Path, kind: str
) -> None:
    piece = Failure(Number(1, str(tmp_path / "loads")), str(tmp_path / "begun"), kind)
    caught: list[VimiError] = []
    for engine in (LocalEngine(), workers):
        with pytest.raises(VimiError) as raised:
            list(engine.run([piece], device=CPU))
        caught.append(raised.value)
    here, there = caught
    assert type(here) is type(there) and str(here) == str(there) and here.exit_code == there.exit_code
    assert (tmp_path / "begun").read_text().split() == ["begun"] * 2


def test_a_broken_picture_is_named_as_by_this_process(
    cluster: Any, experiment: Experiment, picture_folder: Path, checkpoint: Path, tmp_path: Path
) -> None:
    pictures = shutil.copytree(picture_folder, tmp_path / "pictures")
    broken = mixed_experiment(pictures, checkpoint).model_copy(update={"models": experiment.models[1:]})
    build(broken, tmp_path / "study", stage="units")
    path = pictures / "0041.png"
    path.write_bytes(path.read_bytes()[:200])
    messages = []
    for engine in ("local", "ray"):
        with pytest.raises(UnreadablePicture, match=r"0041\.png") as caught:
            build(broken, tmp_path / "study", stage="activations", engine=engine)
        messages.append(str(caught.value))
    assert messages[0] == messages[1]
    assert not list((tmp_path / "study" / "activations").rglob("*.safetensors"))


def test_shards_of_one_engine_are_taken_over_by_the_other(
    workers: Any, spread_study: tuple[Study, Listening, dict[str, int]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stimuli.activations.LEAST_SHARD", 32)
    study, name = spread_study[0], "timm:test_resnet@random"
    name = next(name for name, facts in study.manifest["models"].items() if facts["twin"])
    materials = Materials(study, "cpu", False, Reporter())
    plan = materials.plan(materials.models()[name])
    site = Site.of(study, CPU, ("units",))
    equipment = PlanEquipment(site, name, materials.entries[name], twin=True)
    begun = tmp_path / "begun"
    pieces = missing_shards(plan, begun, equipment)
    assert len(pieces) == 2
    assert dict(workers.run(pieces[1:], device=CPU)) == {0: None}
    assert [piece.start for piece in missing_shards(plan, begun, equipment)] == [0]
    written = shard_path(begun, range(pieces[1].start, pieces[1].stop)).stat().st_mtime_ns
    steps: list[int] = []
    assert list(workers.run(pieces[1:], device=CPU, advance=steps.append)) == [(0, None)] and sum(steps) == 28
    assert shard_path(begun, range(pieces[1].start, pieces[1].stop)).stat().st_mtime_ns == written
    assert measure_activations(plan, begun).hash == study.stage_outputs("activations")[name]
    # Other weights on a worker would make another shard: nothing is measured with them.
    stranger = replace(pieces[0], identity="another")
    with pytest.raises(VimiError, match=f"{socket.gethostname()} has other weights, pictures or settings for {name}"):
        list(workers.run([stranger], device=CPU))


def test_observers_answer_alike_on_both_engines(
    cluster: Any, spread_study: tuple[Study, Listening, dict[str, int]], local_study: Study
) -> None:
    study = spread_study[0]
    references = ("both", "none")
    here = observe_study_together(local_study, OBSERVERS, references=references)  # type: ignore[arg-type]
    there = observe_study_together(study, OBSERVERS, references=references, engine="ray")  # type: ignore[arg-type]
    for name, own, other in zip(OBSERVERS, here, there):
        assert len(own) > 0 and set(own["observer"]) == {name}
        columns = [column for column in own.columns if column != "answered_at"]
        assert own[columns].equals(other[columns]), name
        assert study.response_path(name).is_file()
    vectors = [list((made.root / "embeddings").iterdir()) for made in (local_study, study)]
    assert [path.name for path in vectors[0]] == [path.name for path in vectors[1]]
    assert vectors[0][0].read_bytes() == vectors[1][0].read_bytes()


def test_a_worker_without_the_folder_says_what_machines_must_share(workers: Any, local_study: Study) -> None:
    site = replace(Site.of(local_study, CPU, ("units",)), root="/nowhere/study")
    name = next(iter(local_study.manifest["models"]))
    with pytest.raises(EngineError, match=r"On .* the folder /nowhere/study is not there.*must share"):
        list(workers.run([Product(PlanEquipment(site, name, 0, False), 2)], device=CPU))  # type: ignore[arg-type]


def test_workers_with_other_packages_are_refused(workers: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from benchmark.engines import cluster as module

    monkeypatch.setattr(module, "_versions", lambda: (("torch", "1.0"),))
    with pytest.raises(EngineError, match=r"has torch \S+ instead of 1\.0.*install the same"):
        list(workers.run(products(tmp_path), device=CPU))


def test_devices_and_cores_that_no_node_has(cluster: Any, workers: Any, tmp_path: Path) -> None:
    from benchmark.engines.cluster import RayEngine

    with pytest.raises(EngineError, match="No node of the Ray cluster offers an accelerator"):
        workers.choose_device("cuda")
    with pytest.raises(EngineError, match="'mps' can't be used with --engine ray"):
        workers.choose_device("mps")
    with pytest.raises(EngineError, match="needs 64 cores, but no node of the Ray cluster has more than 1"):
        list(RayEngine(num_cpus=64).run(products(tmp_path), device=CPU))


@pytest.mark.parametrize(
    ("given", "visible", "index"),
    [([0], None, 0), (["3"], None, 3), (["3"], "2,3", 1), ([2], "2, 3", 0), (["GPU-b"], "GPU-a,GPU-b", 1)],
)
def test_a_task_uses_the_accelerator_that_it_was_given(given: list[int | str], visible: str | None, index: int) -> None:
    module = pytest.importorskip("benchmark.engines.cluster", exc_type=EngineError)
    assert module.accelerator_index(given, visible) == index


def answer_in_http1(server: socket.socket) -> None:
    connection, _ = server.accept()
    with connection:
        connection.recv(100)
        connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")


def test_addresses_that_nobody_answers_at_fail_before_ray_waits_for_them(
    cluster: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ray.init", lambda **options: pytest.fail("Ray was asked, and waits for minutes"))
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    for address in (f"127.0.0.1:{port}", f"ray://127.0.0.1:{port}"):
        with pytest.raises(EngineError, match=f"Nothing answers at 127.0.0.1:{port} .*ray start --head"):
            create_engine("ray", address)
    with pytest.raises(EngineError, match=r"'cluster' is not an address of a Ray cluster\. Write HOST:PORT"):
        create_engine("ray", "cluster")
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        stranger = threading.Thread(target=answer_in_http1, args=(server,), daemon=True)
        stranger.start()
        with pytest.raises(EngineError, match=f"Something answers at 127.0.0.1:{port}, but it is not a Ray cluster"):
            create_engine("ray", f"127.0.0.1:{port}")
        stranger.join()
    port = cluster.address.rpartition(":")[2]
    with pytest.raises(EngineError, match=f"is connected to the Ray cluster at {cluster.address}, and can't"):
        create_engine("ray", f"localhost:{port}")


def test_a_piece_that_kills_its_workers_is_given_up(workers: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benchmark.engines.cluster.MOST_LOSSES", 1)
    with pytest.raises(EngineError, match=r"1 workers died one after another on Deadly.*ran out of memory"):
        list(workers.run([Deadly(Number(1, os.devnull))], device=CPU))
    assert workers.losses == 1
