"""Observers made of published perceptual metrics. Both are extras, and need weights that vimi can't ship."""

from __future__ import annotations

from functools import cached_property
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from benchmark.cache import Cache
from benchmark.errors import ObserverError, first_line
from benchmark.hashing import hash_state
from benchmark.observers.base import Kinship, Observer, Presentation, SimilarityObserver, sigmoid
from benchmark.progress import Reporter
from benchmark.study import Study

PAIRS = 32
"""Pairs of pictures compared at once."""

_LPIPS_BACKBONE = "alexnet-owt-7be5be79.pth"


class DreamSimObserver(SimilarityObserver):
    """DreamSim (Fu et al., NeurIPS 2023): an ensemble of DINO, CLIP and OpenCLIP tuned on human judgements.

    It is a relative of CLIP and of DINO, and of whatever else was trained on their data.
    """

    name = "dreamsim"
    kinship = Kinship(frozenset({"vision_transformer"}), frozenset({"openai-wit", "laion-400m", "imagenet-1k"}))

    def __init__(self, study: Study, device: torch.device | str = "cpu", reporter: Reporter | None = None) -> None:
        if find_spec("dreamsim") is None:
            raise ObserverError(
                "The observer 'dreamsim' needs a package that is not installed: uv pip install dreamsim"
            )
        folder = Path(torch.hub.get_dir()).parent / "dreamsim"
        from dreamsim import dreamsim

        try:
            self.model, self.preprocess = dreamsim(pretrained=True, device=str(device), cache_dir=str(folder))
        except Exception as error:
            reason = first_line(error)
            raise ObserverError(
                f"DreamSim's weights (DINO, CLIP and OpenCLIP ViT-B/16, about 1 GB) are not in {folder} and could not "
                f"be downloaded: {reason}. Download them on a machine with internet access and copy that folder here."
            ) from None
        self.study, self.device, self.reporter = study, device, reporter or Reporter()

    def embed(self, pictures: tuple[str, ...]) -> NDArray[np.float32]:
        """Return DreamSim's embedding, one row of 1,792 numbers per picture; what is cached is read."""
        known: dict[str, NDArray[np.float32]] = {}
        cache = Cache.beside(self.study.root)
        cache.complete("embeddings", self._settings, known, pictures, self._compute, self.reporter.say)
        return np.stack([known[picture] for picture in pictures])

    def _compute(self, pictures: list[str]) -> NDArray[np.float32]:
        rows: list[NDArray[np.float32]] = []
        with self.reporter.task("Embedding with DreamSim", len(pictures)) as advance:
            for picture in pictures:
                tensor = self.preprocess(Image.fromarray(self.study.image(picture))).to(self.device)
                with torch.inference_mode():
                    rows.append(self.model.embed(tensor).float().cpu().numpy().reshape(-1))
                advance(1)
        return np.stack(rows)

    @cached_property
    def _settings(self) -> dict[str, str]:
        """Everything that an embedding depends on besides the picture."""
        return {
            "embedder": f"dreamsim {hash_state(self.model.state_dict())}", "version": version("dreamsim"),
            "device": torch.device(self.device).type,
        }  # fmt: skip


class LpipsObserver(Observer):
    """LPIPS (Zhang et al., CVPR 2018) with AlexNet: a distance between pairs, so each pair is computed once.

    Nothing of it is cached for other studies: another model asks about other pairs of the same pictures.
    """

    name = "lpips"
    kinship = Kinship(frozenset({"alexnet"}), frozenset({"imagenet-1k"}))
    temperature = 0.05

    def __init__(self, study: Study, device: torch.device | str = "cpu", reporter: Reporter | None = None) -> None:
        if find_spec("lpips") is None:
            raise ObserverError("The observer 'lpips' needs a package that is not installed: uv pip install lpips")
        backbone = Path(torch.hub.get_dir()) / "checkpoints" / _LPIPS_BACKBONE
        import lpips

        try:
            self.metric = lpips.LPIPS(net="alex", verbose=False).to(device).eval()
        except Exception as error:
            reason = first_line(error)
            raise ObserverError(
                f"LPIPS needs torchvision's AlexNet, which is not at {backbone} and could not be downloaded: "
                f"{reason}. Download it on a machine with internet access and copy the file there."
            ) from None
        self.study, self.device, self.reporter = study, device, reporter or Reporter()
        self._pixels: dict[str, torch.Tensor] = {}

    def answer(self, trials: Presentation) -> NDArray[np.float64]:
        """Return, for each trial, the probability that the upper query belongs to the maximal side."""
        evidence = np.zeros(len(trials))
        for sign, side in ((1.0, trials.references_max), (-1.0, trials.references_min)):
            for query_sign, column in ((1.0, 0), (-1.0, 1)):
                shown = side >= 0
                queries = np.repeat(trials.queries[:, column, None], side.shape[1], axis=1)
                distances = self._distances(trials.pictures, queries[shown], side[shown])
                total = np.zeros(side.shape)
                total[shown] = distances
                # The nearer a query is to the maximal side, the likelier it belongs there.
                evidence -= sign * query_sign * total.sum(axis=1) / np.maximum(shown.sum(axis=1), 1)
        return sigmoid(evidence / self.temperature)

    def _distances(
        self, pictures: tuple[str, ...], first: NDArray[np.int64], second: NDArray[np.int64]
    ) -> NDArray[np.float64]:
        """Return the distances of pairs of pictures, each distinct pair computed once."""
        if not len(first):
            return np.zeros(0)
        pairs, place = np.unique(np.stack([first, second], axis=1), axis=0, return_inverse=True)
        values = np.empty(len(pairs))
        with self.reporter.task("LPIPS of pairs of pictures", len(pairs)) as advance:
            for start in range(0, len(pairs), PAIRS):
                part = pairs[start : start + PAIRS]
                with torch.inference_mode():
                    distance = self.metric(*(self._batch(pictures, part[:, n]) for n in (0, 1)))
                values[start : start + PAIRS] = distance.reshape(-1).double().cpu().numpy()
                advance(len(part))
        return np.asarray(values[place.reshape(-1)])

    def _batch(self, pictures: tuple[str, ...], members: NDArray[np.int64]) -> torch.Tensor:
        """Return pictures as LPIPS wants them: 64 x 64, in [-1, 1]."""
        for member in members.tolist():
            name = pictures[member]
            if name not in self._pixels:
                small = np.asarray(Image.fromarray(self.study.image(name)).resize((64, 64), Image.Resampling.BICUBIC))
                self._pixels[name] = torch.from_numpy(small.copy()).permute(2, 0, 1).float() / 127.5 - 1
        return torch.stack([self._pixels[pictures[m]] for m in members.tolist()]).to(self.device)
