//! Compressed lists to plain ones: gzip, zip and bzip2, known by their first bytes.
//!
//! The name of a list and what a server says of it are not looked at: many serve a `.gz` already
//! unpacked, or a zip as text. What unpacks to more than a list may have, or to hundreds of times
//! its size, is refused while it unpacks.

use std::{
    borrow::Cow,
    io::{self, Cursor, Read},
};

use bzip2::read::MultiBzDecoder;
use flate2::read::MultiGzDecoder;
use sekisho_rules::parse::ParseFailure;
use zip::ZipArchive;

/// How many times its own size a list may unpack to. Real lists shrink to a thirtieth at best, and
/// what shrinks to a thousandth is one letter over and over.
pub const MOST_TIMES: usize = 200;
/// Up to this many bytes, how much they shrank is not looked at.
const UNSUSPECTED: usize = 4 << 20;
/// Entries of a zip that are looked at for the list.
const MOST_ENTRIES: usize = 64;
const CHUNK: usize = 64 << 10;

/// The plain list, at most `most` bytes of it; one that is not compressed is given back.
pub fn unpack(bytes: &[u8], most: usize) -> Result<Cow<'_, [u8]>, ParseFailure> {
    match bytes {
        [0x1f, 0x8b, ..] => {
            read(MultiGzDecoder::new(bytes), bytes.len(), most, "gzip").map(Cow::Owned)
        }
        [b'B', b'Z', b'h', b'1'..=b'9', ..] => {
            read(MultiBzDecoder::new(bytes), bytes.len(), most, "bzip2").map(Cow::Owned)
        }
        [b'P', b'K', 3, 4, ..] => unzip(bytes, most).map(Cow::Owned),
        _ => Ok(Cow::Borrowed(bytes)),
    }
}

/// The only file of the archive. Of several, nobody can say which one the list is.
fn unzip(bytes: &[u8], most: usize) -> Result<Vec<u8>, ParseFailure> {
    let packed = |detail: String| ParseFailure::Packed { detail };
    let mut archive =
        ZipArchive::new(Cursor::new(bytes)).map_err(|error| packed(format!("zip: {error}")))?;
    if archive.len() > MOST_ENTRIES {
        return Err(packed(format!("zip: it has {} entries", archive.len())));
    }
    let mut files = Vec::new();
    for at in 0..archive.len() {
        let file = archive.by_index_raw(at).map_err(|error| packed(format!("zip: {error}")))?;
        if file.is_file() {
            files.push(at);
        }
    }
    let [only] = files[..] else {
        return Err(packed(format!("zip: it has {} files, and a list is one", files.len())));
    };
    let file = archive.by_index(only).map_err(|error| packed(format!("zip: {error}")))?;
    read(file, bytes.len(), most, "zip")
}

fn read(
    mut packed: impl Read,
    packed_len: usize,
    most: usize,
    what: &str,
) -> Result<Vec<u8>, ParseFailure> {
    let mut plain = Vec::new();
    let mut chunk = vec![0; CHUNK];
    loop {
        let len = match packed.read(&mut chunk) {
            Ok(0) => return Ok(plain),
            Ok(len) => len,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(damage(&error, what)),
        };
        plain.extend_from_slice(chunk.get(..len).unwrap_or_default());
        if plain.len() > most {
            return Err(ParseFailure::TooLarge { limit: most });
        }
        if plain.len() > UNSUSPECTED && plain.len() / MOST_TIMES > packed_len {
            let detail =
                format!("{packed_len} bytes of {what} unpack to more than {} bytes", plain.len());
            return Err(ParseFailure::Bomb { detail });
        }
    }
}

