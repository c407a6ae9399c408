//! What one connection may cost.
use std::time::Duration;

/// The bounds of a connection. The defaults carry every publisher known and stop every hostile one.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Bytes of one message before its sender may publish: commands have a few hundred.
    pub message_bytes_before_publish: usize,
    /// Bytes of one message of a publisher: a keyframe of 8 Mbit/s video has about 500 kB.
    pub message_bytes: usize,
    /// Chunk streams in use at once; encoders use three to six.
    pub chunk_streams: usize,
    /// Bytes of messages that have begun and not ended, over all chunk streams.
    pub partial_bytes: usize,
    /// Bytes of answers that wait to be sent: a peer that reads none of them is not a publisher.
    pub output_bytes: usize,
    /// Commands before its sender may publish; encoders send five to seven.
    pub commands_before_publish: usize,
    /// From the first byte to the end of the handshake.
    pub handshake_timeout: Duration,
    /// From the end of the handshake to an accepted publish.
    pub publish_timeout: Duration,
    /// Between two bytes of a publisher.
    pub idle_timeout: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            message_bytes_before_publish: 64 << 10,
            message_bytes: 4 << 20,
            chunk_streams: 16,
            partial_bytes: 6 << 20,
            output_bytes: 64 << 10,
            commands_before_publish: 256,
            handshake_timeout: Duration::from_secs(5),
            publish_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(15),
        }
    }
}
