//! The API of the coordinator as types and a client; offline token verification.
