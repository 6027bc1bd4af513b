-- Schema version 2: the watch (§3.1.6) beside the event log.

-- Who may still be owed a timeout notice: a projection of the events, changed in their commits and made anew from them
-- when its form changes. A recipient that has its delivery, its failure or its final notice has no row.
CREATE TABLE watch (
    pec_msgid TEXT NOT NULL,
    recipient TEXT NOT NULL,     -- in lower case
    accepted  INTEGER NOT NULL,  -- seconds since 1970-01-01 00:00 UTC
    progress  TEXT NOT NULL,
    PRIMARY KEY (pec_msgid, recipient)
) STRICT, WITHOUT ROWID;

-- What is due follows from the progress and the age; the periods may change, so they do not stand here.
CREATE INDEX watch_by_age ON watch (progress, accepted);

-- The notices that are recorded and perhaps not sent yet, by their rows in the log. That one was sent is no event, so
-- this cannot be made from the events.
CREATE TABLE notice_to_send (
    sequence INTEGER PRIMARY KEY REFERENCES event
) STRICT;

-- The form in which each projection was made.
CREATE TABLE projection (
    name TEXT PRIMARY KEY,
    form INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
