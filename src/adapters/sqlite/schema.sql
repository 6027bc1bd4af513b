-- The event log, schema version 1. One row per event; `log show` and an auditor's sqlite3 read the same columns.
-- The chain in `hash` is described at the head of legal_log/chain.rs.

CREATE TABLE event (
    sequence     INTEGER PRIMARY KEY,  -- from 1, without gaps
    at           INTEGER NOT NULL,     -- seconds since 1970-01-01 00:00 UTC
    kind         TEXT NOT NULL,
    queue_id     TEXT,                 -- Postfix's name of the queue file
    pec_msgid    TEXT,                 -- without angle brackets
    client_msgid TEXT,                 -- with angle brackets
    sender       TEXT,                 -- the reverse path; empty text is the empty reverse path
    recipient    TEXT,
    subject      TEXT,
    notification TEXT,                 -- Message-ID of the notification that tells this event
    provider     TEXT,                 -- where the message came from
    details      TEXT,                 -- JSON: what is needed to write the notification again
    slot         TEXT,                 -- the fact of which there can be only one
    hash         BLOB NOT NULL
) STRICT;

CREATE UNIQUE INDEX event_by_slot ON event (slot) WHERE slot IS NOT NULL;
CREATE INDEX event_by_queue_id ON event (queue_id) WHERE queue_id IS NOT NULL;
CREATE INDEX event_by_pec_msgid ON event (pec_msgid) WHERE pec_msgid IS NOT NULL;
CREATE INDEX event_by_client_msgid ON event (client_msgid) WHERE client_msgid IS NOT NULL;
CREATE INDEX event_by_sender ON event (sender COLLATE NOCASE, at) WHERE sender IS NOT NULL;
CREATE INDEX event_by_recipient ON event (recipient COLLATE NOCASE, at) WHERE recipient IS NOT NULL;
CREATE INDEX event_by_time ON event (at);

CREATE TRIGGER event_refuses_update BEFORE UPDATE ON event
BEGIN
    SELECT RAISE(ABORT, 'the event log is legal evidence: its rows are never changed');
END;

CREATE TRIGGER event_refuses_delete BEFORE DELETE ON event
BEGIN
    SELECT RAISE(ABORT, 'the event log is legal evidence: its rows are never deleted');
END;

-- INSERT OR REPLACE deletes rows without asking the trigger above.
CREATE TRIGGER event_refuses_replace BEFORE INSERT ON event
WHEN NEW.sequence IS NOT (SELECT coalesce(max(sequence), 0) + 1 FROM event)
    OR EXISTS (SELECT 1 FROM event WHERE slot = NEW.slot)
BEGIN
    SELECT RAISE(ABORT, 'the event log is legal evidence: a row takes the next sequence and a free slot');
END;
