-- Times are milliseconds since 1970. Types and placeholders are those that SQLite and PostgreSQL share.
CREATE TABLE classes (
    id TEXT PRIMARY KEY,
    slug TEXT NOT NULL UNIQUE,
    name TEXT NOT NULL,
    pin_hash TEXT,
    created_at BIGINT NOT NULL
);

-- Of a key only the hash is kept: whoever reads the database cannot publish.
CREATE TABLE stream_keys (
    id TEXT PRIMARY KEY,
    class_id TEXT NOT NULL REFERENCES classes (id),
    secret_hash TEXT NOT NULL UNIQUE,
    created_at BIGINT NOT NULL,
    revoked_at BIGINT
);

CREATE TABLE stream_sessions (
    session_id TEXT PRIMARY KEY,
    class_id TEXT NOT NULL REFERENCES classes (id),
    node_id TEXT NOT NULL,
    kind TEXT NOT NULL,
    status TEXT NOT NULL CHECK (status IN ('starting', 'active', 'stopping', 'stopped')),
    publisher_ip TEXT NOT NULL,
    encoder TEXT NOT NULL,
    video_codec TEXT,
    audio_codec TEXT,
    width BIGINT,
    height BIGINT,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    ended_at BIGINT,
    error_message TEXT,
    camera_id TEXT,
    pipeline_id TEXT,
    rtp_endpoint_id TEXT,
    webrtc_endpoint_id TEXT,
    stream_id TEXT
);
CREATE INDEX stream_sessions_open ON stream_sessions (node_id, ended_at);

CREATE TABLE viewer_sessions (
    viewer_id TEXT PRIMARY KEY,
    stream_session_id TEXT NOT NULL REFERENCES stream_sessions (session_id),
    webrtc_endpoint_id TEXT,
    node_id TEXT NOT NULL,
    user_id TEXT NOT NULL,
    role TEXT NOT NULL,
    user_agent TEXT NOT NULL,
    ip_address TEXT NOT NULL,
    joined_at BIGINT NOT NULL,
    connected_at BIGINT,
    disconnected_at BIGINT,
    reason TEXT,
    bytes BIGINT,
    packets BIGINT,
    packets_lost BIGINT
);
CREATE INDEX viewer_sessions_open ON viewer_sessions (node_id, disconnected_at);
