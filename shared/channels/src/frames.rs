//! Counting gRPC messages as they pass, without decoding them.

/// Follows the length prefixes of a gRPC body (gRPC over HTTP/2: one flag byte, four bytes of big-endian length) over any cut of
/// the bytes.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct FrameCounter {
    header: [u8; 5],
    have: usize,
    skip: usize,
}

impl FrameCounter {
    /// Takes in the next bytes and returns how many messages were completed.
    pub(crate) fn feed(&mut self, mut bytes: &[u8]) -> u64 {
        let mut completed = 0;
        loop {
            let skipped = self.skip.min(bytes.len());
            bytes = &bytes[skipped..];
            self.skip -= skipped;
            if self.have == 5 {
                if self.skip > 0 {
                    return completed;
                }
                completed += 1;
                self.have = 0;
            }
            if bytes.is_empty() {
                return completed;
            }
            let taken = (5 - self.have).min(bytes.len());
            self.header[self.have..self.have + taken].copy_from_slice(&bytes[..taken]);
            self.have += taken;
            bytes = &bytes[taken..];
            if self.have < 5 {
                return completed;
            }
            let [_, a, b, c, d] = self.header;
            self.skip = u32::from_be_bytes([a, b, c, d]) as usize;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_counted_over_any_cut() {
        let mut bytes = Vec::new();
        for length in [0_u32, 1, 300, 0, 5] {
            bytes.push(0);
            bytes.extend(length.to_be_bytes());
            bytes.extend(vec![7; length as usize]);
        }
        for cut in 1..bytes.len() {
            let mut counter = FrameCounter::default();
            let count: u64 = bytes.chunks(cut).map(|piece| counter.feed(piece)).sum();
            assert_eq!(count, 5, "cut into pieces of {cut}");
        }
        let mut counter = FrameCounter::default();
        assert_eq!(counter.feed(&bytes[..bytes.len() - 1]), 4, "the last message is not complete");
    }
}
