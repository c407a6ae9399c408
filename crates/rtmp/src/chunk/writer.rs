//! Messages into chunks. Every message goes out whole, with a full header, before the next begins: publishers on phones
//! read nothing else.
use super::{DEFAULT_SIZE, EXTENDED};

/// Writes messages with timestamp 0, as all of a server's answers have.
#[derive(Debug)]
pub(crate) struct Writer {
    size: usize,
}

impl Default for Writer {
    fn default() -> Self {
        Self { size: DEFAULT_SIZE }
    }
}

impl Writer {
    pub(crate) fn set_size(&mut self, size: usize) {
        self.size = size.max(1);
    }

    /// Appends one message on chunk stream `id`, which is below 64.
    pub(crate) fn write(&self, id: u8, kind: u8, stream: u32, body: &[u8], out: &mut Vec<u8>) {
        let len = u32::try_from(body.len()).unwrap_or(EXTENDED).min(EXTENDED);
        let [_, l0, l1, l2] = len.to_be_bytes();
        out.extend_from_slice(&[id & 0x3f, 0, 0, 0, l0, l1, l2, kind]);
        out.extend_from_slice(&stream.to_le_bytes());
        for (index, part) in body.chunks(self.size).enumerate() {
            if index > 0 {
                out.push(0xc0 | (id & 0x3f));
            }
            out.extend_from_slice(part);
        }
    }
}
