-- The one message that `/` shows.
--
-- One row, and no more: the check on the key says so.

CREATE TABLE message (
    id   smallint PRIMARY KEY DEFAULT 1 CHECK (id = 1),
    text text     NOT NULL
);

INSERT INTO message (text) VALUES ('Hello from a clear sky.');
