//! One RTMP connection, seen from the server, as a machine without sockets or clock.
