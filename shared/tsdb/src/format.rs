//! What the files of a block have in common: big-endian numbers, LEB128, CRC32-Castagnoli, and one error for all of them.

use farview_model::ErrorKind;
use std::fmt;

/// A part of a block, for messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Section {
    /// The first bytes of an index.
    IndexHead,
    /// The table of contents at the end of an index.
    Toc,
    /// The texts of an index.
    Symbols,
    /// The series of an index.
    Series,
    /// A list of series references.
    Postings,
    /// The table that says where the list of each label value is.
    PostingsOffsets,
    /// The local copy of the parts of an index that are needed always.
    IndexHeader,
    /// A file of chunks.
    Segment,
    /// What was deleted from a block but is still in it.
    Tombstones,
}

impl fmt::Display for Section {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::IndexHead => "index head",
            Self::Toc => "index table of contents",
            Self::Symbols => "index symbols",
            Self::Series => "index series",
            Self::Postings => "index postings",
            Self::PostingsOffsets => "index postings offset table",
            Self::IndexHeader => "index header",
            Self::Segment => "chunk segment",
            Self::Tombstones => "tombstones",
        })
    }
}

/// Why the bytes of a block cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{section} at byte {offset}: {fault}")]
pub struct FormatError {
    /// In which part.
    pub section: Section,
    /// Where: counted from the first of the bytes that were given, unless whoever gave them has called
    /// [`FormatError::based`].
    pub offset: u64,
    /// What is wrong.
    pub fault: FormatFault,
}

/// What is wrong with the bytes of a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FormatFault {
    /// The bytes given end too early. Whoever gave a range of an object may come again with a longer one.
    #[error("the bytes end where at least {0} more are needed")]
    Truncated(u64),
    /// The checksum is another one.
    #[error("the checksum is {stored:08x}, the bytes have {computed:08x}")]
    Checksum {
        /// What is written.
        stored: u32,
        /// What the bytes give.
        computed: u32,
    },
    /// A field has a value that cannot be.
    #[error("{0}")]
    Malformed(&'static str),
    /// The format has a version that this program does not know.
    #[error("version {0} is not known")]
    Version(u8),
}

impl FormatError {
    pub(crate) fn malformed(section: Section, offset: usize, reason: &'static str) -> Self {
        Self { section, offset: offset as u64, fault: FormatFault::Malformed(reason) }
    }

    pub(crate) fn truncated(section: Section, offset: usize, more: usize) -> Self {
        Self { section, offset: offset as u64, fault: FormatFault::Truncated(more as u64) }
    }

    /// Counts the offset from the beginning of the object, of which the bytes given were those from `base` on.
    pub fn based(self, base: u64) -> Self {
        Self { offset: self.offset.saturating_add(base), ..self }
    }

    /// Tells whether a longer range of the same object may be read.
    pub fn is_truncated(&self) -> bool {
        matches!(self.fault, FormatFault::Truncated(_))
    }

    /// Returns what the caller can do: say so, the data are corrupt.
    pub fn kind(&self) -> ErrorKind {
        ErrorKind::Corrupt
    }
}

/// The checksum of everything in a block.
pub(crate) fn crc32c(bytes: &[u8]) -> u32 {
    crc_fast::checksum(crc_fast::CrcAlgorithm::Crc32Iscsi, bytes) as u32
}

/// Reads fields one after the other; every error knows the section and the offset.
#[derive(Debug, Clone)]
pub(crate) struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
    section: Section,
}

impl<'a> Cursor<'a> {
    pub(crate) fn new(section: Section, bytes: &'a [u8], at: usize) -> Self {
        Self { bytes, at, section }
    }

    pub(crate) fn at(&self) -> usize {
        self.at
    }

    pub(crate) fn left(&self) -> usize {
        self.bytes.len().saturating_sub(self.at)
    }

    pub(crate) fn malformed(&self, reason: &'static str) -> FormatError {
        FormatError::malformed(self.section, self.at, reason)
    }