fn damage(error: &io::Error, what: &str) -> ParseFailure {
    if error.kind() == io::ErrorKind::UnexpectedEof {
        return ParseFailure::Truncated { detail: format!("its {what} ends early") };
    }
    ParseFailure::Packed { detail: format!("{what}: {error}") }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use bzip2::write::BzEncoder;
    use flate2::write::GzEncoder;
    use proptest::prelude::*;
    use zip::{ZipWriter, write::SimpleFileOptions};

    use super::*;

    const LIST: &[u8] = b"198.18.0.1\n198.18.0.2\n";

    fn gzip(plain: &[u8]) -> Vec<u8> {
        let mut packer = GzEncoder::new(Vec::new(), flate2::Compression::best());
        packer.write_all(plain).unwrap();
        packer.finish().unwrap()
    }

    fn bzip2(plain: &[u8]) -> Vec<u8> {
        let mut packer = BzEncoder::new(Vec::new(), bzip2::Compression::best());
        packer.write_all(plain).unwrap();
        packer.finish().unwrap()
    }

    fn zipped(files: &[(&str, &[u8])]) -> Vec<u8> {
        let mut packer = ZipWriter::new(Cursor::new(Vec::new()));
        packer.add_directory("lists/", SimpleFileOptions::default()).unwrap();
        for (name, plain) in files {
            packer.start_file(*name, SimpleFileOptions::default()).unwrap();
            packer.write_all(plain).unwrap();
        }
        packer.finish().unwrap().into_inner()
    }

    fn each(plain: &[u8]) -> [Vec<u8>; 3] {
        [gzip(plain), bzip2(plain), zipped(&[("full.csv", plain)])]
    }

    #[test]
    fn what_is_packed_comes_out_and_what_is_not_stays() {
        for packed in each(LIST) {
            assert_eq!(&*unpack(&packed, LIST.len()).unwrap(), LIST);
        }
        assert_eq!(&*unpack(LIST, LIST.len()).unwrap(), LIST);
        assert_eq!(&*unpack(b"", 0).unwrap(), b"");
        let joined = [gzip(b"198.18.0.1\n"), gzip(b"198.18.0.2\n")].concat();
        assert_eq!(&*unpack(&joined, 100).unwrap(), LIST);
    }

    #[test]
    fn one_byte_too_many_is_too_large() {
        for packed in each(LIST) {
            let failure = unpack(&packed, LIST.len() - 1).unwrap_err();
            assert_eq!(failure, ParseFailure::TooLarge { limit: LIST.len() - 1 });
        }
    }

    #[test]
    fn a_bomb_is_refused_before_it_is_unpacked() {
        for packed in each(&vec![b'\n'; 32 << 20]) {
            let failure = unpack(&packed, 128 << 20).unwrap_err();
            assert_eq!(failure.as_str(), "bomb", "{failure}");
        }
    }

    #[test]
    fn a_list_of_neighbours_one_by_one_is_no_bomb() {
        let line = |n: u32| format!("{}\n", std::net::Ipv4Addr::from(0xc612_0000 + n));
        let lines: String = (0..1 << 17).chain(0..1 << 17).chain(0..1 << 17).map(line).collect();
        assert!(lines.len() > UNSUSPECTED);
        let packed = gzip(lines.as_bytes());
        assert_eq!(unpack(&packed, 128 << 20).unwrap().len(), lines.len());
    }

    #[test]
    fn damage_anywhere_is_an_error() {
        let plain: Vec<u8> =
            (0..2_000_u32).flat_map(|n| format!("198.18.0.{n}\n").into_bytes()).collect();
        for packed in each(&plain) {
            let cut = unpack(&packed[..packed.len() / 2], 1 << 20).unwrap_err();
            assert!(matches!(cut.as_str(), "truncated" | "packed"), "{cut}");
            let mut damaged = packed.clone();
            let middle = damaged.len() / 2;
            damaged[middle] ^= 0x55;
            let failure = unpack(&damaged, 1 << 20);
            assert!(failure.is_err(), "{:?}", damaged.get(..4));
        }
    }

    #[test]
    fn an_archive_of_several_files_is_no_list() {
        let two = zipped(&[("../../evil.csv", b"x"), ("full.csv", LIST)]);
        let failure = unpack(&two, 1_000).unwrap_err();
        assert_eq!(
            failure.to_string(),
            "the list can't be unpacked: zip: it has 2 files, and a list is one"
        );
        assert_eq!(unpack(&zipped(&[]), 1_000).unwrap_err().as_str(), "packed");
    }

    proptest! {
        #[test]
        fn any_bytes_behind_a_mark_give_a_result(
            kind in 0..3_usize,
            edits in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..8),
            end in any::<prop::sample::Index>(),
        ) {
            let mut packed = each(LIST)[kind].clone();
            for (at, byte) in edits {
                let at = at.index(packed.len());
                packed[at] = byte;
            }
            packed.truncate(end.index(packed.len()) + 1);
            if let Ok(plain) = unpack(&packed, 1_000) {
                prop_assert!(plain.len() <= 1_000);
            }
        }
    }
}
