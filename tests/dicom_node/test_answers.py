"""An answer that the wrong thread took is not lost."""

from pynetdicom import AE
from pynetdicom.association import MODE_REQUESTOR, Association
from pynetdicom.dimse_primitives import C_STORE

from dicom_node.answers import keep_answers


def test_an_answer_is_put_back() -> None:
    association = Association(AE(), MODE_REQUESTOR)
    keep_answers(association)
    answer = C_STORE()
    answer.MessageIDBeingRespondedTo = 1
    association._serve_request(answer, 3)
    assert association.dimse.msg_queue.get_nowait() == (3, answer)


def test_a_request_of_the_peer_is_not() -> None:
    association = Association(AE(), MODE_REQUESTOR)
    served = []
    association._serve_request = lambda message, context_id: served.append((message, context_id))
    keep_answers(association)
    request = C_STORE()
    association._serve_request(request, 3)
    assert served == [(request, 3)]
    assert association.dimse.msg_queue.empty()
