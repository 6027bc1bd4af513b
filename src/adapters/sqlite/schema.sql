-- The event log, schema version 1. One row per event; `log show` and an auditor's sqlite3 read the same columns.
-- The chain in `hash` is described at the head of src/legal_log/chain.rs.

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
    issuer       TEXT,                 -- the name under which this provider certifies it
    details      TEXT,                 -- JSON: what is needed to write the notification again
    slot         TEXT,                 -- the fact of which there can be only one
    hash         BLOB NOT NULL
) STRICT;

CREATE UNIQUE INDEX event_by_slot ON event (slot) WHERE slot IS NOT NULL;
CREATE INDEX event_by_queue_id ON event (queue_id) WHERE queue_id IS NOT NULL;
CREATE INDEX event_by_pec_msgid ON event (pec_msgid) WHERE pec_msgid IS NOT NULL;
CREATE INDEX event_by_time ON event (at);

CREATE TRIGGER event_refuses_update BEFORE UPDATE ON event
BEGIN
    SELECT RAISE(ABORT, 'the event log is legal evidence: its rows are never changed');
END;

-- Rows go only when the log itself says so: the last purge names the range, and stays.
CREATE TRIGGER event_refuses_delete BEFORE DELETE ON event
WHEN NOT EXISTS (
    SELECT 1 FROM (SELECT details FROM event WHERE kind = 'purge' ORDER BY sequence DESC LIMIT 1)
    WHERE OLD.sequence BETWEEN json_extract(details, '$.first') AND json_extract(details, '$.last')
)
BEGIN
    SELECT RAISE(ABORT, 'the event log is legal evidence: its rows are never deleted');
END;

CREATE INDEX event_by_purge ON event (sequence) WHERE kind = 'purge';
CREATE INDEX event_by_hold ON event (sequence) WHERE kind IN ('hold', 'release');

-- INSERT OR REPLACE deletes rows without asking the trigger above.
CREATE TRIGGER event_refuses_replace BEFORE INSERT ON event
WHEN NEW.sequence IS NOT (SELECT coalesce(max(sequence), 0) + 1 FROM event)
    OR EXISTS (SELECT 1 FROM event WHERE slot = NEW.slot)
BEGIN
    SELECT RAISE(ABORT, 'the event log is legal evidence: a row takes the next sequence and a free slot');
END;

-- The last row there was: rows cut off at the end leave it behind.
CREATE TABLE tail (
    one      INTEGER PRIMARY KEY CHECK (one = 1),
    sequence INTEGER NOT NULL,
    hash     BLOB NOT NULL
) STRICT;

CREATE TRIGGER event_moves_tail AFTER INSERT ON event
BEGIN
    INSERT INTO tail (one, sequence, hash) VALUES (1, NEW.sequence, NEW.hash)
    ON CONFLICT (one) DO UPDATE SET sequence = NEW.sequence, hash = NEW.hash;
END;
