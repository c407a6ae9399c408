-- What coordinators share, sealed with a key that is not here. With SQLite there is one coordinator, which has files.
CREATE TABLE secrets (
    name TEXT PRIMARY KEY,
    sealed TEXT NOT NULL
);

-- When any coordinator heard a node last, by the database's own clock: who is silent at one may be heard by another.
CREATE TABLE node_hearings (
    node_id TEXT PRIMARY KEY,
    heard_at BIGINT NOT NULL
);
