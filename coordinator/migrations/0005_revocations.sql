-- Tokens that are void before they expire. Times are seconds since 1970, as tokens have them. `subject` is the token's number, the user
-- or the key; `class` that of a user's or a class's tokens. Rows are dropped when `good_until` is over.
CREATE TABLE revocations (
    kind TEXT NOT NULL CHECK (kind IN ('token', 'user', 'class', 'key')),
    class TEXT NOT NULL,
    subject TEXT NOT NULL,
    issued_until BIGINT NOT NULL,
    good_until BIGINT NOT NULL,
    PRIMARY KEY (kind, class, subject)
);
