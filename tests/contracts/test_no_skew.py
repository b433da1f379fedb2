import numpy as np

from pipeline.preprocess import PreprocessSpec, prepare
from tests.training.cases import labelled_phantoms
from training.data import sample


def test_training_sees_bit_for_bit_what_serving_sees() -> None:
    for labelled in labelled_phantoms():
        served = prepare(labelled.volume, labelled.slice_index, PreprocessSpec())
        trained = sample(labelled, PreprocessSpec())
        assert np.array_equal(trained.image, served.image)
