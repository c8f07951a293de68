-- A message per language, beside the one message.
--
-- Expand: 1.0.0 goes on reading and writing `message`, 2.x reads and writes `message_text`, both at
-- the same time, and English is the same text in both, whoever wrote it last. A contract step drops
-- `message` and everything below "kept the same" once no 1.0.0 is left.
--
-- What it locks: CREATE TRIGGER takes SHARE ROW EXCLUSIVE on `message`, so writers (not readers)
-- wait for the length of this transaction, which copies one row.

CREATE TABLE message_text (
    language text PRIMARY KEY CHECK (language ~ '^[a-z]{2,3}$'), -- primary subtag, RFC 5646
    text     text NOT NULL
);

-- Kept the same: `message` <-> `message_text` where language = 'en'.
--
-- Each direction only touches a row that differs, so the echo of a write finds nothing to do and the
-- two triggers do not call each other for ever.

CREATE FUNCTION message_to_text() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'DELETE' THEN
        DELETE FROM message_text WHERE language = 'en';
    ELSE
        INSERT INTO message_text AS mine (language, text) VALUES ('en', NEW.text)
        ON CONFLICT (language) DO UPDATE SET text = EXCLUDED.text
        WHERE mine.text IS DISTINCT FROM EXCLUDED.text;
    END IF;
    RETURN NULL;
END
$$;

CREATE FUNCTION text_to_message() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP <> 'INSERT' AND OLD.language = 'en' AND (TG_OP = 'DELETE' OR NEW.language <> 'en') THEN
        DELETE FROM message;
    END IF;
    IF TG_OP <> 'DELETE' AND NEW.language = 'en' THEN
        INSERT INTO message AS mine (id, text) VALUES (1, NEW.text)
        ON CONFLICT (id) DO UPDATE SET text = EXCLUDED.text
        WHERE mine.text IS DISTINCT FROM EXCLUDED.text;
    END IF;
    RETURN NULL;
END
$$;

-- A writer of `message` locks its row first and the row of `message_text` second. A writer of
-- `message_text` must take them in the same order, or two of them could wait for each other.
CREATE FUNCTION message_before_text() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM 1 FROM message FOR UPDATE;
    RETURN NULL;
END
$$;

CREATE TRIGGER message_to_text AFTER INSERT OR UPDATE OR DELETE ON message
    FOR EACH ROW EXECUTE FUNCTION message_to_text();
CREATE TRIGGER message_before_text BEFORE INSERT OR UPDATE OR DELETE ON message_text
    FOR EACH STATEMENT EXECUTE FUNCTION message_before_text();
CREATE TRIGGER text_to_message AFTER INSERT OR UPDATE OR DELETE ON message_text
    FOR EACH ROW EXECUTE FUNCTION text_to_message();

-- The copy comes after the triggers: from here on no write to `message` can be missed.
INSERT INTO message_text (language, text) SELECT 'en', text FROM message;
INSERT INTO message_text (language, text) VALUES ('fr', 'Bonjour d''un ciel serein.');
