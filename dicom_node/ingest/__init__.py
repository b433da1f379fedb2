"""The fast path of C-STORE: our own loop over P-DATA, for plain requests only.

pynetdicom negotiates, releases, aborts and answers everything else. Between two messages this
loop looks at what the peer sent, without taking it. When that is the whole command of a C-STORE
request in an accepted storage context, it takes that request with its data set and answers it;
of anything else it takes nothing, so pynetdicom reads the same bytes that it would have read.

What holds here, and what each module relies on:

1. Between messages no byte of the peer is held. Within a data set the reader runs at most one
   PDU header and one fragment header ahead, and only where the standard allows nothing but more
   of this data set (or the end of the association, which is handed on).
2. While a request is served here, pynetdicom's thread of the association stands still: only this
   thread reads from or writes to the connection.
3. A data set goes into memory of a fixed size and from there to the file; no fragment is copied
   on the way, and nothing depends on the length that a peer announces.
4. The answer is made by the same function that answers for pynetdicom (``Receiver.take``).
5. A peer that stays silent, breaks off or breaks the rules within a data set loses the
   association; what it sent of that data set is discarded.
"""
