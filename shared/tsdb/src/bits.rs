//! Bits, highest first, as Prometheus' chunk encodings write them (`tsdb/chunkenc/bstream.go`).

/// Reads bits from a slice. Up to 56 bits are peeked at once from one 64-bit load, which is what makes decoding fast.
#[derive(Debug, Clone)]
pub(crate) struct BitReader<'a> {
    bytes: &'a [u8],
    /// Position in bits.
    at: usize,
}

/// The data end before the value does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct EndOfData;

impl<'a> BitReader<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    /// Returns the position in bytes, for messages.
    pub(crate) fn offset(&self) -> usize {
        self.at / 8
    }

    /// Returns how many bits are left.
    pub(crate) fn left(&self) -> usize {
        (self.bytes.len() * 8).saturating_sub(self.at)
    }

    /// Returns the next 56 bits or more at the top of a word; zeros beyond the end.
    #[inline(always)]
    pub(crate) fn peek(&self) -> u64 {
        let byte = self.at >> 3;
        let word = match self.bytes.get(byte..byte + 8) {
            Some(eight) => u64::from_be_bytes(eight.try_into().expect("eight bytes were taken")),
            None => self.peek_tail(byte),
        };
        word << (self.at & 7)
    }

    #[cold]
    fn peek_tail(&self, byte: usize) -> u64 {
        let mut eight = [0; 8];
        if let Some(rest) = self.bytes.get(byte..) {
            let len = rest.len().min(8);
            eight[..len].copy_from_slice(&rest[..len]);
        }
        u64::from_be_bytes(eight)
    }

    /// Goes on by `bits`.
    #[inline(always)]
    pub(crate) fn skip(&mut self, bits: usize) -> Result<(), EndOfData> {
        self.at += bits;
        if self.at <= self.bytes.len() * 8 { Ok(()) } else { Err(EndOfData) }
    }

    /// Reads up to 64 bits as a number.
    #[inline(always)]
    pub(crate) fn bits(&mut self, count: usize) -> Result<u64, EndOfData> {
        debug_assert!(count <= 64);
        if count == 0 {
            return Ok(0);
        }
        if count <= 56 {
            let value = self.peek() >> (64 - count);
            self.skip(count)?;
            return Ok(value);
        }
        let high = self.peek() >> 32;
        self.skip(32)?;
        let low = self.peek() >> (64 - (count - 32));
        self.skip(count - 32)?;
        Ok(high << (count - 32) | low)
    }

    /// Reads an unsigned LEB128 number, whose bytes need not be aligned.
    pub(crate) fn uvarint(&mut self) -> Result<u64, EndOfData> {
        let mut value = 0u64;
        for shift in (0..70).step_by(7) {
            let byte = self.bits(8)?;
            if shift < 64 {
                value |= (byte & 0x7f) << shift;
            }
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(EndOfData)
    }

    /// Reads a zigzag LEB128 number.
    pub(crate) fn varint(&mut self) -> Result<i64, EndOfData> {
        let value = self.uvarint()?;
        Ok((value >> 1) as i64 ^ -((value & 1) as i64))
    }
}

/// Writes bits to a growing buffer.
#[derive(Debug, Clone, Default)]
pub(crate) struct BitWriter {
    bytes: Vec<u8>,
    /// Free bits in the last byte.
    free: u32,
}

impl BitWriter {
    pub(crate) fn new(bytes: Vec<u8>) -> Self {
        Self { bytes, free: 0 }
    }

    pub(crate) fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }

    /// Writes the lowest `count` bits of `value`.
    pub(crate) fn bits(&mut self, value: u64, count: u32) {
        let mut left = count;
        while left > 0 {
            if self.free == 0 {
                self.bytes.push(0);
                self.free = 8;
            }
            let take = left.min(self.free);
            let part = value >> (left - take) & ((1u64 << take) - 1);
            let last = self.bytes.last_mut().expect("a byte was pushed");
            *last |= (part << (self.free - take)) as u8;
            self.free -= take;
            left -= take;
        }
    }

    pub(crate) fn uvarint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.bits(value & 0x7f | 0x80, 8);
            value >>= 7;
        }
        self.bits(value, 8);
    }

    pub(crate) fn varint(&mut self, value: i64) {
        self.uvarint((value << 1 ^ value >> 63) as u64);
    }
}