    #[inline]
    pub(crate) fn take(&mut self, count: usize) -> Result<&'a [u8], FormatError> {
        match self.bytes.get(self.at..).and_then(|rest| rest.get(..count)) {
            Some(taken) => {
                self.at += count;
                Ok(taken)
            }
            None => Err(self.truncated(count)),
        }
    }

    #[cold]
    fn truncated(&self, count: usize) -> FormatError {
        FormatError::truncated(self.section, self.at, count - self.left())
    }

    pub(crate) fn u8(&mut self) -> Result<u8, FormatError> {
        Ok(self.take(1)?[0])
    }

    pub(crate) fn u32(&mut self) -> Result<u32, FormatError> {
        Ok(u32::from_be_bytes(self.take(4)?.try_into().expect("four bytes were taken")))
    }

    pub(crate) fn u64(&mut self) -> Result<u64, FormatError> {
        Ok(u64::from_be_bytes(self.take(8)?.try_into().expect("eight bytes were taken")))
    }

    /// Reads an unsigned LEB128 number. One byte is usual; the lengths of others vary without a pattern, and of up to eight bytes
    /// the end is found and the sevens are joined without a branch.
    #[inline]
    pub(crate) fn uvarint(&mut self) -> Result<u64, FormatError> {
        const HIGH: u64 = 0x8080_8080_8080_8080;
        if let Some(byte) = self.bytes.get(self.at).filter(|byte| **byte < 0x80) {
            self.at += 1;
            return Ok(u64::from(*byte));
        }
        if let Some(eight) = self.bytes.get(self.at..).and_then(|rest| rest.first_chunk::<8>()) {
            let word = u64::from_le_bytes(*eight);
            let ends = !word & HIGH;
            if ends != 0 {
                let bits = ends.trailing_zeros() + 1;
                self.at += bits as usize / 8;
                return Ok(join_sevens(word & (u64::MAX >> (64 - bits)) & !HIGH));
            }
        }
        self.bytewise_uvarint()
    }

    fn bytewise_uvarint(&mut self) -> Result<u64, FormatError> {
        let mut value = 0u64;
        for (i, byte) in self.bytes.get(self.at..).unwrap_or_default().iter().take(10).enumerate() {
            value |= u64::from(byte & 0x7f) << (7 * i);
            if *byte < 0x80 && (i < 9 || *byte < 2) {
                self.at += i + 1;
                return Ok(value);
            }
        }
        Err(self.no_uvarint())
    }

    /// Says why there is no number here.
    #[cold]
    fn no_uvarint(&self) -> FormatError {
        match self.left() {
            0..10 => FormatError::truncated(self.section, self.bytes.len(), 1),
            _ => self.malformed("a number has more than 64 bits"),
        }
    }

    #[inline]
    pub(crate) fn varint(&mut self) -> Result<i64, FormatError> {
        let value = self.uvarint()?;
        Ok((value >> 1) as i64 ^ -((value & 1) as i64))
    }

    /// Reads a number that counts something in memory.
    #[inline]
    pub(crate) fn size(&mut self) -> Result<usize, FormatError> {
        usize::try_from(self.uvarint()?).map_err(|_| self.malformed("a number is too large"))
    }

    /// Reads a length and as many bytes.
    #[inline]
    pub(crate) fn prefixed(&mut self) -> Result<&'a [u8], FormatError> {
        let len = self.size()?;
        self.take(len)
    }

    /// Reads a length and a text of as many bytes.
    pub(crate) fn text(&mut self) -> Result<&'a str, FormatError> {
        let at = self.at;
        let bytes = self.prefixed()?;
        std::str::from_utf8(bytes).map_err(|_| FormatError::malformed(self.section, at, "a text is not UTF-8"))
    }

    /// Reads the checksum of `content`.
    pub(crate) fn checksum_of(&mut self, content: &[u8]) -> Result<(), FormatError> {
        let at = self.at;
        let (stored, computed) = (self.u32()?, crc32c(content));
        if stored == computed {
            return Ok(());
        }
        Err(FormatError { section: self.section, offset: at as u64, fault: FormatFault::Checksum { stored, computed } })
    }
}

/// Joins the low seven bits of eight bytes, the lowest first.
#[inline]
fn join_sevens(bytes: u64) -> u64 {
    let pairs = bytes & 0x007f_007f_007f_007f | (bytes & 0x7f00_7f00_7f00_7f00) >> 1;
    let fours = pairs & 0x0000_3fff_0000_3fff | (pairs & 0x3fff_0000_3fff_0000) >> 2;
    fours & 0x0fff_ffff | (fours & 0x0fff_ffff_0000_0000) >> 4
}

/// Takes a frame of four bytes length, content, and checksum of the content from the beginning of `bytes`, and checks it;
/// the content begins at byte 4.
pub(crate) fn framed(section: Section, bytes: &[u8]) -> Result<&[u8], FormatError> {
    let mut cursor = Cursor::new(section, bytes, 0);
    let len = cursor.u32()? as usize;
    if cursor.left() < len + 4 {
        return Err(FormatError::truncated(section, bytes.len(), len + 4 - cursor.left()));
    }
    let content = cursor.take(len)?;
    cursor.checksum_of(content)?;
    Ok(content)
}

pub(crate) fn put_uvarint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_again_wherever_they_lie() {
        let shifts = (0..64)
            .flat_map(|shift| [1u64 << shift, (1u64 << shift) - 1, u64::MAX >> shift, 0x5a5a_5a5a_5a5a_5a5a >> shift]);
        for number in shifts {
            let mut bytes = vec![];
            put_uvarint(&mut bytes, number);
            let len = bytes.len();
            for rest in [0, 1, 7, 12] {
                bytes.resize(len + rest, 0xff);
                let mut cursor = Cursor::new(Section::Series, &bytes, 0);
                assert_eq!((cursor.uvarint(), cursor.at()), (Ok(number), len), "{number} and {rest} bytes more");
            }
            for cut in 0..len {
                let error = Cursor::new(Section::Series, &bytes[..cut], 0).uvarint().unwrap_err();
                assert!(error.is_truncated(), "{number} cut at {cut}");
            }
        }
        for long in [[0xff; 10], [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2]] {
            let error = Cursor::new(Section::Series, &long, 0).uvarint().unwrap_err();
            assert!(!error.is_truncated());
        }
    }
}
