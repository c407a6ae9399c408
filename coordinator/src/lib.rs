//! Classes, keys, tokens, the stream directory and the web application.
