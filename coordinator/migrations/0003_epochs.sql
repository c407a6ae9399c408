-- Who publishes a class: the one with the greatest epoch. Each that is let in has a greater one than those before.
CREATE TABLE stream_epochs (
    class_id TEXT PRIMARY KEY REFERENCES classes (id),
    epoch BIGINT NOT NULL,
    session_id TEXT NOT NULL
);
