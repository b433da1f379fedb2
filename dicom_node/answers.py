"""Keep pynetdicom from losing an answer that comes quickly.

A requestor's own thread looks for requests of the peer; ``send_c_store`` and its like pause it
first, but believe that it stands still a moment too early. On a busy machine it then takes the
answer off the queue, calls it unexpected and drops it, and the sender waits for its whole timeout.
"""

from typing import Any

from pynetdicom.association import Association


def keep_answers(association: Association) -> None:
    """Let an association put answers back that its own thread took.

    Parameters
    ----------
    association : Association
        As requestor, established or not.
    """
    serve = association._serve_request  # noqa: SLF001 - there is no public place for this

    def serve_or_put_back(message: Any, context_id: int) -> None:  # noqa: ANN401 - any of a dozen
        if getattr(message, "MessageIDBeingRespondedTo", None) is not None:
            association.dimse.msg_queue.put((context_id, message))
            return
        serve(message, context_id)

    association._serve_request = serve_or_put_back  # type: ignore[method-assign, assignment]  # noqa: SLF001
