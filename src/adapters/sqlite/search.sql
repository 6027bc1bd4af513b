-- Schema version 3: by what the events are found (`log search`), beside the event log.

-- All of it is a projection of the events, changed in their commits and made anew from them when its form changes.
-- Addresses, providers and classes have numbers here, because they stand in every row of the indexes; 0 is none.
CREATE TABLE search_address (
    id      INTEGER PRIMARY KEY,
    address TEXT NOT NULL UNIQUE  -- in lower case
) STRICT;

CREATE TABLE search_provider (
    id   INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE
) STRICT;

-- What happened, and what outcome it tells; an empty text is no outcome.
CREATE TABLE search_class (
    id      INTEGER PRIMARY KEY,
    kind    TEXT NOT NULL,
    outcome TEXT NOT NULL,
    UNIQUE (kind, outcome)
) STRICT;

-- One row per event. Providers and classes are few: a question that leaves them open is asked once for each pair.
CREATE TABLE search_by_sender (
    sender   INTEGER NOT NULL,
    provider INTEGER NOT NULL,
    class    INTEGER NOT NULL,
    at       INTEGER NOT NULL,
    sequence INTEGER NOT NULL,
    PRIMARY KEY (sender, provider, class, at, sequence)
) STRICT, WITHOUT ROWID;

CREATE INDEX search_by_provider ON search_by_sender (provider, class, at, sequence);

-- One row per event and recipient that it names, in its row or in its details.
CREATE TABLE search_by_pair (
    recipient INTEGER NOT NULL,
    sender    INTEGER NOT NULL,
    provider  INTEGER NOT NULL,
    class     INTEGER NOT NULL,
    at        INTEGER NOT NULL,
    sequence  INTEGER NOT NULL,
    PRIMARY KEY (recipient, sender, provider, class, at, sequence)
) STRICT, WITHOUT ROWID;

CREATE INDEX search_by_recipient ON search_by_pair (recipient, provider, class, at, sequence);

-- Message-IDs but for the PEC msgid, by the first 64 bits of the SHA-256 of what stands between the angle brackets; once
-- for each transaction that bears one, by its first event. Clients repeat Message-IDs as they like: whether a transaction
-- has its row already is one seek, however many others bear the same.
CREATE TABLE search_by_msgid (
    hash             INTEGER NOT NULL,
    transaction_hash INTEGER NOT NULL,  -- of the PEC msgid; 0 for none
    sequence         INTEGER NOT NULL,
    PRIMARY KEY (hash, transaction_hash, sequence)
) STRICT, WITHOUT ROWID;
