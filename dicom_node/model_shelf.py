"""Keep the models of a worker in memory: those of the settings, and the last ones named."""

from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Final

import structlog

from dicom_node.model_store import model_folder
from dicom_node.spool import Spool
from pipeline.analyze import Models
from pipeline.classify import load_classifier
from pipeline.level.l3 import load_level_finder
from pipeline.weights import load_model

logger = structlog.get_logger(__name__)

_KEPT: Final = 3
"""The active ones, a shadow's, and those of a replay."""


@dataclass(slots=True, eq=False)
class ModelShelf:
    """Models by key, loaded when a work order first names them.

    Parameters
    ----------
    spool : Spool
        Holds what is installed.
    default : Models
        What an empty key means; their device is that of all others.
    """

    spool: Spool
    default: Models
    _loaded: OrderedDict[tuple[str, str, str], Models] = field(default_factory=OrderedDict)

    def models(self, segmenter: str, level_finder: str, classifier: str) -> Models:
        """Return the models of three keys; an empty key takes the default.

        Raises
        ------
        ModelError
            What lies there does not fit its manifest, or this version of Psoas.
        """
        keys = segmenter, level_finder, classifier
        if keys not in self._loaded:
            self._loaded[keys] = self._load(*keys)
            while len(self._loaded) > _KEPT:
                self._loaded.popitem(last=False)
        self._loaded.move_to_end(keys)
        return self._loaded[keys]

    def _load(self, segmenter: str, level_finder: str, classifier: str) -> Models:
        device = self.default.segmenter.device
        keys = {"segmenter": segmenter, "level_finder": level_finder, "classifier": classifier}
        logger.info("loading models", **keys)
        folders = [model_folder(key, self.spool) for key in keys.values()]
        return Models(
            load_model(folders[0], device) if folders[0] else self.default.segmenter,
            load_level_finder(folders[1], device) if folders[1] else self.default.level_finder,
            load_classifier(folders[2], device) if folders[2] else self.default.classifier,
        )
